"""``mdetr report``: writes the page and prints the summary."""

from pathlib import Path

from mdetr_model.report.model_report import read_report
from mdetr_model.report.page import GENERATOR, render_page
from mdetr_model.report.summary import summary_text
from shards.inspection.html_file import check_html_file, write_html_file


def write_report(training: Path, location: str, split: str, evaluation: Path, output: Path) -> None:
    """Writes the page about a run to an HTML file, and prints the summary.

    Args:
        training: folder of the run.
        location: folder or URL of the shard set that was evaluated.
        split: of the shard set.
        evaluation: folder of the results of ``mdetr evaluate grounding``.
        output: the HTML file, which is replaced if it is such a page.

    Raises:
        OSError: a file is missing, or the page cannot be written.
        ValueError: a file is not what it should be, or the results are not of this split.
        ShardError: a shard or a table of the set cannot be read.
    """
    check_html_file(output, GENERATOR)
    report = read_report(training, location, split, evaluation)
    write_html_file(output, render_page(report), GENERATOR)
    print(summary_text(report, output))
