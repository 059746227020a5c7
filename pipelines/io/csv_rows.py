"""Rows of CSV files, read by the names of their columns."""

import csv
import io
from collections.abc import Iterator, Sequence

from pipelines.io.json_records import BadRecord
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import Slice


def read_rows(raw_slice: Slice, columns: Sequence[str]) -> Iterator[list[str] | BadRecord]:
    """Yields the values of some columns of each row of a slice, and the rows that are malformed.

    Empty lines are no rows.

    Raises:
        RawFileError: The file's header has not all of the columns.
    """
    [header] = _rows(raw_slice.beside) or [[]]
    missing = [column for column in columns if column not in header]
    if missing:
        raise RawFileError(
            f"{raw_slice.input.path}: no column {missing[0]}; its first line is "
            f"{','.join(header)[:200]!a}"
        )
    positions = [header.index(column) for column in columns]
    for number, row in enumerate(_rows(raw_slice.content)):
        if len(row) == len(header):
            values = [row[position] for position in positions]
            if all(value.isprintable() for value in values):
                yield values
                continue
            error = "not Unicode text, or with control characters"
        elif not row:
            continue
        else:
            error = f"{len(row)} columns, the header has {len(header)}"
        yield BadRecord(f"row {number} from byte {raw_slice.first}", error)


def _rows(content: bytes) -> list[list[str]]:
    # A surrogate, which stands for a byte that is not UTF-8, is not printable.
    text = content.decode("utf-8", "surrogateescape")
    return list(csv.reader(io.StringIO(text, newline="")))
