"""Parquet files: those of Hugging Face datasets, one or a folder of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shards.atomic import atomic_write
from shards.atomic_folder import atomic_folder
from shards.audit.files.annotation_file import (
    AnnotationFile,
    Mask,
    Reading,
    check_number,
    left_out_line,
)
from shards.audit.files.errors import AuditError
from shards.audit.files.statements import STATING_FIELDS, Statement, converted, state

BATCH_ROWS = 1024
_CAPTIONS = ("captions", "caption", "grounding")
_READ = STATING_FIELDS | {"data_source", "dataset_name", "split"}


class Parquet(AnnotationFile):
    """A Parquet file, or a folder with some, of one row per image or caption."""

    format = "Parquet"

    def __init__(self, path: Path, reading: Reading) -> None:
        super().__init__(path, reading)
        self._files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]

    def statements(self) -> Iterator[Statement]:
        number = 0
        for path in self._files:
            file = _opened(path)
            columns = self._columns(path, file.schema_arrow)
            for batch in _batches(path, file, columns):
                captions = _caption_counts(batch)
                rows = batch.select([n for n in batch.schema.names if n in _READ]).to_pylist()
                for row, count in zip(rows, captions, strict=True):
                    statement = self._statement(row, number)
                    if statement is not None:
                        yield statement._replace(captions=int(count))
                    number += 1

    def write(self, output: Path, left_out: Mask) -> list[str]:
        if not self.path.is_dir():
            number = self._write_file(self.path, output, left_out)
            check_number(self.path, number, left_out)
            return [left_out_line(int(left_out.sum()), "row")]
        number = 0
        with atomic_folder(output) as folder:
            for path in self._files:
                target = folder / path.relative_to(self.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                number += self._write_file(path, target, left_out[number:])
            check_number(self.path, number, left_out)
        others = sum(1 for path in self.path.rglob("*") if path.is_file()) - len(self._files)
        lines = [left_out_line(int(left_out.sum()), "row")]
        if others:
            lines.append(f"not written: {others:,} files of {self.path} that are not Parquet")
        return lines

    def _statement(self, row: dict[str, Any], number: int) -> Statement | None:
        image, content = row.get("image"), None
        if isinstance(image, dict):
            content = image.get("bytes")
            row = row | {"image": image.get("path")}
        record = converted(row)
        if record is not None and self.reading.role == "eval" and record.is_of_train():
            return None
        statement = state(record, self.reading.namespace, number=number)
        return statement._replace(content=content) if content else statement

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
