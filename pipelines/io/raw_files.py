"""Raw files: opened where they lie, unpacked from their zips, and cut into slices.

A big JSON file is validated once, as a whole, by msgspec over a memory map (about 0.7 GB/s), which
also tells where each element begins. Slices of whole elements are then decoded in parallel.
"""

import contextlib
import hashlib
import json
import mmap
import re
import shutil
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import msgspec
import numpy as np
import numpy.typing as npt
from apache_beam.io.filesystems import FileSystems

from pipelines.sources.base import Input, Slice
from schemas import Rejected

# A file becomes at least this many slices, so that workers are done at about the same time, of at
# most about this size, so that what is decoded at once is small.
SLICES = 64
SLICE_BYTES = 4 << 20
LINES_PER_SLICE = 512
READ_AHEAD = 1 << 20  # bytes of a file from afar beyond what is read

_COLON = re.compile(r"\s*:\s*")


class RawFileError(Exception):
    """A file cannot be read, or is not what it should be: which, what was expected and found."""


class StoreError(Exception):
    """A store cannot be asked at all: no such kind, not installed, no connection, no permission."""


class Cut(msgspec.Struct, frozen=True):
    """Where a slice lies: bytes [start, stop) of ``path``, which is never a zip."""

    source: str
    rank: int  # of the input among the source's inputs
    input: Input
    path: str
    start: int
    stop: int


def is_local(path: str) -> bool:
    return FileSystems.get_scheme(path) is None


def exists(path: str) -> bool:
    """Whether a file or a folder is there (a bucket has folders only in names).

    Raises:
        StoreError: its store cannot be asked.
    """
    system, name = (None, path) if is_local(path) else _afar(path)
    try:
        return system.exists(name) if system else Path(path).exists()
    except Exception as error:  # each kind of store has its own, with no class in common
        raise StoreError(f"{path}: {type(error).__name__}: {error}") from error


def version(path: str) -> tuple[int, str]:
    """Size and time of a file, by which to know that it was written anew."""
    if is_local(path):
        found = Path(path).stat()
        return found.st_size, str(found.st_mtime_ns)
    system, name = _afar(path)
    return system.size(name), str(system.modified(name))


def open_binary(path: str, *, read_ahead: bool = True) -> BinaryIO:
    """The file as it is: a ``.gz`` or ``.bz2`` ending changes nothing. It can be sought in.

    From afar, without ``read_ahead`` every read is a request, of the bytes that are read.

    Raises:
        FileNotFoundError: there is none.
        RawFileError: it cannot be read.
        StoreError: its store cannot be asked.
    """
    if is_local(path):
        try:
            return Path(path).open("rb")
        except (IsADirectoryError, PermissionError) as error:
            raise RawFileError(f"{path}: cannot be read: {error.strerror}") from error
    system, name = _afar(path)
    cache = "readahead" if read_ahead else "none"
    return system.open(name, "rb", block_size=READ_AHEAD, cache_type=cache)


def read_beginning(path: str, size: int) -> bytes:
    """A file as far as so many bytes, from afar in one request.

    Raises:
        FileNotFoundError, RawFileError: as `open_binary`.
    """
    if is_local(path):
        with open_binary(path) as file:
            return file.read(size)
    system, name = _afar(path)
    return system.cat_file(name, start=0, end=size)


