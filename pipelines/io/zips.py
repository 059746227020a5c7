"""Zips: local or remote ones, whose members are read by byte range."""

import contextlib
import errno
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from pipelines.io.members import (
    OUTSIDE,
    Archive,
    DamagedArchiveError,
    MemberNames,
    leads_outside,
    normal_name,
)
from pipelines.io.raw_files import RawFileError

_BLOCK_BYTES = 16 << 20  # unpacked at once
_MEMBER_HEADER = 4096  # bytes of a zip before the content of a member; rarely exceeded
_UTF8_NAME = 0x800  # flag of a member whose name is UTF-8

# Exceptions of zipfile: RuntimeError for an encrypted member or an unknown method, the others for
# places outside of the file.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)


class ZipArchive(Archive):
    """An open zip."""

    kind = "zip"

    def __init__(self, path: str, file: BinaryIO) -> None:
        """Reads the directory of a zip.

        Args:
            path: The zip, for messages.
            file: The open zip, which should not read ahead; it is closed with the archive.

        Raises:
            RawFileError: It cannot be read.
        """
        self.path = path
        self._file = _BufferedRange(file)
        try:
            with _zip_errors():
                self._zip = zipfile.ZipFile(self._file)
        except DamagedArchiveError as error:
            self._file.close()
            raise RawFileError(f"{path}: not a readable zip file: {error}") from error
        self._infos = self._zip.infolist()
        if any(info.flag_bits & 1 for info in self._infos[:1]):
            self.close()
            raise RawFileError(f"{path}: not a readable zip file: its files are encrypted")

    def names(self) -> MemberNames:
        """Returns the names of all members but folders, with their numbers."""
        return MemberNames(
            (number, _member_name(info))
            for number, info in enumerate(self._infos)
            if not info.is_dir()
        )

    def problem(self, number: int) -> str:
        """Returns why a member is not a file that can be read; empty if it may be one."""
        return OUTSIDE if leads_outside(self._infos[number].filename) else ""

    def sizes(self, number: int) -> tuple[int, int]:
        """Returns the size of a member's content in bytes, and of what is stored of it."""
        info = self._infos[number]
        return info.file_size, info.compress_size

    def crc(self, number: int) -> int:
        """Returns the CRC-32 of a member's content, as the directory states it."""
        return self._infos[number].CRC

    def read(self, number: int, size: int) -> bytes:
        """Returns the first ``size`` bytes of a member, in one request if it is remote.

        Raises:
            DamagedArchiveError: It is damaged, encrypted, or packed by an unknown method.
        """
        info = self._infos[number]
        try:
            with _zip_errors():
                self._file.fetch(info.header_offset, _MEMBER_HEADER + min(info.compress_size, size))
                with self._zip.open(info) as file:
                    return file.read(size)
        finally:
            self._file.release()

    def blocks(self, number: int) -> Iterator[bytes]:
        """Yields the content of a member in blocks of a few megabytes.

        Raises:
            DamagedArchiveError: As `read`.
        """
        with _zip_errors():
            file = self._zip.open(self._infos[number])
        with file:
            while True:
                with _zip_errors():
                    block = file.read(_BLOCK_BYTES)
                if not block:
                    return
                yield block

    def close(self) -> None:
        """Closes the zip."""
        self._zip.close()
        self._file.close()


@contextlib.contextmanager
def _zip_errors() -> Iterator[None]:
    """Raises what zipfile raises in the block, which only reads, as `DamagedArchiveError`."""
    try:
        yield
    except _ZIP_ERRORS as error:
        raise DamagedArchiveError(str(error)) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a place before the file
            raise
        raise DamagedArchiveError(str(error)) from error


def _member_name(info: zipfile.ZipInfo) -> str:
    """Returns the name of a member, also if it is UTF-8 without saying so, as macOS's are."""
    name = info.filename
    if not info.flag_bits & _UTF8_NAME and not name.isascii():
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return normal_name(name)


class _BufferedRange:
    """A file with one buffered range, because each small read of zipfile would be a request."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start, self._content = 0, b""

    def fetch(self, start: int, size: int) -> None:
        """Reads a range into memory, and seeks to its beginning."""
        self._file.seek(start)
        self._start, self._content = start, self._file.read(size)
        self._file.seek(start)

    def release(self) -> None:
        """Frees the range."""
        self._content = b""

    def read(self, size: int = -1) -> bytes:
        start = self._file.tell() - self._start
        if start >= 0 and 0 <= size <= len(self._content) - start:
            self._file.seek(size, io.SEEK_CUR)
            return self._content[start : start + size]
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
