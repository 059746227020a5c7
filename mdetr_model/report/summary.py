"""The report as a few lines of text."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

from mdetr_model.report.model_report import ModelReport
from shards.terminal import count_noun, printable

LABEL_WIDTH, LINE_WIDTH = 18, 100


def summary_text(report: ModelReport, page: Path) -> str:
    """Returns at most 15 lines: what was trained, how good it is, and where the page is."""
    return "\n".join(map(printable, _lines(report, page)))


def _lines(report: ModelReport, page: Path) -> Iterator[str]:
    curve, results, manifest = report.curve, report.results, report.shards.manifest
    splits = dict.fromkeys(entry.split for entry in manifest.shards)
    images = {
        split: sum(entry.images for entry in manifest.shards if entry.split == split)
        for split in splits
    }
    phrases = count_noun(results.metrics.phrases, "phrase")
    pairs = count_noun(len(report.word_changes), "pair")
    yield _line("images", ", ".join(f"{count:,} {split}" for split, count in images.items()))
    yield _line("training", f"{curve.samples:,} samples in {curve.minutes:.1f} minutes")
    yield _line(
        "evaluation", f"{phrases} in {count_noun(results.images, 'image')} of {report.split}"
    )
    yield _line("recall@1", f"{results.metrics.recall:.3f} this model")
    for baseline, value in report.baselines.items():
        yield _line("", f"{value:.3f} {baseline}")
    yield _line("one word changed", f"{report.right_word_changes} of {pairs} with both boxes right")
    yield _line("page", str(page))
    if report.advice is not None:
        yield ""
        warning = f"warning: this model {report.verdict.value}: {report.advice}"
        yield from textwrap.wrap(warning, LINE_WIDTH)


def _line(label: str, text: str) -> str:
    return f"{label:<{LABEL_WIDTH}}{text}"
