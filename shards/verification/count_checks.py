"""Checks that the counts in the manifest and in stats.json are those of the index and samples."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from shards.format import manifest as mf
from shards.format.manifest import ShardError
from shards.format.source_counts import SourceCounts, total
from shards.format.stats import DatasetStats, Stats
from shards.reading.shard_set import ShardSet
from shards.reading.tables import STATS, read_stats
from shards.terminal import listed
from shards.verification.datasets import Datasets
from shards.verification.errors import ErrorKind, VerificationError
from shards.verification.recipe import RecipeRequirements
from shards.verification.set_checks import IndexedShard

_MAX_NAMES = 3  # differing counts that a message lists

# The totals of a split that the index has, and those that only samples have.
_INDEX_TOTALS = ("images", "captions", "regions")
_SAMPLE_TOTALS = ("sentences", "characters", "questions")


class ActualCounts(NamedTuple):
    """The actual counts of the set, by split.

    ``from_index`` lacks splits with unreadable index rows. ``from_samples`` only has splits of
    which every sample was read.
    """

    from_index: dict[str, dict[str, int]]
    from_samples: dict[str, Stats]


def actual_counts(
    shards: ShardSet, indexed: Mapping[int, IndexedShard], samples: Mapping[str, Stats]
) -> ActualCounts:
    """Returns the counts of the index, and those of the samples that were read, by split."""
    incomplete = {entry.split for i, entry in enumerate(shards.shards) if i not in indexed}
    from_index = {
        split: dict.fromkeys(_INDEX_TOTALS, 0) for split in sorted(_splits(shards) - incomplete)
    }
    for shard, row in indexed.items():
        if (counts := from_index.get(shards.shards[shard].split)) is not None:
            counts["images"] += len(row.keys)
            counts["captions"] += row.captions
            counts["regions"] += row.regions
    stats = {split: samples.get(split, Stats()) for split in from_index}
    from_samples = {
        split: split_stats
        for split, split_stats in stats.items()
        if split_stats.images == from_index[split]["images"]
    }
    return ActualCounts(from_index, from_samples)


def check_totals(
    shards: ShardSet, indexed: Mapping[int, IndexedShard], actual: ActualCounts
) -> Iterator[VerificationError]:
    """Yields counts of the manifest that differ from the index or the samples."""
    for shard, row in indexed.items():
        entry = shards.shards[shard]
        if row.captions != entry.captions:
            message = f"the index has {row.captions} captions, the manifest {entry.captions}"
            yield VerificationError(ErrorKind.TOTALS, message, entry.file)
    for split, counts in actual.from_index.items():
        if (stats := actual.from_samples.get(split)) is not None:
            counts = counts | {name: getattr(stats, name) for name in _SAMPLE_TOTALS}
        totals = shards.manifest.totals.get(split, {})
        for name, count in counts.items():
            if totals.get(name) != count:
                message = f"{split} has {count} {name}, the manifest states {totals.get(name)}"
                yield VerificationError(ErrorKind.TOTALS, message, mf.NAME)


def check_not_empty(
    shards: ShardSet, requirements: RecipeRequirements
) -> Iterator[VerificationError]:
    """Yields splits without images, unless the recipe allows it."""
    for split, totals in shards.manifest.totals.items():
        if not totals.get("images") and not requirements.may_be_empty(split):
            message = f"{split} has no images, which the recipe does not allow"
            yield VerificationError(ErrorKind.TOTALS, message, mf.NAME)


def check_sources(
    shards: ShardSet, actual: ActualCounts, requirements: RecipeRequirements
) -> Iterator[VerificationError]:
    """Yields sources whose counts do not add up, or are not those of their datasets.

    Those of sources that may make any dataset are compared together.
    """
    sources = shards.manifest.sources
    for name, counts in sources.items():
        for noun, each in (("captions", counts), ("boxes", counts.boxes)):
            if more := each.unaccounted():
                message = f"{name}: {noun} do not add up: read is {more} more than all outcomes"
                yield VerificationError(ErrorKind.SOURCES, message, mf.NAME)
    yield from _check_not_asked_for(shards)
    yield from _check_absent(shards, actual)
    if not sources or actual.from_samples.keys() != _splits(shards):
        return
    captions: Counter[str] = Counter()
    boxes: Counter[str] = Counter()
    for stats in actual.from_samples.values():
        for dataset, dataset_stats in stats.datasets.items():
            captions[dataset] += dataset_stats.sentences
            boxes[dataset] += dataset_stats.regions
    for names, datasets in _groups_of_sources(sources.keys(), requirements.datasets):
        stated = total(sources[name] for name in names if name in sources)
        for noun, expected, by_dataset in (
            ("captions", stated.in_shards, captions),
            ("boxes", stated.boxes.in_shards, boxes),
        ):
            in_samples = sum(
                by_dataset[name] for name in (by_dataset if datasets is None else datasets)
            )
            if expected != in_samples:
                message = (
                    f"{', '.join(names)}: the manifest counts {expected} {noun}, the shards have "
                    f"{in_samples}"
                )
                yield VerificationError(ErrorKind.SOURCES, message, mf.NAME)


def _check_absent(shards: ShardSet, actual: ActualCounts) -> Iterator[VerificationError]:
    """Yields sources whose absent phrases do not add up, or are not those of the samples."""
    absent = shards.manifest.absent or {}
    for name, counts in absent.items():
        if more := counts.unaccounted():
            message = f"{name}: absent phrases do not add up: read is {more} more than all outcomes"
            yield VerificationError(ErrorKind.SOURCES, message, mf.NAME)
    if shards.manifest.sources and actual.from_samples.keys() == _splits(shards):
        stated = sum(counts.in_shards for counts in absent.values())
        in_samples = sum(stats.proven_phrases() for stats in actual.from_samples.values())
        if stated != in_samples:
            message = f"the manifest counts {stated} absent phrases, the shards have {in_samples}"
            yield VerificationError(ErrorKind.SOURCES, message, mf.NAME)


def _check_not_asked_for(shards: ShardSet) -> Iterator[VerificationError]:
    """Yields sources whose counts are not those of the manifest's list of what is left out."""
    sources = shards.manifest.sources
    list_counts = {name: SourceCounts() for name in sources}
    for row in shards.manifest.not_asked_for:
        counts = list_counts.setdefault(row.source, SourceCounts())
        counts.not_asked_for += row.captions
        counts.boxes.not_asked_for += row.boxes
    for name, counts in list_counts.items():
        stated = sources.get(name, SourceCounts())
        for noun, in_list, in_source in (
            ("captions", counts.not_asked_for, stated.not_asked_for),
            ("boxes", counts.boxes.not_asked_for, stated.boxes.not_asked_for),
        ):
            if in_list != in_source:
                message = f"{name}: {in_source} {noun} not asked for, the list has {in_list}"
                yield VerificationError(ErrorKind.SOURCES, message, mf.NAME)


