"""What a shard set counts of itself: in its manifest and in stats.json, against what was found."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from shards.format import manifest as mf
from shards.format.manifest import ShardError
from shards.format.source_counts import total
from shards.format.stats import DatasetStats, Stats
from shards.inspection.set_tables import read_stats
from shards.reading.shard_set import ShardSet
from shards.verification.errors import Fault, Kind
from shards.verification.set_checks import Indexed

STATS = "stats.json"
_SHOWN = 3  # of the counts of a split that differ

# Of the totals of a split, those that the index has and those that only samples tell.
_OF_INDEX = ("images", "captions", "regions")
_OF_SAMPLES = ("sentences", "characters", "questions")


class Counted(NamedTuple):
    """What was found of each split.

    ``of_index`` leaves out splits with shards that the index does not tell of. ``of_samples``
    has those of them of which every sample was looked at.
    """

    of_index: dict[str, dict[str, int]]
    of_samples: dict[str, Stats]


def counted_of(
    shards: ShardSet, indexed: Mapping[int, Indexed], samples: Mapping[str, Stats]
) -> Counted:
    """``samples``: what was counted in those that were looked at, by split."""
    unread = {entry.split for i, entry in enumerate(shards.shards) if i not in indexed}
    of_index = {split: dict.fromkeys(_OF_INDEX, 0) for split in sorted(_splits(shards) - unread)}
    for shard, of_shard in indexed.items():
        if (of_split := of_index.get(shards.shards[shard].split)) is not None:
            of_split["images"] += len(of_shard.keys)
            of_split["captions"] += of_shard.captions
            of_split["regions"] += of_shard.regions
    of_samples = {split: samples.get(split, Stats()) for split in of_index}
    complete = {s: of for s, of in of_samples.items() if of.images == of_index[s]["images"]}
    return Counted(of_index, complete)


def total_faults(
    shards: ShardSet, indexed: Mapping[int, Indexed], counted: Counted
) -> Iterator[Fault]:
    """What the manifest counts otherwise than the index, or than the samples of a split."""
    for shard, of_shard in indexed.items():
        entry = shards.shards[shard]
        if of_shard.captions != entry.captions:
            what = f"the index has {of_shard.captions} captions, the manifest {entry.captions}"
            yield Fault(Kind.TOTALS, what, entry.file)
    for split, found in counted.of_index.items():
        stated = shards.manifest.totals.get(split, {})
        if (of_samples := counted.of_samples.get(split)) is not None:
            found = found | {name: getattr(of_samples, name) for name in _OF_SAMPLES}
        for name, n in found.items():
            if stated.get(name) != n:
                what = f"{split} has {n} {name}, the manifest says {stated.get(name)}"
                yield Fault(Kind.TOTALS, what, mf.NAME)


def source_faults(shards: ShardSet, counted: Counted) -> Iterator[Fault]:
    """Sentences that sources have left over, and that are not in the shards, or the reverse."""
    sources = shards.manifest.sources
    if not sources or counted.of_samples.keys() != _splits(shards):
        return
    left = total(sources.values()).in_shards
    found = sum(stats.sentences for stats in counted.of_samples.values())
    if left != found:
        what = f"its sources leave {left} sentences, the shards have {found}"
        yield Fault(Kind.TOTALS, what, mf.NAME)


def stats_faults(shards: ShardSet, counted: Counted) -> Iterator[Fault]:
    """What ``stats.json`` counts otherwise than the samples of a split."""
    try:
        shards.open_file(STATS).close()
    except ShardError:
        return  # that it is missing has been told with the other files
    try:
        stated = read_stats(shards)
    except ShardError as error:
        yield Fault(Kind.FILE, str(error), STATS)
        return
    for split in sorted(stated.keys() - _splits(shards)):
        yield Fault(Kind.STATS, f"the manifest has no split {split}", STATS)
    for split, found in counted.of_samples.items():
        if split not in stated:
            yield Fault(Kind.STATS, f"it has no split {split}", STATS)
        elif names := list(_differing(found, stated[split])):
            others = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            what = f"{split}: other than in the samples are {', '.join(names[:_SHOWN])}{others}"
            yield Fault(Kind.STATS, what, STATS)


def _differing(found: Stats | DatasetStats, stated: Stats | DatasetStats) -> Iterator[str]:
    """The names of counts that are not the same in both."""
    for name in found.__struct_fields__:
        if name != "datasets" and getattr(found, name) != getattr(stated, name):
            yield name
    if isinstance(found, Stats) and isinstance(stated, Stats):
        for dataset in sorted(found.datasets.keys() | stated.datasets.keys()):
            mine, theirs = (of.datasets.get(dataset) for of in (found, stated))
            if mine is None or theirs is None:
                yield f"datasets.{dataset}"
            else:
                yield from (f"datasets.{dataset}.{name}" for name in _differing(mine, theirs))


def _splits(shards: ShardSet) -> set[str]:
    return shards.manifest.totals.keys() | {entry.split for entry in shards.shards}


def not_checked(shards: ShardSet, counted: Counted) -> Iterator[str]:
    """What of the counts had nothing to be held against."""
    files = {entry.file for entry in shards.manifest.files}
    if STATS not in files:
        yield f"counts of {STATS}: the manifest names none"
    if not shards.manifest.sources:
        yield "sentences of the sources: the manifest counts none"
    if unread := sorted(_splits(shards) - counted.of_samples.keys()):
        counts = f"sentences, characters and {STATS} of {', '.join(unread)}"
        yield f"{counts}: not every sample was counted"
