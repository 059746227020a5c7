"""A shard set without its shards: its files, which pictures are where, and what the counts say."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from schemas import arrow
from shards import index
from shards import manifest as mf
from shards.manifest import ShardError
from shards.placement import is_safe_key
from shards.shard_set import ShardSet
from shards.verification.faults import Fault, Faults, Kind
from shards.verification.held_out import HeldOut

TRAIN = "train"  # the split whose pictures may be in no other
EXCLUDED = "excluded.parquet"

# Of the totals of a split, those that the index has and those that only samples tell.
_OF_INDEX = ("images", "captions", "regions")
_OF_SAMPLES = ("sentences", "characters", "questions")


class Indexed(NamedTuple):
    """What the index says of a shard."""

    keys: list[str]
    captions: int
    regions: int


def read_index(shards: ShardSet, faults: Faults) -> dict[int, Indexed]:
    """What the index says of each shard, by its place in the manifest; bar those it is no index of.

    An index that is not there at all is one fault, not one a shard.
    """
    indexed: dict[int, Indexed] = {}
    reasons: dict[str, None] = {}
    for shard in range(len(shards.shards)):
        try:
            rows = shards.rows(shard, ["key", "captions", "regions"])
        except ShardError as error:
            reasons[str(error)] = None
            continue
        captions, regions = (sum(rows[name].to_pylist()) for name in ("captions", "regions"))
        indexed[shard] = Indexed(rows["key"].to_pylist(), captions, regions)
    faults.add(Fault(Kind.INDEX, reason, index.NAME) for reason in reasons)
    return indexed


def file_faults(shards: ShardSet) -> Iterator[Fault]:
    """The files beside the shards; and in a local folder those that the manifest does not name."""
    for entry in shards.manifest.files:
        try:
            with shards.open_file(entry.file) as file:
                found = _sha256(file)
        except ShardError as error:
            yield Fault(Kind.FILE, str(error), entry.file)
            continue
        if found != entry.sha256:
            what = f"it has {found}, the manifest says {entry.sha256}"
            yield Fault(Kind.SHA256, what, entry.file)
    if not shards.is_remote:
        named = {
            mf.NAME,
            *(of.file for of in shards.shards),
            *(of.file for of in shards.manifest.files),
        }
        for path in sorted(Path(shards.location).iterdir()):
            if path.is_file() and path.name not in named:
                yield Fault(Kind.UNKNOWN_FILE, "the manifest does not name it", path.name)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def key_faults(shards: ShardSet, indexed: Mapping[int, Indexed]) -> Iterator[Fault]:
    """Keys that cannot name a picture, are in their split twice, or in train and elsewhere."""
    places: dict[str, dict[str, str]] = defaultdict(dict)  # by split: key -> file
    for shard, of_shard in indexed.items():
        entry = shards.shards[shard]
        of_split = places[entry.split]
        for key in of_shard.keys:
            if not is_safe_key(key):
                yield Fault(Kind.KEY, f"{key!a} cannot name a picture", entry.file)
            if key in of_split:
                what = f"{of_split[key]} of the same split has it too"
                yield Fault(Kind.TWICE, what, entry.file, key)
            of_split[key] = entry.file
    for split, of_split in places.items():
        if split != TRAIN:
            for key in sorted(of_split.keys() & places[TRAIN].keys()):
                what = f"{of_split[key]} of {split} has it too"
                yield Fault(Kind.LEAK, what, places[TRAIN][key], key)


def held_out_faults(
    shards: ShardSet, indexed: Mapping[int, Indexed], held_out: Sequence[HeldOut]
) -> Iterator[Fault]:
    """Pictures of train that a list of held-out ones names."""
    for shard, of_shard in indexed.items():
        entry = shards.shards[shard]
        if entry.split == TRAIN:
            for key in of_shard.keys:
                for of in held_out:
                    if key in of.keys:
                        yield Fault(Kind.HELD_OUT, f"{of.name} names it", entry.file, key)


def excluded_faults(shards: ShardSet, indexed: Mapping[int, Indexed]) -> Iterator[Fault]:
    """Pictures that the table of exclusions says were left out of the split that they are in."""
    try:
        with shards.open_file(EXCLUDED) as file:
            rows = pq.read_table(file).select(arrow.EXCLUDED.names).to_pylist()
    except ShardError:
        return  # that it is missing has been told with the other files
    except (pa.ArrowException, OSError, KeyError) as error:
        yield Fault(Kind.FILE, f"it is no table of exclusions: {error}", EXCLUDED)
        return
    reasons = {
        (row["split"], row[name]): f"{EXCLUDED} has it left out: {row['set']}, {row['join']}"
        for row in rows
        if row["left_out"]
        for name in ("picture", "copy")
    }
    for shard, of_shard in indexed.items():
        entry = shards.shards[shard]
        for key in of_shard.keys:
            if reason := reasons.get((entry.split, key)):
                yield Fault(Kind.HELD_OUT, reason, entry.file, key)


def count_faults(
    shards: ShardSet, indexed: Mapping[int, Indexed], samples: Mapping[str, Counter[str]]
) -> Iterator[Fault]:
    """What the manifest counts otherwise than the index, or than the samples of a split.

    ``samples``: what was counted in samples, by split. It counts if none of the split is missing.
    """
    splits = shards.manifest.totals.keys() | {entry.split for entry in shards.shards}
    sums = {split: Counter(dict.fromkeys(_OF_INDEX, 0)) for split in splits}
    for shard, of_shard in indexed.items():
        entry = shards.shards[shard]
        if of_shard.captions != entry.captions:
            what = f"the index has {of_shard.captions} captions, the manifest {entry.captions}"
            yield Fault(Kind.TOTALS, what, entry.file)
        sums[entry.split].update(
            images=len(of_shard.keys), captions=of_shard.captions, regions=of_shard.regions
        )
    unread = {entry.split for i, entry in enumerate(shards.shards) if i not in indexed}
    for split in sorted(splits - unread):
        found, stated = dict(sums[split]), shards.manifest.totals.get(split, {})
        if samples[split]["images"] == found["images"]:
            found |= {name: samples[split][name] for name in _OF_SAMPLES}
        for name, n in found.items():
            if stated.get(name) != n:
                what = f"{split} has {n} {name}, the manifest says {stated.get(name)}"
                yield Fault(Kind.TOTALS, what, mf.NAME)
