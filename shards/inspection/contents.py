"""What is in a shard set, without reading a shard: from its manifest, stats and tables."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shards.manifest import ShardError
from shards.shard_set import ShardSet
from shards.stats import DatasetStats, Histogram, Stats

_EXCLUDED = ["split", "set", "join"]  # the columns that copies are counted by
_COPIES = [("copy", "count"), ("captions", "sum")]


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
    box_area: float | None  # the mean share of the picture
    box_width: float | None  # the mean of the width's share of width and height
    bytes_per_pair: float | None
    datasets: dict[str, DatasetStats]


class Excluded(msgspec.Struct):
    """Copies of pictures that an evaluation set kept out of a split, by how they were known.

    A copy is counted for each set and join that named it.
    """

    split: str
    set: str
    join: str
    copies: int
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
    sources: dict[str, dict[str, int]]  # records read, merged, rejected and excluded
    excluded: list[Excluded]
    rejected: list[RejectedRecords]


def contents(shards: ShardSet) -> Contents:
    """What a shard set holds, what was left out of it, and why.

    Raises:
        ShardError: one of its tables is missing, damaged, or not of the manifest's size.
    """
    manifest = shards.manifest
    return Contents(
        name=manifest.name,
        recipe_sha256=manifest.recipe_sha256,
        code_version=manifest.code_version,
        bytes=sum(of.bytes for of in manifest.shards) + sum(of.bytes for of in manifest.files),
        splits={split: _split(shards, split, stats) for split, stats in read_stats(shards).items()},
        sources=manifest.sources,
        excluded=list(_excluded(shards)),
        rejected=list(_rejected(shards)),
    )


def read_stats(shards: ShardSet) -> dict[str, Stats]:
    """The histograms of every split.

    Raises:
        ShardError: they are missing, damaged or of an earlier version.
    """
    name = f"{shards.location}: stats.json"
    with shards.open_file("stats.json") as file:
        try:
            found = msgspec.json.decode(file.read(), type=dict[str, Stats])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ShardError(f"{name} is damaged: {error}") from error
    for of in found.values():
        if any(
            each.sentences and not each.boxes_per_sentence.bins for each in of.datasets.values()
        ):
            raise ShardError(f"{name} is of an earlier version: build the set again")
    return found


def excluded_by_namespace(shards: ShardSet) -> dict[str, list[Excluded]]:
    """What was excluded, by the namespace of the copies' keys: ``coco``, ``vg``, ``flickr30k``.

    Raises:
        ShardError: the table is missing, damaged, or not of the manifest's size.
    """
    found: dict[str, list[Excluded]] = {}
    for row in _grouped(shards, "excluded.parquet", ["namespace", *_EXCLUDED], _COPIES):
        found.setdefault(row["namespace"], []).append(_as_excluded(row))
    return found


def _split(shards: ShardSet, split: str, stats: Stats) -> SplitContents:
    size = sum(entry.bytes for entry in shards.shards if entry.split == split)
    characters = _share(stats.characters, stats.captions)
    allowed = shards.manifest.recipe.get("rules", {}).get("max_length")
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
        box_area=_percent(stats.box_area_percent),
        box_width=_percent(stats.box_width_percent),
        bytes_per_pair=_share(size, stats.captions),
        datasets=stats.datasets,
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(histogram: Histogram) -> float | None:
    """The mean of continuous values that were counted in whole percent."""
    mean = histogram.mean()
    return None if mean is None else (mean + 0.5) / 100


def _excluded(shards: ShardSet) -> Iterator[Excluded]:
    yield from map(_as_excluded, _grouped(shards, "excluded.parquet", _EXCLUDED, _COPIES))


def _as_excluded(row: dict[str, Any]) -> Excluded:
    counts = row["copy_count"], row["captions_sum"]
    return Excluded(row["split"], row["set"], row["join"], *counts)


def _rejected(shards: ShardSet) -> Iterator[RejectedRecords]:
    counts = [("records", "sum"), ("record", "count")]
    rows = _grouped(shards, "rejected.parquet", ["source", "reason"], counts)
    for row in sorted(rows, key=lambda row: (-row["records_sum"], -row["record_count"])):
        yield RejectedRecords(row["source"], row["reason"], row["records_sum"], row["record_count"])


def _grouped(
    shards: ShardSet, name: str, keys: list[str], counts: list[tuple[str, str]]
) -> list[dict[str, Any]]:
    """The rows of a table counted by some of its columns, and sorted by them."""
    with shards.open_file(name) as file:
        try:
            table = pq.read_table(file)
            if "left_out" in table.schema.names:  # what is only reported is in the shards
                table = table.filter(pc.field("left_out"))
                namespaces = pc.replace_substring_regex(table["copy"], "/.*", "")
                table = table.append_column("namespace", namespaces)
            grouped = table.group_by(keys).aggregate(counts)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise ShardError(f"{shards.location}: {name} is damaged: {error}") from error
    return grouped.sort_by([(key, "ascending") for key in keys]).to_pylist()
