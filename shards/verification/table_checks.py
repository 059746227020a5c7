"""Checks of excluded.parquet and rejected.parquet against manifest, recipe and images."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from schemas.joins import HASH
from shards.format.exclusion_counts import ExclusionCounts
from shards.format.manifest import ShardError
from shards.format.source_counts import SourceCounts
from shards.reading.shard_set import ShardSet
from shards.reading.tables import EXCLUDED, REJECTED, read_excluded, read_rejected
from shards.terminal import count_noun
from shards.verification.errors import ErrorKind, VerificationError
from shards.verification.recipe import RecipeRequirements
from shards.verification.set_checks import IndexedShard

_Rows = list[dict[str, Any]]


def check_tables(
    shards: ShardSet, indexed: Mapping[int, IndexedShard], requirements: RecipeRequirements
) -> Iterator[VerificationError]:
    """Yields the errors of both tables; `check_files` reports one that is missing."""
    for name, read in ((EXCLUDED, read_excluded), (REJECTED, read_rejected)):
        try:
            rows = _read_if_present(shards, name, read)
        except ShardError as error:
            yield VerificationError(ErrorKind.FILE, str(error), name)
            continue
        if rows is None:
            continue
        if name == EXCLUDED:
            yield from _check_images(shards, indexed, rows)
            yield from _check_excluded(shards, rows, requirements)
        else:
            yield from _check_rejected(shards, rows, requirements)


def _read_if_present(
    shards: ShardSet, name: str, read: Callable[[ShardSet], pa.Table]
) -> _Rows | None:
    """Returns the rows of a table, None if it is missing.

    Raises:
        ShardError: it is damaged.
    """
    try:
        shards.open_file(name).close()
    except ShardError:
        return None
    rows: _Rows = read(shards).to_pylist()
    return rows


def _check_images(
    shards: ShardSet, indexed: Mapping[int, IndexedShard], rows: _Rows
) -> Iterator[VerificationError]:
    """Yields the images that the table states to be excluded from the split they are in."""
    messages = {
        (row["split"], row[column]): f"{EXCLUDED} lists it: {row['eval_set']}, {row['join']}"
        for row in rows
        if row["excluded"]
        for column in ("image", "duplicate_of")
    }
    for shard, index_row in indexed.items():
        entry = shards.shards[shard]
        for key, crop_of in zip(index_row.keys, index_row.crop_of, strict=True):
            for name in dict.fromkeys(filter(None, (key, crop_of))):
                if message := messages.get((entry.split, name)):
                    yield VerificationError(ErrorKind.HELD_OUT, message, entry.file, key)


def _check_excluded(
    shards: ShardSet, rows: _Rows, requirements: RecipeRequirements
) -> Iterator[VerificationError]:
    """Yields rows of unknown splits and evaluation sets, and captions that the sources lack."""
    trained = shards.manifest.splits_of_role("train")
    for split in sorted({row["split"] for row in rows} - set(trained)):
        message = f"it excludes images from {split!a}, which is not trained on"
        yield VerificationError(ErrorKind.TABLE, message, EXCLUDED)
    if requirements.evaluation_sets is None:
        return
    for name in sorted({row["eval_set"] for row in rows} - requirements.evaluation_sets):
        message = f"the recipe has no evaluation set {name!a}"
        yield VerificationError(ErrorKind.TABLE, message, EXCLUDED)
    yield from _check_exclusions(shards, rows)
    yield from _check_named(shards, rows)
    # An image has a row for each evaluation set and join, all with the number of its captions.
    captions = {(row["split"], row["image"]): row["captions"] for row in rows if row["excluded"]}
    stated = sum(counts.excluded for counts in shards.manifest.sources.values())
    if (actual := sum(captions.values())) != stated:
        message = f"its images have {actual} captions, the sources {stated} excluded records"
        yield VerificationError(ErrorKind.TABLE, message, EXCLUDED)


def _check_exclusions(shards: ShardSet, rows: _Rows) -> Iterator[VerificationError]:
    """Yields exclusions whose counts, by join, are not those of the rows."""
    captions: dict[tuple[str, str], dict[tuple[str, str], int]] = {}
    for row in rows:
        if row["excluded"]:
            of_join = captions.setdefault((row["eval_set"], row["join"]), {})
            of_join[row["split"], row["image"]] = row["captions"]
    actual = {name: (len(c), sum(c.values())) for name, c in captions.items()}
    stated = {
        (eval_set, join): (counts.images, counts.captions)
        for eval_set, exclusion in shards.manifest.exclusions.items()
        for join, counts in exclusion.excluded.items()
    }
    for eval_set, join in sorted(actual.keys() | stated.keys()):
        in_table, in_manifest = (
            "{} images with {} captions".format(*counts.get((eval_set, join), (0, 0)))
            for counts in (actual, stated)
        )
        if in_table != in_manifest:
            message = f"{eval_set} by {join}: {in_table}, the manifest states {in_manifest}"
            yield VerificationError(ErrorKind.TABLE, message, EXCLUDED)


def _check_named(shards: ShardSet, rows: _Rows) -> Iterator[VerificationError]:
    """Yields evaluation sets that name fewer images than the rows have of them.

    A row by a perceptual hash may have a duplicate of a named image.
    """
    images: dict[str, set[str]] = {}
    for row in rows:
        of_set = images.setdefault(row["eval_set"], set())
        if row["join"] != HASH:
            of_set.add(row["eval_image"])
    for eval_set, of_set in sorted(images.items()):
        exclusion = shards.manifest.exclusions.get(eval_set, ExclusionCounts(named=0))
        if exclusion.named < (least := max(1, len(of_set))):
            stated = f"the manifest states that it names {exclusion.named}"
            message = f"{count_noun(least, 'image')} of {eval_set}, {stated}"
            yield VerificationError(ErrorKind.TABLE, message, EXCLUDED)


def _check_rejected(
    shards: ShardSet, rows: _Rows, requirements: RecipeRequirements
) -> Iterator[VerificationError]:
    """Yields sources whose rejected records and boxes are not those of the rows."""
    actual = {"records": Counter[str](), "boxes": Counter[str]()}
    for noun, counts in actual.items():
        for row in rows:
            counts[row["source"]] += row[noun]
    known = requirements.sources
    if known is None:
        return
    sources = shards.manifest.sources
    for source in sorted(actual["records"].keys() | sources.keys()):
        if source not in known | requirements.tables:
            message = f"the recipe has no source {source!a}"
            yield VerificationError(ErrorKind.TABLE, message, REJECTED)
            continue
        of_source = sources.get(source, SourceCounts())
        stated = {"records": of_source.rejected, "boxes": of_source.boxes.rejected}
        for noun, counts in actual.items():
            if counts[source] != stated[noun]:
                message = f"{counts[source]} {noun} of {source}, the manifest has {stated[noun]}"
                yield VerificationError(ErrorKind.TABLE, message, REJECTED)
