"""Encodes the Parquet tables of a shard set; equal rows give equal bytes. Reads columns of them."""

import io
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
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


def integers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Returns a column of integers without missing values.

    ``to_numpy`` of pyarrow would import pandas, where that is installed: half a second, and memory
    of each data worker.
    """
    return np.from_dlpack(column.combine_chunks())
