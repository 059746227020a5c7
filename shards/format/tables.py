"""The Parquet tables of a shard set, as bytes; equal rows give equal bytes."""

import io
from collections.abc import Iterable, Sequence

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import arrow
from shards.format.index import IndexRow


def encode_table(rows: Sequence[msgspec.Struct], schema: pa.Schema) -> bytes:
    """A table of structs whose fields are the columns of ``schema``, in its order."""
    buffer = io.BytesIO()
    pq.write_table(_table(rows, schema), buffer, compression="zstd")
    return buffer.getvalue()


def encode_index(shards: Iterable[Sequence[IndexRow]]) -> bytes:
    """``index.parquet``: one row group a shard, in the manifest's order, so that each can be read
    alone; none for a shard without images, since some readers refuse a row group without rows.

    The only statistics are those of the shard's name, by which `shards.format.index` knows a row group.
    """
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        arrow.INDEX,
        compression="zstd",
        write_statistics=["shard"],
        write_page_checksum=True,
    ) as writer:
        for rows in shards:
            if rows:
                writer.write_table(_table(rows, arrow.INDEX), row_group_size=len(rows))
    return buffer.getvalue()


def _table(rows: Sequence[msgspec.Struct], schema: pa.Schema) -> pa.Table:
    values = [msgspec.structs.astuple(row) for row in rows]
    columns = [pa.array([row[i] for row in values], field.type) for i, field in enumerate(schema)]
    return pa.Table.from_arrays(columns, schema=schema)
