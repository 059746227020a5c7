"""Slices of raw files: the units that are read in parallel.

A big JSON file is validated once, as a whole, by msgspec over a memory map (about 0.7 GB/s), which
also gives the position of each element. Slices of whole elements are then decoded in parallel.
"""

import codecs
import json
import mmap
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from pipelines.io.archives import file_name, unpack
from pipelines.io.json_repair import scannable
from pipelines.io.raw_files import RawFileError, local_copy, map_local, open_binary
from schemas import Rejected
from schemas.decodable import decodable
from schemas.licenses import MALFORMED_LICENSE
from schemas.limits import (
    FREE_ELEMENTS,
    MAX_CATEGORIES_BYTES,
    MAX_LICENSES_BYTES,
    MAX_LINE_BYTES,
    MAX_RECORD_BYTES,
    MAX_ROW_BYTES,
    MIN_COMMA_DISTANCE,
    MIN_ELEMENT_BYTES,
)

# A file is divided into at least this many slices, to balance the workers, of at most about this
# size, to bound the memory of decoding.
SLICES = 64
SLICE_BYTES = 4 << 20
LINES_PER_SLICE = 512

_BLOCK_BYTES = 1 << 17  # scanned at once, which takes 35 times as much memory
_OPENING, _CLOSING = (np.frombuffer(brackets, np.uint8) for brackets in (b"[{", b"]}"))
T = TypeVar("T")

_COLON = re.compile(r"\s*:\s*")

Layout = Literal["list", "dict", "lines", "jsonl", "csv", "file"]
_KINDS: dict[Layout, str] = {
    "list": "a JSON list",
    "dict": "a JSON object",
    "lines": "lines of text",
    "jsonl": "lines of JSON",
    "csv": "a table",
    "file": "a file",
}

_Range = tuple[int, int]  # bytes [start, stop) of a file

_MAX_BESIDE_BYTES = {"licenses": MAX_LICENSES_BYTES, "categories": MAX_CATEGORIES_BYTES}


class Input(msgspec.Struct, frozen=True):
    """One raw file, and the layout by which it is sliced.

    ``list`` and ``dict``: JSON whose top level is that (or, with ``within``, whose top level is a
    dict that has it under that key), sliced between elements. ``lines``: text, sliced between
    lines. ``jsonl``: a JSON value on each line, sliced between lines. ``csv``: a table whose
    first row is its header, sliced between rows. ``file``: one slice. The path may lead into an
    archive, see `pipelines.io.archives`.
    ``beside`` is another key of the dict that has ``within``: its value, if there is one, goes with
    each slice.
    """

    path: str
    layout: Layout
    within: str = ""
    role: str = ""  # for readers with more than one kind of file
    beside: str = ""  # a key of `_MAX_BESIDE_BYTES`


class SliceRange(msgspec.Struct, frozen=True):
    """The location of a slice: bytes [start, stop) of ``path``, which is never a zip."""

    source: str
    rank: int  # of the input among the source's inputs
    input: Input
    path: str
    start: int
    stop: int
    first: int = 0  # position of its first element in a list
    beside: _Range = (0, 0)  # bytes of the JSON under the key `Input.beside`, or of a header


class Slice(msgspec.Struct, frozen=True):
    """The content of a slice, unpacked, with whole elements.

    For ``list`` and ``dict`` it is itself a JSON list or dict; for ``file`` it is empty, and the
    reader opens ``input.path`` itself. ``first`` is the position in the file of a list's first
    element, or the first byte of rows; ``beside`` the JSON under the key `Input.beside`, empty if
    there is none, or the header of a table.
    """

    input: Input
    content: bytes
    first: int = 0
    beside: bytes = b""


