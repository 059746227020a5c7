"""A shard set without its shards: its files, which images are where, and what the counts say."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from schemas import arrow
from shards.format import index
from shards.format import manifest as mf
from shards.format.manifest import ShardError
from shards.format.placement import is_safe_key
from shards.reading.shard_set import ShardSet
from shards.verification.errors import Fault, Faults, Kind
from shards.verification.held_out import HeldOut

TRAIN = "train"  # the split whose images may be in no other
EXCLUDED = "excluded.parquet"
REJECTED = "rejected.parquet"


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
    """The files beside the shards; and in a local folder what the manifest does not name.

    A folder in it is one fault, whatever it holds. Names that begin with a dot are nobody's
    business: a killed build leaves such, which the next one removes, and no glob finds them.
    """
    for entry in shards.manifest.files:
        try:
            with shards.open_file(entry.file) as file:
                digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type] # a real file
                found = digest.hexdigest()
        except ShardError as error:
            yield Fault(Kind.FILE, str(error), entry.file)
            continue
        if found != entry.sha256:
            what = f"it has {found}, the manifest says {entry.sha256}"
            yield Fault(Kind.SHA256, what, entry.file)
    named = Counter([of.file for of in shards.shards] + [of.file for of in shards.manifest.files])
    named[mf.NAME] += 1
    for name, times in named.items():
        if times > 1:
            yield Fault(Kind.FILE_TWICE, "the manifest has it more than once", name)
    if not shards.is_remote:
        for path in sorted(Path(shards.location).iterdir()):
            if path.name not in named and not path.name.startswith("."):
                name = f"{path.name}/" if path.is_dir() else path.name
                yield Fault(Kind.UNKNOWN_FILE, "the manifest does not name it", name)


def key_faults(shards: ShardSet, indexed: Mapping[int, Indexed]) -> Iterator[Fault]:
    """Keys that cannot name an image, are in their split twice, or in train and elsewhere."""
    places: dict[str, dict[str, str]] = defaultdict(dict)  # by split: key -> file
    for shard, of_shard in indexed.items():
        entry = shards.shards[shard]
        of_split = places[entry.split]
        for key in of_shard.keys:
            if not is_safe_key(key):
                yield Fault(Kind.KEY, f"{key!a} cannot name an image", entry.file)
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
    """Images of train that a list of held-out ones names."""
    for shard, of_shard in indexed.items():
        entry = shards.shards[shard]
        if entry.split == TRAIN:
            for key in of_shard.keys:
                for of in held_out:
                    if key in of.keys:
                        yield Fault(Kind.HELD_OUT, f"{of.name} names it", entry.file, key)


def excluded_faults(shards: ShardSet, indexed: Mapping[int, Indexed]) -> Iterator[Fault]:
    """Images that the table of exclusions says were left out of the split that they are in."""
    try:
        table = _table(shards, EXCLUDED, arrow.EXCLUDED)
    except _TABLE_ERRORS as error:
        yield Fault(Kind.FILE, f"it is no table of exclusions: {error}", EXCLUDED)
        return
    reasons = {
        (row["split"], row[name]): f"{EXCLUDED} has it left out: {row['eval_set']}, {row['join']}"
        for row in table.to_pylist()
        if row["excluded"]
        for name in ("image", "duplicate_of")
    }
    for shard, of_shard in indexed.items():
        entry = shards.shards[shard]
        for key in of_shard.keys:
            if reason := reasons.get((entry.split, key)):
                yield Fault(Kind.HELD_OUT, reason, entry.file, key)


def rejected_faults(shards: ShardSet) -> Iterator[Fault]:
    """That the table of records that could not be used is one."""
    try:
        _table(shards, REJECTED, arrow.REJECTED)
    except _TABLE_ERRORS as error:
        yield Fault(Kind.FILE, f"it is no table of rejected records: {error}", REJECTED)


_TABLE_ERRORS = (pa.ArrowException, OSError, KeyError)


def _table(shards: ShardSet, name: str, schema: pa.Schema) -> pa.Table:
    """A table beside the shards; without rows if there is none, which is told with the other files.

    Raises: one of ``_TABLE_ERRORS``.
    """
    try:
        file = shards.open_file(name)
    except ShardError:
        return schema.empty_table()
    with file:
        return pq.read_table(file).select(schema.names)
