"""What is in a shard set, without reading a shard: from its manifest, stats and tables."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from shards.format.manifest import Manifest
from shards.format.source_counts import SourceCounts
from shards.format.stats import DatasetStats, Stats
from shards.inspection import recipe
from shards.inspection.set_tables import SetTables, grouped, read_tables
from shards.reading.shard_set import ShardSet

_EXCLUDED = ["split", "eval_set", "join"]  # the columns that images are counted by
_COUNTS = [("image", "count"), ("captions", "sum")]


class SplitContents(msgspec.Struct):
    """A split: counts, means of its captions, and what its data sets have in it.

    A mean of nothing is None.
    """

    images: int
    captions: int
    sentences: int
    regions: int
    questions: int
    captions_per_image: float | None
    sentences_per_caption: float | None
    characters_per_caption: float | None
    fill: float | None  # of the characters that the recipe allows
    words_per_caption: float | None
    boxes_per_caption: float | None
    captions_without_boxes: float | None  # their share
    box_area: float | None  # the mean share of the image
    box_width: float | None  # the mean of the width's share of width and height
    bytes_per_pair: float | None
    datasets: dict[str, DatasetStats]


class ExcludedImages(msgspec.Struct):
    """Counts of images that an evaluation set holds out of a split, by the join that found them.

    An image is counted for each set and join that named it.
    """

    split: str
    eval_set: str
    join: str
    images: int
    captions: int


class RejectedRecords(msgspec.Struct):
    """Records that could not be used, for one reason; ``faults`` counts what lost none, too."""

    source: str
    reason: str
    records: int
    faults: int


class Contents(msgspec.Struct):
    """A shard set: see `contents`."""

    name: str
    recipe_sha256: str
    code_version: str
    bytes: int
    splits: dict[str, SplitContents]
    sources: dict[str, SourceCounts]
    excluded: list[ExcludedImages]
    rejected: list[RejectedRecords]


def contents(shards: ShardSet) -> Contents:
    """What a shard set holds, what was left out of it, and why.

    Raises:
        ShardError: one of its tables is missing, damaged, or not of the manifest's size.
    """
    return contents_of(shards.manifest, read_tables(shards))


def contents_of(manifest: Manifest, tables: SetTables) -> Contents:
    """What a shard set of these tables holds."""
    return Contents(
        name=manifest.name,
        recipe_sha256=manifest.recipe_sha256,
        code_version=manifest.code_version,
        bytes=sum(of.bytes for of in manifest.shards) + sum(of.bytes for of in manifest.files),
        splits={split: _split(manifest, split, stats) for split, stats in tables.stats.items()},
        sources=manifest.sources,
        excluded=[_as_excluded(row) for row in grouped(tables.excluded, _EXCLUDED, _COUNTS)],
        rejected=list(_rejected(tables.rejected)),
    )


def excluded_by_namespace(table: pa.Table) -> dict[str, list[ExcludedImages]]:
    """What was excluded, by the namespace of the images' keys: ``coco``, ``vg``, ``flickr30k``."""
    namespaces = pc.replace_substring_regex(table["image"], "/.*", "")
    table = table.append_column("namespace", namespaces)
    found: dict[str, list[ExcludedImages]] = {}
    for row in grouped(table, ["namespace", *_EXCLUDED], _COUNTS):
        found.setdefault(row["namespace"], []).append(_as_excluded(row))
    return found


def _split(manifest: Manifest, split: str, stats: Stats) -> SplitContents:
    size = sum(entry.bytes for entry in manifest.shards if entry.split == split)
    characters = _share(stats.characters, stats.captions)
    allowed = recipe.max_length(manifest.recipe)
    area, width = stats.box_area_percent.mean(), stats.box_width_percent.mean()
    return SplitContents(
        images=stats.images,
        captions=stats.captions,
        sentences=stats.sentences,
        regions=stats.regions,
        questions=stats.questions,
        captions_per_image=_share(stats.captions, stats.images),
        sentences_per_caption=_share(stats.sentences, stats.captions),
        characters_per_caption=characters,
        fill=characters / allowed if characters is not None and allowed else None,
        words_per_caption=stats.words_per_caption.mean(),
        boxes_per_caption=_share(stats.regions, stats.captions),
        captions_without_boxes=_share(stats.captions_without_boxes, stats.captions),
        box_area=None if area is None else area / 100,
        box_width=None if width is None else width / 100,
        bytes_per_pair=_share(size, stats.captions),
        datasets=stats.datasets,
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _as_excluded(row: dict[str, Any]) -> ExcludedImages:
    return ExcludedImages(
        split=row["split"],
        eval_set=row["eval_set"],
        join=row["join"],
        images=row["image_count"],
        captions=row["captions_sum"],
    )


def _rejected(table: pa.Table) -> Iterator[RejectedRecords]:
    counts = [("records", "sum"), ("record", "count")]
    rows = grouped(table, ["source", "reason"], counts)
    for row in sorted(rows, key=lambda row: (-row["records_sum"], -row["record_count"])):
        yield RejectedRecords(row["source"], row["reason"], row["records_sum"], row["record_count"])