def find_slices(
    source: str, rank: int, input: Input, scratch: str
) -> Iterator[SliceRange | Rejected]:
    """Divides an input into slices of about ``SLICE_BYTES``, between elements.

    A zip is unpacked below ``scratch`` first, so that its slices can be read independently. A key
    that a JSON dict repeats is rejected; its last value is in a slice. So are elements and lines
    that are too large to be read.

    Raises:
        RawFileError: Not a zip, no such member, not JSON of the layout, truncated, not UTF-8 text,
            nested too deeply.
    """
    if input.layout == "file":
        yield SliceRange(source, rank, input, input.path, start=0, stop=0)
        return
    path = unpack(input.path, scratch)
    name = file_name(input.path)
    with local_copy(path) as local:
        if local.is_dir():
            raise RawFileError(f"{input.path}: a folder; expected {_expected(input)}")
        if local.stat().st_size == 0:
            if input.layout == "lines":
                return
            raise RawFileError(f"{input.path}: empty file; expected {_expected(input)}")
        elements = _Elements(map_local(local), input)
    for (start, stop), first in zip(elements.ranges, elements.firsts, strict=True):
        yield SliceRange(source, rank, input, path, start, stop, first, elements.beside)
    for key in elements.repeated_keys:
        yield Rejected(source, key, "duplicate id", f"{name}: the last one was kept")
    for key, start, size in elements.too_large:
        detail = f"{name}: {size} bytes from byte {start}"
        yield Rejected(source, key, "record too large", detail)
    if elements.beside_error and input.beside != "licenses":
        raise RawFileError(f"{input.path}: its {input.beside} have {elements.beside_error}")
    if elements.beside_error:
        detail = f"{name}: {elements.beside_error}"
        yield Rejected(source, input.beside, MALFORMED_LICENSE, detail)


def read_slice(slice_range: SliceRange) -> Slice:
    """Reads a slice; of a JSON list or dict, with its brackets added.

    Raises:
        RawFileError: The file has become shorter since its slices were found.
    """
    layout = slice_range.input.layout
    if layout == "file":
        return Slice(slice_range.input, b"")
    with open_binary(slice_range.path, read_ahead=0) as file:
        content, beside = (
            _read_range(file, of_file, slice_range.path)
            for of_file in ((slice_range.start, slice_range.stop), slice_range.beside)
        )
    if layout == "list":
        content = b"[" + content + b"]"
    elif layout == "dict":
        content = b"{" + content + b"}"
    return Slice(slice_range.input, content, slice_range.first, beside)


def _read_range(file: BinaryIO, of_file: _Range, path: str) -> bytes:
    start, stop = of_file
    if start == stop:
        return b""
    file.seek(start)
    content = file.read(stop - start)
    if len(content) != stop - start:
        raise RawFileError(
            f"{path}: shorter than when its slices were found; it changed during the build"
        )
    return content


def element_ranges(content: mmap.mmap, input: Input) -> npt.NDArray[np.int64]:
    """Returns the byte range [start, stop) of each element of the input's JSON list: (n, 2).

    Raises:
        RawFileError: It is not JSON, or has no such list.
    """
    return _of_scannable(content, lambda scanned: _element_ranges(scanned, input))[0]


def _element_ranges(content: mmap.mmap, input: Input) -> tuple[npt.NDArray[np.int64], _Range]:
    """Returns the range of each element, and that of the value beside the list."""
    base = _address(content)
    inner, beside = _inner(content, input)
    _check_density(inner, input)
    elements = _decode(inner, list[msgspec.Raw], input)
    starts = np.fromiter((_address(e) - base for e in elements), np.int64, len(elements))
    sizes = np.fromiter((len(memoryview(e)) for e in elements), np.int64, len(elements))
    start = _address(beside) - base if beside else 0
    beside_range = (start, start + len(memoryview(beside)))
    return np.stack([starts, starts + sizes], axis=1), beside_range


