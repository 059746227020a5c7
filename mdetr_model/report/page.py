"""The report as one HTML page without references to other files."""

from mdetr_model.report.curve_chart import loss_chart, recall_chart
from mdetr_model.report.figures import grounding_figures, word_change_figures
from mdetr_model.report.model_report import ModelReport
from shards.format.source_counts import total
from shards.inspection.rendering import render
from shards.inspection.report import charts, flow
from shards.inspection.report.flow import flow_diagram
from shards.inspection.summary import SPLIT_ROWS, summarize
from shards.reading.reader import ShardReader
from shards.reading.tables import read_tables

GENERATOR = "mdetr"


def render_page(report: ModelReport) -> str:
    """Returns the page as HTML.

    Raises:
        ShardError: a table of the shard set is missing or damaged. An image that cannot be read is
            shown as an error.
    """
    shards, metrics, reader = report.shards, report.results.metrics, ShardReader(report.shards)
    summary = summarize(shards.manifest, read_tables(shards))
    return render(
        "model_report.html",
        "mdetr_model.report",
        generator=GENERATOR,
        report=report,
        summary=summary,
        recalls={"this model": metrics.recall, **report.baselines},
        protocols={"ANY-BOX": metrics.any_box, "MERGED-BOXES": metrics.merged_boxes},
        curves=[loss_chart(report.curve), recall_chart(report.curve, report.best_baseline)],
        chart_layout=charts,
        figures=grounding_figures(report.results.captions, reader),
        word_changes=word_change_figures(report.word_changes, reader),
        split_rows=SPLIT_ROWS,
        total=total(shards.manifest.sources.values()),
        flow=flow_diagram(shards.manifest.sources, summary.splits),
        flow_layout=flow,
    )