def _afar(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URL, and the name in it.

    Beam's own make a client for every file, which for an image takes longer than to read it.

    Raises:
        StoreError: there is no such kind of URL, or what it needs is not installed.
    """
    try:
        return fsspec.url_to_fs(path, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise StoreError(f"{path}: {error}") from error


def cut(source: str, rank: int, input: Input, scratch: str) -> Iterator[Cut | Rejected]:
    """Cuts an input into slices of about ``SLICE_BYTES``, at element borders.

    A zip is unpacked below ``scratch`` first, so that its slices can be read apart.

    Raises:
        RawFileError: not a zip, no such member, not JSON of the layout, truncated, not UTF-8 text.
    """
    if input.layout == "file":
        yield Cut(source, rank, input, input.path, 0, 0)
        return
    path = _unpacked(input.path, scratch) if input.path.endswith(".zip") else input.path
    repeated: list[str] = []
    with _local_copy(path) as local:
        if local.is_dir():
            raise RawFileError(f"{input.path}: a folder; expected {_expected(input)}")
        if local.stat().st_size == 0:
            if input.layout == "lines":
                return
            raise RawFileError(f"{input.path}: empty file; expected {_expected(input)}")
        content = _mapped(local)
        if input.layout == "lines":
            borders = list(_line_borders(content))
        elif input.layout == "list":
            borders = list(_grouped(_elements(content, input)))
        else:
            borders = list(_grouped(_entries(content, input, repeated)))
    for start, stop in borders:
        yield Cut(source, rank, input, path, start, stop)
    for key in repeated:
        name = Path(input.path).name
        yield Rejected(source, key, "duplicate id", f"{name}: the last one was kept")


def read(cut: Cut) -> Slice:
    """The slice's bytes; for a JSON list or dict with its brackets put back."""
    if cut.input.layout == "file":
        return Slice(cut.input, b"")
    with open_binary(cut.path) as file:
        file.seek(cut.start)
        content = file.read(cut.stop - cut.start)
    if len(content) != cut.stop - cut.start:
        raise RawFileError(f"{cut.path}: shorter than when it was cut; it changed during the build")
    if cut.input.layout == "list":
        content = b"[" + content + b"]"
    elif cut.input.layout == "dict":
        content = b"{" + content + b"}"
    return Slice(cut.input, content)


def mapped(path: str) -> mmap.mmap:
    """A whole file, mapped; from afar or in a zip, a copy of it, which is gone with the map.

    Raises:
        RawFileError: it is empty, or cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        unpacked = _unpacked(path, folder) if path.endswith(".zip") else path
        with _local_copy(unpacked) as local:
            if local.stat().st_size == 0:
                raise RawFileError(f"{path}: empty file")
            return _mapped(local)


def _mapped(local: Path) -> mmap.mmap:
    with local.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _expected(input: Input) -> str:
    kind = {"list": "a JSON list", "dict": "a JSON object", "lines": "lines of text"}[input.layout]
    return f'{kind} under the key "{input.within}"' if input.within else kind


@contextlib.contextmanager
def _local_copy(path: str) -> Iterator[Path]:
    if is_local(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "copy"
        with open_binary(path) as remote, local.open("wb") as file:
            shutil.copyfileobj(remote, file, 16 << 20)
        yield local


def _unpacked(path: str, scratch: str) -> str:
    """The only data member of a zip, written below ``scratch`` under a name made from the path."""
    suffix = Path(path.removesuffix(".zip")).suffix or ".json"
    name = hashlib.sha256(path.encode()).hexdigest()[:16] + suffix
    target = FileSystems.join(scratch, name)
    temporary = f"{target}.{uuid.uuid4().hex}"
    try:
        with open_binary(path) as file, zipfile.ZipFile(file) as archive:
            members = [
                m
                for m in archive.infolist()
                if m.filename.endswith(suffix) and not m.filename.startswith("__MACOSX")
            ]
            if len(members) != 1:
                raise RawFileError(
                    f"{path}: expected one {suffix} file in the zip, found {len(members)}"
                )
            with (
                archive.open(members[0]) as packed,
                FileSystems.create(temporary, compression_type="uncompressed") as unpacked,
            ):
                shutil.copyfileobj(packed, unpacked, 16 << 20)
    # zipfile has no class of its own for an encrypted member (RuntimeError) or an unknown method
    # (NotImplementedError, which is one).
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise RawFileError(f"{path}: not a readable zip file: {error}") from error
    FileSystems.rename([temporary], [target])
    return target


def _line_borders(content: mmap.mmap) -> Iterator[tuple[int, int]]:
    starts = [0, *(m.end() for m in re.finditer(rb"\n", content))]
    if starts[-1] != len(content):
        starts.append(len(content))
    for i in range(0, len(starts) - 1, LINES_PER_SLICE):
        yield starts[i], starts[min(i + LINES_PER_SLICE, len(starts) - 1)]


def _grouped(runs: list[list[tuple[int, int]]]) -> Iterator[tuple[int, int]]:
    """Consecutive elements of a run as slices, cut once they have reached the size."""
    enough = min(SLICE_BYTES, sum(run[-1][1] - run[0][0] for run in runs if run) // SLICES)
    for run in runs:
        first = 0
        for i, (_, stop) in enumerate(run):
            if stop - run[first][0] >= enough or i == len(run) - 1:
                yield run[first][0], stop
                first = i + 1


def element_borders(content: mmap.mmap, input: Input) -> npt.NDArray[np.int64]:
    """Where each element of the input's JSON list begins and ends in the file: shape (n, 2).

    Raises:
        RawFileError: it is not JSON, or has no such list.
    """
    base = _address(content)
    elements = _decode(_inner(content, input), list[msgspec.Raw], input)
    starts = np.fromiter((_address(e) - base for e in elements), np.int64, len(elements))
    sizes = np.fromiter((len(memoryview(e)) for e in elements), np.int64, len(elements))
    return np.stack([starts, starts + sizes], axis=1)


def _elements(content: mmap.mmap, input: Input) -> list[list[tuple[int, int]]]:
    """The elements of the JSON list, as one run."""
    return [[(start, stop) for start, stop in element_borders(content, input).tolist()]]


def _entries(content: mmap.mmap, input: Input, repeated: list[str]) -> list[list[tuple[int, int]]]:
    """Where each entry of the JSON dict begins (at its key's quote) and ends.

    Of a key that occurs again msgspec keeps the last value. The earlier entries then lie between
    two others: their keys are added to ``repeated``, and they end a run of entries.
    """
    inner = _inner(content, input)
    entries = _decode(inner, dict[str, msgspec.Raw], input)
    base = _address(content)
    values = sorted((_address(value) - base, len(memoryview(value))) for value in entries.values())
    runs: list[list[tuple[int, int]]] = [[]]
    stop = _address(inner) - base + 1
    for start, length in values:
        between = content[stop:start]
        key = between.find(b'"')
        if between.count(b'"') != 2:
            *earlier, (key, _) = _keys(between)
            if earlier:
                repeated.extend(name for _, name in earlier)
                runs.append([])
        runs[-1].append((stop + key, start + length))
        stop = start + length
    return [run for run in runs if run]


def _keys(entries: bytes) -> Iterator[tuple[int, str]]:
    """Where the key of each entry begins, and its name; of the last entry the value is missing."""
    text = entries.decode("latin-1")  # one character a byte
    decoder = json.JSONDecoder(strict=False)
    start = text.index('"')
    while start >= 0:
        _, stop = decoder.raw_decode(text, start)
        yield start, msgspec.json.decode(entries[start:stop], type=str)
        value = _COLON.match(text, stop)
        assert value is not None  # the file as a whole was found to be JSON
        if value.end() == len(text):
            return
        _, stop = decoder.raw_decode(text, value.end())
        start = text.find('"', stop)


def _inner(content: mmap.mmap, input: Input) -> "mmap.mmap | msgspec.Raw":
    """The part of the file that is to be cut: all of it, or what lies under ``within``."""
    if not input.within:
        return content
    top = _decode(content, dict[str, msgspec.Raw], input)
    if input.within not in top:
        found = ", ".join(sorted(top)[:8]) or "nothing"
        raise RawFileError(f"{input.path}: expected {_expected(input)}, found the keys {found}")
    return top[input.within]


def _decode(content: "mmap.mmap | msgspec.Raw", layout: Any, input: Input) -> Any:
    try:
        return msgspec.json.decode(memoryview(content), type=layout)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RawFileError(f"{input.path}: expected {_expected(input)}: {error}") from error


def _address(buffer: "mmap.mmap | msgspec.Raw") -> int:
    return np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
