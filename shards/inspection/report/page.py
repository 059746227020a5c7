"""Writes the report: its sections, and the values that ``templates/report.html`` shows."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from shards.format.source_counts import SourceCounts, total
from shards.format.stats import DatasetStats, Histogram, Stats
from shards.inspection.html_file import check_html_file, write_html_file
from shards.inspection.recipe import datasets_by_source, max_caption_length
from shards.inspection.rendering import render
from shards.inspection.report import charts, flow
from shards.inspection.report.charts import Chart, Measure, bar_charts
from shards.inspection.report.flow import flow_diagram
from shards.inspection.report.gallery import Gallery, GalleryImage
from shards.inspection.summary import (
    SPLIT_ROWS,
    ExclusionCount,
    RejectionCount,
    ShardSetSummary,
    SplitSummary,
    absent_phrases,
    exclusions_by_namespace,
    summarize,
)
from shards.reading.shard_set import ShardSet
from shards.reading.tables import read_tables

_GENERATOR = "mdetr-shards"
#: The histograms of a split: what they measure, their field of `Stats`, and the field of
#: `SplitSummary` with their mean (ratios are shown in percent).
SPLIT_MEASURES = [
    (
        Measure("Characters per caption", "characters", "captions"),
        "caption_characters",
        "characters_per_caption",
    ),
    (Measure("Words per caption", "words", "captions"), "words_per_caption", "words_per_caption"),
    (
        Measure("Sentences per caption", "sentences", "captions"),
        "sentences_per_caption",
        "sentences_per_caption",
    ),
    (Measure("Boxes per caption", "boxes", "captions"), "boxes_per_caption", "boxes_per_caption"),
    (
        Measure("Captions per image", "captions", "images"),
        "captions_per_image",
        "captions_per_image",
    ),
    (
        Measure("Box area", "% of the image", "boxes", continuous=True),
        "box_area_percent",
        "box_area",
    ),
    (
        Measure("Box shape", "width / (width + height), %", "boxes", continuous=True),
        "box_width_percent",
        "box_width",
    ),
]
DATASET_MEASURES = [
    (Measure("Characters per sentence", "characters", "sentences"), "sentence_characters"),
    (Measure("Boxes per sentence", "boxes", "sentences"), "boxes_per_sentence"),
    (Measure("Box area", "% of the image", "boxes", continuous=True), "box_area_percent"),
]


class DatasetSection(NamedTuple):
    """A published dataset: its counts in each split, charts over all splits, and images."""

    name: str
    splits: dict[str, DatasetStats]
    charts: list[Chart]
    images: list[GalleryImage]


class SourceSection(NamedTuple):
    """A source of the recipe: its record counts and its datasets.

    ``excluded`` counts the images whose keys are in the source's namespace; GQA has none.
    """

    name: str
    counts: SourceCounts | None
    excluded: list[ExclusionCount]
    rejected: list[RejectionCount]
    datasets: list[DatasetSection]


def write_report(shards: ShardSet, path: Path) -> None:
    """Writes the report to an HTML file; replaces only a report.

    Raises:
        ShardError: a table of the set is missing or damaged. Damaged samples are shown as errors.
        OSError: the file cannot be written, or is not a report.
    """
    check_html_file(path, _GENERATOR)
    write_html_file(path, render_report(shards), _GENERATOR)


def render_report(shards: ShardSet) -> str:
    """Returns the report as HTML.

    Raises:
        ShardError: a table of the set is missing or damaged.
    """
    manifest, tables, gallery = shards.manifest, read_tables(shards), Gallery(shards)
    summary = summarize(manifest, tables)
    max_length = max_caption_length(manifest.recipe)
    return render(
        "report.html",
        generator=_GENERATOR,
        chart_layout=charts,
        flow_layout=flow,
        summary=summary,
        manifest=manifest,
        split_rows=SPLIT_ROWS,
        absent=absent_phrases(summary),
        sources=manifest.sources,
        total=total(manifest.sources.values()),
        sentences=sum(split.sentences for split in summary.splits.values()),
        flow=flow_diagram(manifest.sources, summary.splits),
        chart_rows=_split_charts(summary, tables.stats, max_length),
        gallery=gallery,
        images=gallery.overall(),
        sections=_source_sections(
            summary, manifest.recipe, exclusions_by_namespace(tables.excluded), gallery
        ),
    )


def _split_charts(
    summary: ShardSetSummary, stats: dict[str, Stats], max_length: int | None
) -> list[list[Chart]]:
    """Returns, for every measure, a chart per split."""
    if not stats:
        return []
    rows = []
    for measure, field, mean_field in SPLIT_MEASURES:
        histograms = {name: getattr(split, field) for name, split in stats.items()}
        scale = 100 if measure.continuous else 1
        means = {name: _mean(split, mean_field, scale) for name, split in summary.splits.items()}
        limit = max_length if field == "caption_characters" else None
        rows.append(bar_charts(measure, histograms, means, limit))
    return rows


def _mean(split: SplitSummary, field: str, scale: int) -> float | None:
    value: float | None = getattr(split, field)
    return None if value is None else value * scale


def _source_sections(
    summary: ShardSetSummary,
    recipe: dict[str, Any],
    excluded: dict[str, list[ExclusionCount]],
    gallery: Gallery,
) -> list[SourceSection]:
    """Returns a section per source; a dataset without a known source has a separate section."""
    source_of = {
        dataset: source
        for source, datasets in datasets_by_source(recipe).items()
        for dataset in datasets
    }
    datasets_of: dict[str, list[str]] = {source: [] for source in summary.sources}
    for dataset in sorted({name for split in summary.splits.values() for name in split.datasets}):
        datasets_of.setdefault(source_of.get(dataset, dataset), []).append(dataset)
    return [
        SourceSection(
            name=source,
            counts=summary.sources.get(source),
            excluded=excluded.get(source, []),
            rejected=[count for count in summary.rejected if count.source == source],
            datasets=[_dataset_section(name, summary, gallery) for name in datasets],
        )
        for source, datasets in datasets_of.items()
    ]


def _dataset_section(name: str, summary: ShardSetSummary, gallery: Gallery) -> DatasetSection:
    splits = {
        split_name: split.datasets[name]
        for split_name, split in summary.splits.items()
        if name in split.datasets
    }
    dataset_charts = []
    for measure, field in DATASET_MEASURES:
        histogram = _merge_histograms(getattr(stats, field) for stats in splits.values())
        title = measure.name
        dataset_charts += bar_charts(measure, {title: histogram}, {title: histogram.mean()})
    return DatasetSection(name, splits, dataset_charts, gallery.for_dataset(name))


def _merge_histograms(histograms: Iterable[Histogram]) -> Histogram:
    first, *others = histograms
    merged = Histogram(first.width, dict(first.bins), first.total)
    for other in others:
        merged.merge(other)
    return merged
