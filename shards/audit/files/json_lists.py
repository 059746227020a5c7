"""Lists of records or of names: JSON lists, JSON lines (ODVG, GRIT), lines of text, and pickles."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from schemas import safe_pickle
from schemas.limits import MAX_WHOLE_FILE_BYTES
from shards.atomic import atomic_write
from shards.audit.files.annotation_file import (
    AnnotationFile,
    Mask,
    check_number,
    check_plain,
    left_out_line,
    open_stream,
)
from shards.audit.files.errors import AuditError
from shards.audit.files.json_stream import (
    BLOCK_BYTES,
    MAX_ELEMENT_BYTES,
    Elements,
    Text,
    split_json,
)
from shards.audit.files.statements import (
    Reading,
    Record,
    Statement,
    converted,
    decode_records,
    place_of,
    state_name,
    states,
)


class JsonList(AnnotationFile):
    """A JSON list of records, ids or file names."""

    format = "JSON list"

    def statements(self) -> Iterator[Statement]:
        number = 0
        with open_stream(self.path) as file:
            for chunk in split_json(file, str(self.path)):
                if isinstance(chunk, Elements):
                    for element in self._elements(chunk):
                        yield from _statements(element, self.reading, number)
                        number += 1

    def write(self, output: Path, left_out: Mask) -> list[str]:
        check_plain(self.path)
        number = 0
        with open_stream(self.path) as file, atomic_write(output) as target:
            writer = ListWriter(target)
            for chunk in split_json(file, str(self.path)):
                if isinstance(chunk, Text):
                    writer.write_text(chunk)
                else:
                    writer.write(chunk, left_out[number : number + chunk.number])
                    number += chunk.number
            check_number(self.path, number, left_out)
        return [left_out_line(int(left_out.sum()), "record")]

    def _elements(self, chunk: Elements) -> list[Any]:
        if chunk.element(0).startswith(b"{"):
            return decoded(self.path, chunk)
        try:
            elements: list[Any] = msgspec.json.decode(chunk.json())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise AuditError(f"{self.path} is not JSON: {error}") from error
        return [converted(e) if isinstance(e, dict) else e for e in elements]


class JsonLines(AnnotationFile):
    """JSON lines of records: ODVG, GRIT and others."""

    format = "JSON lines"

    def statements(self) -> Iterator[Statement]:
        number = 0
        for lines in _batches_of_lines(self.path):
            filled = list(filter(None, map(_stripped, lines)))
            try:
                records = decode_records(b"[" + b",".join(filled) + b"]")
            except ValueError:
                records = []
            if len(records) != len(filled):  # a line is no JSON
                records = [self._record(line) for line in filled]
            for record in records:
                yield from _statements(record, self.reading, number)
                number += 1

    @staticmethod
    def _record(line: bytes) -> Record | None:
        try:
            [record] = decode_records(b"[" + line + b"]")
        except ValueError:
            return None
        return record

    def write(self, output: Path, left_out: Mask) -> list[str]:
        return _write_lines(self.path, output, left_out)


class TextList(AnnotationFile):
    """Lines of ids or file names."""

    format = "list"

    def statements(self) -> Iterator[Statement]:
        for lines in _batches_of_lines(self.path):
            for line in lines:
                if name := _stripped(line):
                    text = name.decode("utf-8", "backslashreplace")
                    yield state_name(text, self.reading.namespace)

    def write(self, output: Path, left_out: Mask) -> list[str]:
        return _write_lines(self.path, output, left_out)


class PickledList(AnnotationFile):
    """A pickled list of records or ids, as RefCOCO's references; it is never written."""

    format = "pickle"

    def statements(self) -> Iterator[Statement]:
        with open_stream(self.path) as file:
            content = file.read(MAX_WHOLE_FILE_BYTES + 1)
        if len(content) > MAX_WHOLE_FILE_BYTES:
            raise AuditError(f"{self.path}: more than {MAX_WHOLE_FILE_BYTES >> 20} MiB of a pickle")
        try:
            data = safe_pickle.loads(content, str(self.path))
        except safe_pickle.PickleError as error:
            raise AuditError(str(error)) from error
        if not isinstance(data, list | set | frozenset | tuple):
            raise AuditError(f"{self.path}: expected a pickled list, found {type(data).__name__}")
        for number, element in enumerate(data):
            record = converted(element) if isinstance(element, dict) else element
            yield from _statements(record, self.reading, number)

    def write(self, output: Path, left_out: Mask) -> list[str]:
        raise AuditError(f"{self.path} is a pickle, which --write does not write")


class ListWriter:
    """Writes the elements of lists without some of them; all other bytes as they were."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._is_first = True

    def write_text(self, text: Text) -> None:
        """Writes what is outside of lists."""
        self._file.write(text.content)
        self._is_first = True

    def write(self, elements: Elements, left_out: Mask) -> None:
        """Writes elements except those that are left out."""
        remaining = np.flatnonzero(~left_out)
        if not len(remaining):
            return
        # Neighbors are written at once.
        for run in np.split(remaining, np.flatnonzero(np.diff(remaining) > 1) + 1):
            content = elements.content[elements.starts[run[0]] : elements.starts[run[-1] + 1]]
            if self._is_first:
                content = content.removeprefix(b",")
            self._file.write(content)
            self._is_first = False


def decoded(path: Path, chunk: Elements) -> list[Record | None]:
    """Returns the records of a list's elements; None for one that cannot be read.

    Raises:
        AuditError: They are not JSON.
    """
    try:
        records = decode_records(chunk.json())
    except ValueError as error:
        raise AuditError(f"{path} is not JSON, in {chunk.name or 'its list'}: {error}") from error
    if len(records) != chunk.number:
        raise AuditError(f"{path} is not JSON, in {chunk.name or 'its list'}: a value is missing")
    return records


def _statements(element: Any, reading: Reading, number: int) -> list[Statement]:
    """Returns what an element states."""
    if isinstance(element, Record):
        return states(element, reading, place_of(number))
    if isinstance(element, str | int | float) and not isinstance(element, bool):
        is_whole = isinstance(element, float) and element.is_integer()
        name = str(int(element) if is_whole else element).strip()
        return [state_name(name, reading.namespace)]
    return states(None, reading, place_of(number))


def _stripped(line: bytes) -> bytes:
    return line.removeprefix(codecs.BOM_UTF8).strip()


def _batches_of_lines(path: Path) -> Iterator[list[bytes]]:
    """Yields the lines of a file with their ends, some megabytes at a time."""
    with open_stream(path) as file:
        rest = b""
        while block := file.read(BLOCK_BYTES):
            *lines, rest = (rest + block).splitlines(keepends=True) or [b""]
            if rest.endswith(b"\n"):
                lines.append(rest)
                rest = b""
            if len(rest) > MAX_ELEMENT_BYTES:
                raise AuditError(f"{path}: a line has more than {MAX_ELEMENT_BYTES >> 20} MiB")
            yield lines
        if rest:
            yield [rest]


def _write_lines(path: Path, output: Path, left_out: Mask) -> list[str]:
    check_plain(path)
    number = 0
    with atomic_write(output) as target:
        for lines in _batches_of_lines(path):
            remaining = []
            for line in lines:
                if _stripped(line):
                    if number < len(left_out) and left_out[number]:
                        number += 1
                        continue
                    number += 1
                remaining.append(line)
            target.write(b"".join(remaining))
        check_number(path, number, left_out)
    return [left_out_line(int(left_out.sum()), "line")]