def check_names(shards: ShardSet, requirements: RecipeRequirements) -> Iterator[VerificationError]:
    """Yields sources and exclusions that either the recipe or the counts in the manifest lack."""
    manifest, sources = shards.manifest, requirements.sources
    counted = [
        ("source", manifest.sources.keys(), sources),
        ("exclusion", manifest.exclusions.keys(), requirements.evaluation_sets),
        *(
            (f"source in the joins of exclusions.{name}:", exclusion.joins.keys(), sources)
            for name, exclusion in manifest.exclusions.items()
        ),
    ]
    for noun, names, of_recipe in counted:
        if of_recipe is not None:
            for name in sorted(names - of_recipe):
                message = f"the recipe has no {noun} {name!a}"
                yield VerificationError(ErrorKind.SOURCES, message, mf.NAME)
            for name in sorted(of_recipe - names):
                message = f"there are no counts of the {noun} {name!a}"
                yield VerificationError(ErrorKind.SOURCES, message, mf.NAME)


def _groups_of_sources(
    sources: Collection[str], datasets: Datasets | None
) -> Iterator[tuple[list[str], Collection[str] | None]]:
    """Yields sources with the datasets that only they make; None: all datasets."""
    if datasets is None or datasets.is_open:
        yield sorted(sources), None
        return
    groups: list[tuple[set[str], set[str]]] = []
    for name, made in datasets.by_source.items():
        names, of_group = {name}, set(made)
        for group in [group for group in groups if not group[1].isdisjoint(made)]:
            groups.remove(group)
            names, of_group = names | group[0], of_group | group[1]
        groups.append((names, of_group))
    for names, of_group in groups:
        yield sorted(names), of_group


def check_stats(shards: ShardSet, actual: ActualCounts) -> Iterator[VerificationError]:
    """Yields counts and histograms of stats.json that differ from the samples of a split."""
    try:
        shards.open_file(STATS).close()
    except ShardError:
        return  # check_files reports it
    try:
        stated = read_stats(shards)
    except ShardError as error:
        yield VerificationError(ErrorKind.FILE, str(error), STATS)
        return
    for split in sorted(stated.keys() - _splits(shards)):
        message = f"the manifest has no split {split}"
        yield VerificationError(ErrorKind.STATS, message, STATS)
    for split, stats in actual.from_samples.items():
        if split not in stated:
            yield VerificationError(ErrorKind.STATS, f"it has no split {split}", STATS)
        elif names := list(_differences(stats, stated[split])):
            message = f"{split}: samples have other {listed(names, _MAX_NAMES)}"
            yield VerificationError(ErrorKind.STATS, message, STATS)


def _differences(actual: Stats | DatasetStats, stated: Stats | DatasetStats) -> Iterator[str]:
    """Yields the names of the fields that are not equal."""
    for name in actual.__struct_fields__:
        if name != "datasets" and getattr(actual, name) != getattr(stated, name):
            yield name
    if isinstance(actual, Stats) and isinstance(stated, Stats):
        for dataset in sorted(actual.datasets.keys() | stated.datasets.keys()):
            first, second = actual.datasets.get(dataset), stated.datasets.get(dataset)
            if first is None or second is None:
                yield f"datasets.{dataset}"
            else:
                yield from (f"datasets.{dataset}.{name}" for name in _differences(first, second))


def _splits(shards: ShardSet) -> set[str]:
    return shards.manifest.totals.keys() | {entry.split for entry in shards.shards}


def not_checked(shards: ShardSet, actual: ActualCounts) -> Iterator[str]:
    """Yields the counts that could not be compared."""
    if STATS not in {entry.file for entry in shards.manifest.files}:
        yield f"counts of {STATS}: the manifest lists no such file"
    if not shards.manifest.sources:
        yield "sentences of the sources: the manifest has no record counts"
    if splits := sorted(_splits(shards) - actual.from_samples.keys()):
        counts = f"sentences, characters and {STATS} of {', '.join(splits)}"
        yield f"{counts}: not every sample was counted"
