"""Rows of untrusted Parquet files, such as those of data set hubs, within bounds."""

from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.io.archives import file_name, map_file, split_archive_path
from pipelines.io.raw_files import RawFileError, is_local, open_binary
from schemas.limits import MAX_CONTAINERS, MAX_WHOLE_FILE_BYTES

_ROWS_PER_BATCH = 1000


def is_parquet(path: str) -> bool:
    """Returns whether the name of a file, which may be in an archive, is that of a Parquet file.

    >>> is_parquet("val-00000-of-00001.parquet"), is_parquet("a.parquet.zip"), is_parquet("a.p")
    (True, True, False)
    """
    return file_name(path).endswith(".parquet")


def read_rows(
    path: str, columns: Collection[str], without: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Returns the rows of a file as plain values; other columns, such as images, are not read.

    Args:
        path: the file, which may be in an archive.
        columns: the columns that are read, if the file has them.
        without: the fields that structs in them are read without.

    Raises:
        RawFileError: It is not Parquet, has none of the columns, or has more values or longer text
            than a file that is read as a whole may have.
    """
    try:
        # Of a remote file, only the columns are read.
        is_mapped = is_local(path) or split_archive_path(path) is not None
        content = pa.BufferReader(map_file(path)) if is_mapped else open_binary(path)
        schema = pq.ParquetFile(content).schema
        leaves = [schema.column(number) for number in range(len(schema))]
        wanted = [
            leaf
            for leaf in leaves
            if (parts := leaf.path.split("."))[0] in columns and not set(parts) & set(without)
        ]
        if not wanted:
            columns_of_file = ", ".join(dict.fromkeys(leaf.path.split(".")[0] for leaf in leaves))
            raise RawFileError(
                f"{path}: expected columns of {', '.join(columns)}; found {columns_of_file}"
            )
        paths = [leaf.path for leaf in wanted]
        # Read as dictionaries, a text that a million rows share takes its bytes once.
        texts = [leaf.path for leaf in wanted if leaf.physical_type == "BYTE_ARRAY"]
        file = pq.ParquetFile(content, read_dictionary=texts)
        _check_metadata(file.metadata, set(paths), path)
        rows: list[dict[str, Any]] = []
        text_bytes = 0
        for batch in file.iter_batches(_ROWS_PER_BATCH, columns=paths):
            text_bytes += sum(_text_bytes(column) for column in batch.columns)
            if text_bytes > MAX_WHOLE_FILE_BYTES:
                raise RawFileError(f"{path}: more than {MAX_WHOLE_FILE_BYTES} bytes of text")
            rows += batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise RawFileError(f"{path}: expected a Parquet file: {error}") from error
    return rows


def _check_metadata(metadata: pq.FileMetaData, paths: Collection[str], path: str) -> None:
    """Raises ``RawFileError`` if a file states more values or bytes than it may have."""
    values = size = 0
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            if column.path_in_schema in paths:
                values += column.num_values
                size += column.total_uncompressed_size
    if values > MAX_CONTAINERS or size > MAX_WHOLE_FILE_BYTES:
        raise RawFileError(
            f"{path}: {values} values in {size} bytes; expected at most {MAX_CONTAINERS} in "
            f"{MAX_WHOLE_FILE_BYTES}"
        )


def _text_bytes(column: pa.Array) -> int:
    """Returns the bytes of all texts in a column, each counted as often as it occurs."""
    import pyarrow.compute as pc  # takes 12 MiB, and few readers need it

    if pa.types.is_dictionary(column.type):
        lengths = pc.binary_length(column.dictionary).cast(pa.int64())
        return pc.sum(lengths.take(column.indices.drop_null())).as_py() or 0
    if pa.types.is_struct(column.type) or pa.types.is_list(column.type):
        inner = column.flatten()
        return sum(map(_text_bytes, inner)) if isinstance(inner, list) else _text_bytes(inner)
    return 0
