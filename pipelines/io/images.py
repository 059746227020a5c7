"""Image files: read from their folders or zips, and checked before they are written to a shard."""

import contextlib
import io
import re
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple

import msgspec
from PIL import Image, UnidentifiedImageError

from pipelines.io.raw_files import RawFileError, open_binary, read_beginning
from schemas import ImageInfo
from schemas.limits import MAX_IMAGE_FILE_BYTES, MAX_IMAGE_PIXELS

_MEMBER_HEADER = 4096  # bytes of a zip before the content of a member; rarely exceeded
_LONGEST_NAME = 255  # of a file, on most file systems
EXTENSIONS = {"JPEG": "jpg", "PNG": "png"}  # by Pillow's name of the format
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_+@-][A-Za-z0-9_.+@-]*(/[A-Za-z0-9_+@-][A-Za-z0-9_.+@-]*)*")


class UnusableImageError(Exception):
    """An image cannot be used; ``reason`` is short and fixed, ``detail`` is free text."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class ImageFile(msgspec.Struct):
    """The original bytes of an image, with format and size from its header."""

    content: bytes
    extension: str  # jpg or png
    width: int
    height: int


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


class _Zip(NamedTuple):
    file: _BufferedRange
    archive: zipfile.ZipFile
    members: dict[str, zipfile.ZipInfo]  # by file name: folders differ between mirrors


class ImageStore:
    """The image files of each source, in its roots: folders, or zips as published."""

    def __init__(self, roots: dict[str, list[str]]) -> None:
        self._roots = roots
        self._zips: dict[str, _Zip] = {}

    def read(self, image: ImageInfo) -> ImageFile:
        """Reads the file of an image.

        Raises:
            UnusableImageError: It is missing, not a JPEG or PNG, truncated, too large, not of the
                annotated size, or its name would escape the root.
        """
        content = self._content(image)
        if content is None:
            raise UnusableImageError("image missing", image.file)
        if len(content) > MAX_IMAGE_FILE_BYTES:
            raise UnusableImageError("image too large", f"{len(content)} bytes")
        file = inspect(content)
        stated = (image.width, image.height)
        if stated != (0, 0) and stated != (file.width, file.height):
            raise UnusableImageError(
                "image of another size",
                f"{file.width}x{file.height}, annotated as {stated[0]}x{stated[1]}",
            )
        return file

    def _content(self, image: ImageInfo) -> bytes | None:
        if len(image.file) > _LONGEST_NAME or not _PLAIN_NAME.fullmatch(image.file):
            raise UnusableImageError("unsafe image name", ascii(image.file[:200]))
        for root in self._roots.get(image.source, []):
            if root.endswith(".zip"):
                opened = self._zip(root)
                member = opened.members.get(PurePosixPath(image.file).name)
                if member is not None:
                    return _read_member(opened, member)
            else:
                with contextlib.suppress(FileNotFoundError):
                    return _read_file(f"{root.rstrip('/')}/{image.file}")
        return None

    def _zip(self, path: str) -> _Zip:
        if path not in self._zips:
            file = _BufferedRange(open_binary(path, read_ahead=False))
            try:
                archive = zipfile.ZipFile(file)
            except zipfile.BadZipFile as error:
                raise RawFileError(f"{path}: not a readable zip file: {error}") from error
            members = {PurePosixPath(info.filename).name: info for info in archive.infolist()}
            self._zips[path] = _Zip(file, archive, members)
        return self._zips[path]


def _read_file(path: str) -> bytes:
    try:
        return read_beginning(path, MAX_IMAGE_FILE_BYTES + 1)
    except RawFileError as error:
        raise UnusableImageError("unreadable image", PurePosixPath(path).name) from error


def _read_member(opened: _Zip, member: zipfile.ZipInfo) -> bytes:
    size = _MEMBER_HEADER + min(member.compress_size, MAX_IMAGE_FILE_BYTES)
    opened.file.fetch(member.header_offset, size)
    try:
        with opened.archive.open(member) as file:
            return file.read(MAX_IMAGE_FILE_BYTES + 1)
    # zipfile has no specific exception for an encrypted member or an unknown method.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise UnusableImageError("unreadable image", str(error)) from error


def inspect(content: bytes) -> ImageFile:
    """Returns an image with the format and size in its header; does not decode pixels.

    Raises:
        UnusableImageError: Not a JPEG or PNG, truncated, or more than ``MAX_IMAGE_PIXELS``.
    """
    try:
        with Image.open(io.BytesIO(content), formats=list(EXTENSIONS)) as image:
            # Pillow calls a JPEG that contains further images an MPO.
            format_ = "JPEG" if image.format == "MPO" else str(image.format)
            width, height = image.width, image.height
    except UnidentifiedImageError as error:
        raise UnusableImageError("not an image", "neither JPEG nor PNG") from error
    except Image.DecompressionBombError as error:
        raise UnusableImageError("image too large", str(error)) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise UnusableImageError("not an image", str(error)) from error
    if width * height > MAX_IMAGE_PIXELS:
        raise UnusableImageError("image too large", f"{width}x{height} pixels")
    # Some published JPEGs have bytes after their end marker; a thumbnail's own marker comes early.
    end = b"\xff\xd9" if format_ == "JPEG" else b"IEND"
    if content.rfind(end) < len(content) // 2:
        raise UnusableImageError("truncated image", f"{len(content)} bytes without an end marker")
    return ImageFile(content, EXTENSIONS[format_], width, height)
