"""``python -m shards stats --html``: a shard set on one page that needs nothing beside itself."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from shards.atomic import atomic_write
from shards.format.source_counts import SourceCounts, total
from shards.format.stats import DatasetStats, Histogram, Stats
from shards.inspection.charts import Chart, Measure, charts
from shards.inspection.contents import (
    Contents,
    ExcludedImages,
    RejectedRecords,
    SplitContents,
    contents_of,
    excluded_by_namespace,
)
from shards.inspection.contents_table import MEASURES
from shards.inspection.flow import flow
from shards.inspection.gallery import Exhibit, Gallery
from shards.inspection.recipe import datasets_of_sources, max_length
from shards.inspection.set_tables import read_tables
from shards.inspection.templates import render
from shards.reading.shard_set import ShardSet

#: The histograms of a split: what they count, their field, and where `SplitContents` has their
#: mean (shares of 1 are shown in percent).
SPLIT_MEASURES = [
    (
        Measure("Characters of a caption", "characters", "captions"),
        "caption_characters",
        "characters_per_caption",
    ),
    (Measure("Words of a caption", "words", "captions"), "words_per_caption", "words_per_caption"),
    (
        Measure("Sentences of a caption", "sentences", "captions"),
        "sentences_per_caption",
        "sentences_per_caption",
    ),
    (Measure("Boxes of a caption", "boxes", "captions"), "boxes_per_caption", "boxes_per_caption"),
    (
        Measure("Captions of an image", "captions", "images"),
        "captions_per_image",
        "captions_per_image",
    ),
    (
        Measure("Area of a box", "% of the image", "boxes", continuous=True),
        "box_area_percent",
        "box_area",
    ),
    (
        Measure("Shape of a box", "width / (width + height), %", "boxes", continuous=True),
        "box_width_percent",
        "box_width",
    ),
]
DATASET_MEASURES = [
    (Measure("Characters of a sentence", "characters", "sentences"), "sentence_characters"),
    (Measure("Boxes of a sentence", "boxes", "sentences"), "boxes_per_sentence"),
    (Measure("Area of a box", "% of the image", "boxes", continuous=True), "box_area_percent"),
]


class DatasetSection(NamedTuple):
    """A published data set: its counts in each split, charts over all of them, and images."""

    name: str
    splits: dict[str, DatasetStats]
    charts: list[Chart]
    images: list[Exhibit]


class SourceSection(NamedTuple):
    """A source of the recipe: what became of its records, and the data sets that it is read for.

    ``excluded`` are images under its own keys; GQA, for one, has none.
    """

    name: str
    records: SourceCounts | None
    excluded: list[ExcludedImages]
    rejected: list[RejectedRecords]
    datasets: list[DatasetSection]


def write_report(shards: ShardSet, path: Path) -> None:
    """Writes the page, complete or not at all.

    Raises:
        ShardError: a table of the set is missing or damaged. Damaged samples are shown as such.
        OSError: the file cannot be written.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, where a page is to be written")
    page = report(shards)
    with atomic_write(path) as file:
        file.write(page.encode())


def report(shards: ShardSet) -> str:
    """The page, as HTML.

    Raises:
        ShardError: a table of the set is missing or damaged.
    """
    manifest, tables, gallery = shards.manifest, read_tables(shards), Gallery(shards)
    found = contents_of(manifest, tables)
    return render(
        "report.html",
        contents=found,
        manifest=manifest,
        measures=MEASURES,
        sources=manifest.sources,
        total=total(manifest.sources.values()),
        sentences=sum(of.sentences for of in found.splits.values()),
        flow=flow(manifest.sources, found.splits),
        charts=_split_charts(found, tables.stats, max_length(manifest.recipe)),
        gallery=gallery,
        images=gallery.overall(),
        sections=_sections(found, manifest.recipe, excluded_by_namespace(tables.excluded), gallery),
    )


def _split_charts(
    found: Contents, stats: dict[str, Stats], allowed: int | None
) -> list[list[Chart]]:
    """A chart a split for every measure."""
    rows = []
    for measure, field, mean in SPLIT_MEASURES:
        histograms = {split: getattr(of, field) for split, of in stats.items()}
        scale = 100 if measure.continuous else 1
        means = {split: _scaled(of, mean, scale) for split, of in found.splits.items()}
        limit = allowed if field == "caption_characters" else None
        if histograms:
            rows.append(charts(measure, histograms, means, limit))
    return rows


def _scaled(of: SplitContents, field: str, scale: int) -> float | None:
    value = getattr(of, field)
    return None if value is None else value * scale


def _sections(
    found: Contents,
    recipe: dict[str, Any],
    excluded: dict[str, list[ExcludedImages]],
    gallery: Gallery,
) -> list[SourceSection]:
    datasets = dict.fromkeys(name for of in found.splits.values() for name in of.datasets)
    source_of = {
        dataset: source for source, of in datasets_of_sources(recipe).items() for dataset in of
    }
    by_source: dict[str, list[str]] = {source: [] for source in found.sources}
    for name in sorted(datasets):
        by_source.setdefault(source_of.get(name, name), []).append(name)
    return [
        SourceSection(
            source,
            found.sources.get(source),
            excluded.get(source, []),
            [of for of in found.rejected if of.source == source],
            [_dataset_section(name, found, gallery) for name in names],
        )
        for source, names in by_source.items()
    ]


def _dataset_section(name: str, found: Contents, gallery: Gallery) -> DatasetSection:
    splits = {split: of.datasets[name] for split, of in found.splits.items() if name in of.datasets}
    drawn = []
    for measure, field in DATASET_MEASURES:
        histogram = _sum(getattr(of, field) for of in splits.values())
        drawn += charts(measure, {measure.name: histogram}, {measure.name: histogram.mean()})
    return DatasetSection(name, splits, drawn, gallery.of_dataset(name))


def _sum(histograms: Iterable[Histogram]) -> Histogram:
    first, *others = histograms
    whole = Histogram(first.width, dict(first.bins), first.total)
    for of in others:
        whole.merge(of)
    return whole
