"""Plain tars: indexed once, then read at any member.

A tar has no directory: its headers are between the contents. They are read once, from end to end,
and what they state is kept in an index.
"""

import tarfile
import zlib
from array import array
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from pipelines.io.members import (
    OUTSIDE,
    Archive,
    DamagedArchiveError,
    MemberNames,
    leads_outside,
    normal_name,
)
from pipelines.io.raw_files import RawFileError

_BLOCK_BYTES = 16 << 20  # read at once
_END_BYTES = 1 << 16  # read at once after the end mark
_HEADER_BYTES = 512
_MAX_HEADER_BYTES = 1 << 20  # of a long name, or of the attributes of a member
_PROBLEMS = ("", OUTSIDE, "a link in the tar", "a sparse file in the tar", "not a file")

# Exceptions of tarfile on damaged headers.
_TAR_ERRORS = (
    tarfile.TarError,
    ValueError,
    LookupError,
    ArithmeticError,
    EOFError,
    RecursionError,
)


class TarIndex:
    """What the headers of a tar state of its members, folders left out, by their numbers.

    Attributes:
        names: The names, with numbers from 0.
        offsets: The first byte of each content.
        sizes: The bytes of each content.
        problems: Why a member cannot be read, as a position in ``_PROBLEMS``.
    """

    def __init__(
        self, names: MemberNames, offsets: "array[int]", sizes: "array[int]", problems: bytes
    ) -> None:
        self.names = names
        self.offsets = offsets
        self.sizes = sizes
        self.problems = problems

    def encode(self) -> bytes:
        """Returns the index as bytes, from which `decode` makes it again."""
        columns = (self.names.encode(), self.offsets.tobytes(), self.sizes.tobytes(), self.problems)
        return msgspec.msgpack.encode(columns)

    @classmethod
    def decode(cls, content: bytes) -> "TarIndex":
        """Returns the index that was encoded."""
        names, offsets, sizes, problems = msgspec.msgpack.decode(
            content, type=tuple[bytes, bytes, bytes, bytes]
        )
        return cls(MemberNames.decode(names), array("Q", offsets), array("Q", sizes), problems)


def index_tar(path: str, file: BinaryIO) -> TarIndex:
    """Reads the headers of a tar.

    Args:
        path: The tar, for messages.
        file: The open tar, which should read ahead if it is remote.

    Raises:
        RawFileError: It is damaged or truncated, or consists of several tars.
    """
    offsets, sizes, problems = array("Q"), array("Q"), bytearray()

    def members() -> Iterator[tuple[int, str]]:
        for info in _headers(path, file):
            if not info.isdir():
                offsets.append(info.offset_data)
                sizes.append(info.size)
                problems.append(_PROBLEMS.index(_problem(info)))
                yield len(offsets) - 1, normal_name(info.name)

    return TarIndex(MemberNames(members()), offsets, sizes, bytes(problems))


def _headers(path: str, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yields all headers of a tar.

    Raises:
        RawFileError: It is damaged or truncated, or consists of several tars.
    """
    headers = _HeaderFile(file)
    try:
        # "utf-8" with "replace": a name in another encoding is then found by none.
        with tarfile.TarFile(fileobj=headers, encoding="utf-8", errors="replace") as tar:  # type: ignore[arg-type]
            position = -1
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                if info.size < 0 or info.offset_data <= position:
                    raise tarfile.ReadError("its headers lead backwards")
                position = info.offset_data
                yield info
            end = tar.offset
        # tarfile takes a damaged header for the end.
        file.seek(end)
        if file.read(_HEADER_BYTES) != bytes(_HEADER_BYTES):
            raise tarfile.ReadError("no header and no end mark; damaged or truncated")
    except _TAR_ERRORS as error:
        raise RawFileError(
            f"{path}: not a readable tar file: byte {file.tell()}: {error}"
        ) from error
    # After the end mark are zeros only, often 10 KB of them.
    while block := file.read(_END_BYTES):
        if block.count(0) != len(block):
            raise RawFileError(
                f"{path}: bytes follow its end mark, as in tars that were concatenated; join the "
                "tars with `tar --concatenate`, or unpack this one with `tar --ignore-zeros -xf`"
            )


def _problem(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "a link in the tar"
    if info.issparse():
        return "a sparse file in the tar"
    if not info.isreg():
        return "not a file"
    return OUTSIDE if leads_outside(info.name) else ""


class _HeaderFile:
    """A file of which no more than headers is read at once, whatever they state."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell, self.seek = file.tell, file.seek

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


def is_tar(beginning: bytes) -> bool:
    """Returns whether a file that begins with these 512 bytes is a tar, by its checksum."""
    try:
        tarfile.TarInfo.frombuf(beginning[:_HEADER_BYTES], "utf-8", "replace")
    except _TAR_ERRORS:
        # An empty tar has the end mark only.
        return beginning[:_HEADER_BYTES] == bytes(_HEADER_BYTES)
    return True


class TarArchive(Archive):
    """An open tar with its index."""

    kind = "tar"

    def __init__(self, path: str, file: BinaryIO, index: TarIndex) -> None:
        """Takes an open tar, which should not read ahead; it is closed with the archive."""
        self.path = path
        self._file = file
        self._index = index

    def names(self) -> MemberNames:
        """Returns the names of all members but folders, with their numbers."""
        return self._index.names

    def problem(self, number: int) -> str:
        """Returns why a member is not a file that can be read; empty if it may be one."""
        return _PROBLEMS[self._index.problems[number]]

    def sizes(self, number: int) -> tuple[int, int]:
        """Returns the size of a member's content in bytes, twice: it is stored as it is."""
        size = self._index.sizes[number]
        return size, size

    def crc(self, number: int) -> int:
        """Returns the CRC-32 of a member's content, which is read for it.

        Raises:
            DamagedArchiveError: It cannot be read.
        """
        crc = 0
        for block in self.blocks(number):
            crc = zlib.crc32(block, crc)
        return crc

    def read(self, number: int, size: int) -> bytes:
        """Returns the first ``size`` bytes of a member, in one request if it is remote.

        Raises:
            DamagedArchiveError: The tar is shorter than its index states.
        """
        return self._range(number, 0, size)

    def blocks(self, number: int) -> Iterator[bytes]:
        """Yields the content of a member in blocks of a few megabytes.

        Raises:
            DamagedArchiveError: As `read`.
        """
        for start in range(0, self._index.sizes[number], _BLOCK_BYTES):
            yield self._range(number, start, _BLOCK_BYTES)

    def _range(self, number: int, start: int, size: int) -> bytes:
        size = max(min(size, self._index.sizes[number] - start), 0)
        self._file.seek(self._index.offsets[number] + start)
        content = self._file.read(size)
        if len(content) != size:
            raise DamagedArchiveError("the tar is shorter than when it was indexed")
        return content

    def close(self) -> None:
        """Closes the tar."""
        self._file.close()
