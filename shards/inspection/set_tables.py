"""The tables of a shard set that say what is in it and what was left out."""

from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import arrow
from shards.format.manifest import ShardError
from shards.format.stats import Stats
from shards.reading.shard_set import ShardSet


class SetTables(NamedTuple):
    """``stats`` are by split; ``excluded`` has the images that were left out alone."""

    stats: dict[str, Stats]
    excluded: pa.Table
    rejected: pa.Table


def read_tables(shards: ShardSet) -> SetTables:
    """Reads all of them, once.

    Raises:
        ShardError: one is missing, damaged, of an earlier version, or not of the manifest's size.
    """
    excluded = _read_table(shards, "excluded.parquet", arrow.EXCLUDED)
    return SetTables(
        read_stats(shards),
        excluded.filter(excluded["excluded"]),  # what is only reported is in the shards
        _read_table(shards, "rejected.parquet", arrow.REJECTED),
    )


def grouped(
    table: pa.Table, keys: list[str], counts: list[tuple[str, str]]
) -> list[dict[str, Any]]:
    """The rows of a table counted by some of its columns, and sorted by them."""
    found = table.group_by(keys).aggregate(counts)
    return found.sort_by([(key, "ascending") for key in keys]).to_pylist()


def read_stats(shards: ShardSet) -> dict[str, Stats]:
    """The counts and histograms of every split.

    Raises:
        ShardError: they are missing, damaged or of an earlier version.
    """
    name = f"{shards.location}: stats.json"
    with shards.open_file("stats.json") as file:
        content = file.read()
    try:
        return msgspec.json.decode(content, type=dict[str, Stats])
    except msgspec.ValidationError as error:
        raise ShardError(
            f"{name} is of an earlier version, or damaged: {error}; build the set again"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ShardError(f"{name} is damaged: {error}") from error


def _read_table(shards: ShardSet, name: str, schema: pa.Schema) -> pa.Table:
    with shards.open_file(name) as file:
        try:
            table = pq.read_table(file).select(schema.names).cast(schema)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise ShardError(f"{shards.location}: {name} is damaged: {error}") from error
    if any(column.null_count for column in table.columns):
        raise ShardError(f"{shards.location}: {name} is damaged: a value is missing")
    return table
