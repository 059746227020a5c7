"""Parquet files: those of Hugging Face datasets, one or a folder of them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shards.atomic import atomic_write
from shards.audit.files.annotation_file import (
    DataFile,
    DataFiles,
    Mask,
    check_number,
)
from shards.audit.files.errors import AuditError
from shards.audit.files.statements import (
    STATING_FIELDS,
    Statement,
    converted,
    place_of,
    states,
)

BATCH_ROWS = 1024
_CAPTIONS = ("captions", "caption", "grounding")
_READ = STATING_FIELDS | {"data_source", "dataset_name", "split"}


class Parquet(DataFiles):
    """A Parquet file, or a folder with some, of one row per image or caption."""

    format = "Parquet"
    suffix = ".parquet"
    record = "row"

    def statements(self) -> Iterator[Statement]:
        for file in self._files:
            table = _opened(file.path)
            columns = self._columns(file.path, table.schema_arrow)
            contains_images = _contains_images(table.schema_arrow)
            number = 0
            for batch in _batches(file.path, table, columns):
                captions = _caption_counts(batch)
                rows = batch.select([n for n in batch.schema.names if n in _READ]).to_pylist()
                for row, count in zip(rows, captions, strict=True):
                    for statement in self._statements(row, file, number, contains_images):
                        yield statement._replace(captions=int(count))
                    number += 1

    def _statements(
        self, row: dict[str, Any], file: DataFile, number: int, contains_images: bool
    ) -> Iterable[Statement]:
        value = row.get("image")
        images = [_divided(v) for v in (value if isinstance(value, list) else [value])]
        paths = [path for path, _ in images]
        statements = states(
            converted(row | {"image": paths if isinstance(value, list) else paths[0]}),
            self.reading,
            place_of(number, file.name),
            contains_image=contains_images,
            split=file.split,
        )
        contents = [content for _, content in images] or [None]
        if len(contents) != len(statements):  # of a row that cannot be read
            return statements
        pairs = zip(statements, contents, strict=True)
        return [statement._replace(content=content) for statement, content in pairs]

    def _columns(self, path: Path, schema: pa.Schema) -> list[str]:
        """Returns the columns to read; of an image, only its path unless bytes are asked for.

        Raises:
            AuditError: None of them states an image.
        """
        columns = []
        for field in schema:
            if field.name == "image" and pa.types.is_struct(field.type):
                parts = [field.type.field(i).name for i in range(field.type.num_fields)]
                if not self.reading.with_images:
                    parts = [part for part in parts if part != "bytes"]
                columns += [f"image.{part}" for part in parts]
            elif field.name == "image" and _is_binary(field.type):
                columns += ["image"] * self.reading.with_images
            elif field.name in _READ:
                columns.append(field.name)
        if not STATING_FIELDS.intersection(schema.names):
            names = ", ".join(schema.names[:20])
            raise AuditError(f"{path} has no column that states an image; its columns are {names}")
        return [*columns, *(name for name in _CAPTIONS if name in schema.names)]

    def _write_file(self, path: Path, output: Path, left_out: Mask) -> int:
        """Writes a file without some rows, row group by row group; returns its number of rows."""
        file = _opened(path)
        metadata = file.metadata
        start = 0
        with atomic_write(output) as target:
            codec = "NONE"
            if metadata.num_row_groups and metadata.num_columns:
                codec = metadata.row_group(0).column(0).compression
            with pq.ParquetWriter(target, file.schema_arrow, compression=codec) as writer:
                for group in range(metadata.num_row_groups):
                    try:
                        table = file.read_row_group(group, use_threads=False)
                    except (pa.ArrowException, OSError) as error:
                        raise AuditError(f"{path} is damaged: {error}") from error
                    mask = left_out[start : start + table.num_rows]
                    check_number(path, table.num_rows, mask)
                    start += table.num_rows
                    if not mask.all():
                        remaining = table.filter(pa.array(~mask))
                        writer.write_table(remaining, row_group_size=remaining.num_rows)
        return start


def _contains_images(schema: pa.Schema) -> bool:
    """Returns whether the column ``image`` has the bytes of images."""
    if "image" not in schema.names:
        return False
    type_ = schema.field("image").type
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        type_ = type_.value_type
    has_bytes: bool = pa.types.is_struct(type_) and type_.get_field_index("bytes") >= 0
    return has_bytes or _is_binary(type_)


def _is_binary(type_: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


def _divided(image: object) -> tuple[object, bytes | None]:
    """Returns the path and the bytes of an image: a struct of them, or either alone."""
    if isinstance(image, dict):
        return image.get("path"), image.get("bytes") or None
    if isinstance(image, bytes):
        return None, image or None
    return image, None


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise AuditError(f"{path} is not a Parquet file: {error}") from error


def _batches(path: Path, file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from file.iter_batches(BATCH_ROWS, columns=list(columns), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise AuditError(f"{path} is damaged: {error}") from error


def _caption_counts(batch: pa.RecordBatch) -> Sequence[int]:
    """Returns the number of captions of each row: of a list its length, else one."""
    for name in _CAPTIONS:
        if name in batch.schema.names:
            column = batch.column(batch.schema.names.index(name))
            if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
                counts = pc.fill_null(pc.list_value_length(column), 0)
            else:
                counts = pc.cast(pc.is_valid(column), pa.int64())
            return list(map(int, counts.to_pylist()))
    return [0] * batch.num_rows