class _Elements:
    """The byte ranges of the slices of a file, and the elements that are in none.

    Attributes:
        ranges: the slices.
        firsts: the position of the first element of each slice of a list; 0 of other slices.
        repeated_keys: the keys of a JSON dict of which a later value is in a slice.
        too_large: the name, first byte and size of elements that are too large to be read.
        beside: the bytes that go with each slice; ``beside_error``: why there are none.
    """

    def __init__(self, content: mmap.mmap, input: Input) -> None:
        self.repeated_keys: list[str] = []
        self.too_large: list[tuple[str, int, int]] = []
        self.beside, self.beside_error = (0, 0), ""
        if input.layout == "lines":
            self.ranges = list(self._line_ranges(content))
        elif input.layout == "csv":
            self.ranges = list(self._row_ranges(content, MAX_ROW_BYTES, has_header=True))
        elif input.layout == "jsonl":
            self.ranges = list(self._row_ranges(content, MAX_RECORD_BYTES))
        elif input.layout == "list":
            borders, beside = _of_scannable(content, lambda text: _element_ranges(text, input))
            self._add_beside(beside, input)
            if (borders[:, 1] - borders[:, 0]).max(initial=0) <= MAX_RECORD_BYTES:
                self.ranges = list(_grouped_array(borders))
            else:
                elements = [(start, stop) for start, stop in borders.tolist()]
                self.ranges = list(_grouped(self._small_enough([elements], content, input)))
        else:
            runs = _of_scannable(content, lambda text: _entries(text, input, self.repeated_keys))
            self.ranges = list(_grouped(self._small_enough(runs, content, input)))
        self.firsts = [0] * len(self.ranges)
        if input.layout == "list":
            starts = [start for start, _ in self.ranges]
            self.firsts = np.searchsorted(borders[:, 0], starts).tolist()
        elif input.layout in ("csv", "jsonl"):
            self.firsts = [start for start, _ in self.ranges]

    def _add_beside(self, beside: _Range, input: Input) -> None:
        start, stop = beside
        if stop - start <= _MAX_BESIDE_BYTES.get(input.beside, 0):
            self.beside = beside
        else:
            self.beside_error = f"{stop - start} bytes from byte {start}"

    def _small_enough(
        self, runs: list[list[_Range]], content: mmap.mmap, input: Input
    ) -> list[list[_Range]]:
        """Returns runs of elements, split where one is too large."""
        if all(stop - start <= MAX_RECORD_BYTES for run in runs for start, stop in run):
            return runs
        split: list[list[_Range]] = []
        position = 0
        for run in runs:
            split.append([])
            for start, stop in run:
                if stop - start <= MAX_RECORD_BYTES:
                    split[-1].append((start, stop))
                else:
                    beginning = content[start : start + 200]
                    key = str(position) if input.layout == "list" else _key_at(beginning)
                    self.too_large.append((key, start, stop - start))
                    split.append([])
                position += 1
        return [run for run in split if run]

    def _line_ranges(self, content: mmap.mmap) -> Iterator[_Range]:
        line = rb"[^\n]{0,%d}\n" % (MAX_LINE_BYTES - 1)
        last_line = rb"[^\n]{1,%d}\Z" % MAX_LINE_BYTES
        lines = re.compile(rb"(?:%b){0,%d}(?:%b|%b)" % (line, LINES_PER_SLICE - 1, line, last_line))
        start = len(content) - len(without_mark(content))
        while start < len(content):
            match = lines.match(content, start)
            if match:
                stop = match.end()
                yield start, stop
            else:
                end = content.find(b"\n", start)
                stop = end + 1 if end >= 0 else len(content)
                self.too_large.append(("line", start, stop - start))
            start = stop

    def _row_ranges(
        self, content: mmap.mmap, limit: int, *, has_header: bool = False
    ) -> Iterator[_Range]:
        """Yields ranges of rows of at most ``limit`` bytes. Sets ``beside``, if it has a header.

        In a table, which has one, a line break within quotes ends no row; JSON escapes line breaks.
        """
        start = len(content) - len(without_mark(content))
        if has_header:
            end = content.find(b"\n", start, start + limit) + 1 or len(content)
            self.beside = (start, end)
            start = end
        size = max(limit, min(SLICE_BYTES, len(content) // SLICES))
        while start < len(content):
            ends = _row_ends(content, start, min(start + size, len(content)), quoted=has_header)
            lengths = np.diff(ends, prepend=start)
            fitting = int((np.cumsum(lengths > limit) == 0).sum())
            if fitting:
                yield start, int(ends[fitting - 1])
                start = int(ends[fitting - 1])
            else:  # a row without an end: a quote that is not closed
                stop = content.find(b"\n", start) + 1 or len(content)
                self.too_large.append(("row", start, stop - start))
                start = stop


def _row_ends(content: mmap.mmap, start: int, stop: int, *, quoted: bool) -> npt.NDArray[np.int64]:
    """Returns where the rows end that begin at ``start`` and end by ``stop``.

    ``quoted``: whether a line break within quotes ends none.
    """
    block = np.frombuffer(content, np.uint8, stop - start, start)
    is_end = block == ord("\n")
    if quoted:  # a quote in a quoted text is doubled, which leaves the parity as it is
        is_end &= np.cumsum(block == ord('"'), dtype=np.uint8) % 2 == 0
    ends = np.flatnonzero(is_end) + 1 + start
    if stop == len(content) and (not len(ends) or ends[-1] < stop):
        ends = np.append(ends, stop)  # the last row has no line break
    return ends


def _key_at(entry: bytes) -> str:
    """Returns the key that an entry of a JSON dict begins with; its bytes if it is too long."""
    try:
        key, _ = json.JSONDecoder(strict=False).raw_decode(entry.decode("utf-8", "replace"))
    except ValueError:
        return ascii(entry[:100])
    return str(key)


def _of_scannable(content: mmap.mmap, scan: Callable[[mmap.mmap], T]) -> T:
    """Returns the positions that a scan of a file finds, also if single records are not JSON."""
    try:
        return scan(content)
    except RawFileError:
        patched = scannable(content)
        if patched is None:
            raise
        return scan(patched)


def _expected(input: Input) -> str:
    kind = _KINDS[input.layout]
    return f'{kind} under the key "{input.within}"' if input.within else kind


def _grouped_array(ranges: npt.NDArray[np.int64]) -> Iterator[_Range]:
    """Does the same as `_grouped` for one run, in an array."""
    starts, stops = ranges.T
    slice_size = min(SLICE_BYTES, int(stops[-1] - starts[0]) // SLICES) if len(ranges) else 0
    first = 0
    while first < len(ranges):
        last = int(np.searchsorted(stops, max(starts[first] + slice_size, stops[first])))
        last = min(last, len(ranges) - 1)
        yield int(starts[first]), int(stops[last])
        first = last + 1


def _grouped(runs: list[list[_Range]]) -> Iterator[_Range]:
    """Joins consecutive elements of each run into ranges of the size of a slice."""
    total = sum(run[-1][1] - run[0][0] for run in runs if run)
    slice_size = min(SLICE_BYTES, total // SLICES)
    for run in runs:
        first = 0
        for i, (_, stop) in enumerate(run):
            if stop - run[first][0] >= slice_size or i == len(run) - 1:
                yield run[first][0], stop
                first = i + 1


def _entries(content: mmap.mmap, input: Input, repeated_keys: list[str]) -> list[list[_Range]]:
    """Returns runs of entries of the JSON dict, each from its key's quote to its value's end.

    For a repeated key, msgspec keeps the last value. Earlier entries then are gaps between others:
    they end a run of entries, and their keys are added to ``repeated_keys``.
    """
    inner, _ = _inner(content, input)
    _check_density(inner, input)
    entries: dict[str, msgspec.Raw] = _decode(inner, dict[str, msgspec.Raw], input)
    base = _address(content)
    values = sorted((_address(value) - base, len(memoryview(value))) for value in entries.values())
    runs: list[list[_Range]] = [[]]
    stop = _address(inner) - base + 1
    for start, length in values:
        between = content[stop:start]
        key = between.find(b'"')
        if between.count(b'"') != 2:
            if len(between) > MAX_RECORD_BYTES:
                raise RawFileError(
                    f"{input.path}: the entries from byte {stop} to {start} have keys that are "
                    f"repeated later; expected at most {MAX_RECORD_BYTES} bytes of them"
                )
            *earlier, (key, _) = _keys(between)
            if earlier:
                repeated_keys.extend(name for _, name in earlier)
                runs.append([])
        runs[-1].append((stop + key, start + length))
        stop = start + length
    return [run for run in runs if run]


def _keys(entries: bytes) -> Iterator[tuple[int, str]]:
    """Yields position and name of the key of each entry; the last entry lacks its value."""
    text = entries.decode("latin-1")  # one character per byte
    decoder = json.JSONDecoder(strict=False)
    start = text.index('"')
    while start >= 0:
        _, stop = decoder.raw_decode(text, start)
        yield start, msgspec.json.decode(entries[start:stop], type=str)
        value = _COLON.match(text, stop)
        assert value is not None  # the file as a whole is known to be JSON
        if value.end() == len(text):
            return
        _, stop = decoder.raw_decode(text, value.end())
        start = text.find('"', stop)


def _inner(content: mmap.mmap, input: Input) -> "tuple[memoryview | msgspec.Raw, msgspec.Raw]":
    """Returns the JSON that is sliced, and that of the key ``beside``, which may be empty.

    The former is the whole file, or the value of the key ``within``.
    """
    whole = without_mark(content)
    if not input.within:
        return whole, msgspec.Raw()
    top: dict[str, msgspec.Raw] = _decode(whole, dict[str, msgspec.Raw], input)
    if input.within not in top:
        keys = ", ".join(sorted(top)[:8]) or "nothing"
        raise RawFileError(f"{input.path}: expected {_expected(input)}, found the keys {keys}")
    beside = top.get(input.beside) if input.beside else None
    return top[input.within], beside or msgspec.Raw()


def _check_density(content: "memoryview | msgspec.Raw", input: Input) -> None:
    """Checks that a large list or dict is one of records: each takes memory until it is sliced.

    Elements are counted, by a scan that escaped quotes may mislead, only where commas are so dense
    that most elements may be mere numbers.

    Raises:
        RawFileError: The elements have less than `MIN_ELEMENT_BYTES` on average.
    """
    data = np.frombuffer(content, np.uint8)
    blocks = [data[i : i + _BLOCK_BYTES] for i in range(0, len(data), _BLOCK_BYTES)]
    limit = max(FREE_ELEMENTS, len(data) // MIN_ELEMENT_BYTES)
    commas = sum(int(np.count_nonzero(block == ord(","))) for block in blocks)
    if commas <= max(limit, len(data) // MIN_COMMA_DISTANCE[input.layout]):
        return
    count, depth, quotes = 0, 0, 0
    for block in blocks:
        is_quote = block == ord('"')
        is_quote[1:] &= block[:-1] != ord("\\")
        in_text = (np.cumsum(is_quote) + quotes) % 2 == 1
        change = np.isin(block, _OPENING).astype(np.int32) - np.isin(block, _CLOSING)
        change[in_text] = 0
        depths = np.cumsum(change) + depth
        count += int(np.count_nonzero((block == ord(",")) & (depths == 1) & ~in_text))
        depth, quotes = int(depths[-1]), quotes + int(np.count_nonzero(is_quote))
        if count > limit:
            raise RawFileError(
                f"{input.path}: expected {_expected(input)} of records, found more than {limit} "
                f"elements in {len(data)} bytes"
            )


def without_mark(content: mmap.mmap) -> memoryview:
    """Returns the text of a mapped file without the byte order mark that some editors write."""
    mark = codecs.BOM_UTF8
    return memoryview(content)[len(mark) if content[: len(mark)] == mark else 0 :]


def _decode(content: "memoryview | msgspec.Raw", layout: Any, input: Input) -> Any:
    try:
        return msgspec.json.decode(memoryview(content), type=decodable(layout))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RawFileError(f"{input.path}: expected {_expected(input)}: {error}") from error


def _address(buffer: "mmap.mmap | memoryview | msgspec.Raw") -> int:
    address: int = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    return address
