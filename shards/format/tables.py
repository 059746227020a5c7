"""Encodes the Parquet tables of a shard set; equal rows give equal bytes."""

import io
from collections.abc import Sequence

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import arrow
from shards.format.index import IndexRow


def encode_table(rows: Sequence[msgspec.Struct], schema: pa.Schema) -> bytes:
    """Returns a Parquet file of structs whose fields are the columns of ``schema``, in order."""
    buffer = io.BytesIO()
    pq.write_table(_table(rows, schema), buffer, compression="zstd")
    return buffer.getvalue()


def encode_index(rows: Sequence[IndexRow]) -> bytes:
    """Returns the index of a shard.

    That of a shard without images has no row group, since some readers refuse one without rows.
    """
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer, arrow.INDEX, compression="zstd", write_statistics=False, write_page_checksum=True
    ) as writer:
        if rows:
            writer.write_table(_table(rows, arrow.INDEX), row_group_size=len(rows))
    return buffer.getvalue()


def _table(rows: Sequence[msgspec.Struct], schema: pa.Schema) -> pa.Table:
    columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)
