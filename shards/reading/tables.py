"""Reads the tables beside the shards: stats.json, excluded.parquet and rejected.parquet."""

from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import arrow
from schemas.decodable import decodable
from shards.format.manifest import ShardError
from shards.format.stats import Stats
from shards.reading.shard_set import ShardSet

STATS = "stats.json"
EXCLUDED = "excluded.parquet"
REJECTED = "rejected.parquet"


class SetTables(NamedTuple):
    """The tables of a shard set. ``stats`` are by split."""

    stats: dict[str, Stats]
    excluded: pa.Table
    rejected: pa.Table


def read_tables(shards: ShardSet) -> SetTables:
    """Reads all tables of a shard set, once.

    Raises:
        ShardError: one is missing, damaged or of an earlier version.
    """
    return SetTables(read_stats(shards), read_excluded(shards), read_rejected(shards))


def read_stats(shards: ShardSet) -> dict[str, Stats]:
    """Returns the counts and histograms of every split.

    Raises:
        ShardError: stats.json is missing, damaged or of an earlier version.
    """
    name = f"{shards.location}: {STATS}"
    with shards.open_file(STATS) as file:
        content = file.read()
    try:
        return msgspec.json.decode(content, type=decodable(dict[str, Stats]))
    except msgspec.ValidationError as error:
        raise ShardError(
            f"{name} is of an earlier version, or damaged: {error}; rebuild the shard set"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ShardError(f"{name} is damaged: {error}") from error


def read_excluded(shards: ShardSet) -> pa.Table:
    """Returns excluded.parquet with the columns of `schemas.arrow.EXCLUDED`.

    Raises:
        ShardError: it is missing, damaged or of an earlier version.
    """
    return _read_table(shards, EXCLUDED, arrow.EXCLUDED)


def read_rejected(shards: ShardSet) -> pa.Table:
    """Returns rejected.parquet with the columns of `schemas.arrow.REJECTED`.

    Raises:
        ShardError: it is missing, damaged or of an earlier version.
    """
    return _read_table(shards, REJECTED, arrow.REJECTED)


def _read_table(shards: ShardSet, name: str, schema: pa.Schema) -> pa.Table:
    with shards.open_file(name) as file:
        try:
            table = pq.read_table(file).select(schema.names).cast(schema)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise ShardError(f"{shards.location}: {name} is damaged: {error}") from error
    if any(column.null_count for column in table.columns):
        raise ShardError(f"{shards.location}: {name} is damaged: a value is missing")
    return table
