"""Roots of many small files, such as images: folders, zips, and folders in zips.

Files are found by their path below a root, by the same rule in folders and zips.
"""

import io
import os
import unicodedata
import zipfile
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import BinaryIO

from pipelines.io.raw_files import (
    RawFileError,
    is_folder,
    is_local,
    open_binary,
    read_beginning,
    remote_file_system,
)
from pipelines.io.zips import (
    DamagedZipError,
    Member,
    MemberIndex,
    is_zip,
    only_content,
    open_zip,
    split_zip_path,
    zip_errors,
)

_MEMBER_HEADER = 4096  # bytes of a zip before the content of a member; rarely exceeded
_LONGEST_NAME = 255  # bytes of a file's name, on most file systems


class UnreadableFileError(Exception):
    """A file of a root is there, but cannot be read."""


class UnsafeNameError(Exception):
    """A path leaves its root, or is none."""


def check_name(path: str) -> None:
    r"""Checks that a path stays below its root; all other characters are allowed.

    >>> check_name("sub/DSC-3-30(100) fünf %.JPG")
    >>> unsafe = []
    >>> for path in ("../a.jpg", "/a.jpg", "a\\b.jpg", "gs://bucket/a.jpg", "a//b.jpg", ""):
    ...     try:
    ...         check_name(path)
    ...     except UnsafeNameError:
    ...         unsafe.append(path)
    >>> unsafe
    ['../a.jpg', '/a.jpg', 'a\\b.jpg', 'gs://bucket/a.jpg', 'a//b.jpg', '']

    Raises:
        UnsafeNameError: It is absolute, has "..", ".", an empty part, a backslash, a control
            character, or a part of more than 255 bytes; or it is not valid Unicode.
    """
    parts = path.split("/")
    try:
        lengths = [len(part.encode()) for part in parts]
    except UnicodeEncodeError as error:
        raise UnsafeNameError(path) from error
    is_safe = (
        0 < min(lengths) <= max(lengths) <= _LONGEST_NAME
        and sum(lengths) + len(parts) <= 1024
        and not {".", ".."}.intersection(parts)
        and "\\" not in path
        and not any(character < " " or character == "\x7f" for character in path)
    )
    if not is_safe:
        raise UnsafeNameError(path)


class FolderRoot:
    """The files below a folder, local or remote."""

    def __init__(self, path: str) -> None:
        self._path = path.rstrip("/")
        # Resolved once: a name is never part of a URL, where "::" and "?" have a meaning.
        self._remote = None if is_local(path) else remote_file_system(self._path)

    def read(self, path: str, size: int) -> bytes | None:
        """Returns the first ``size`` bytes of a file; None if there is no such file.

        Raises:
            UnreadableFileError: It is a folder, a loop of links, below a file, or not permitted.
        """
        # macOS writes accents as separate characters.
        forms = [path] if path.isascii() else [path, *_unicode_forms(path)]
        for form in forms:
            try:
                return self._read(form, size)
            except FileNotFoundError:
                continue
            except (RawFileError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
                raise UnreadableFileError(_reason(error)) from error
        return None

    def _read(self, path: str, size: int) -> bytes:
        if self._remote is None:
            return read_beginning(f"{self._path}/{path}", size)
        system, folder = self._remote
        content: bytes = system.cat_file(f"{folder}/{path}", start=0, end=size)
        return content

    def describe(self, path: str) -> str:
        """Returns nothing: other places of a file are not known."""
        return ""

    def close(self) -> None:
        """Does nothing: no file stays open."""


class ZipRoot:
    """The files of a zip, or below a folder in it.

    A file is found by its path, with or without the folders that all files of the zip have in
    common, or else by the end of its path, if that is unique: the file ``7.jpg`` may be
    ``VG_100K/7.jpg``, but ``vg/7.jpg`` is never ``coco/7.jpg``.
    """

    def __init__(self, path: str, inside: str = "") -> None:
        """Opens a zip.

        Raises:
            RawFileError: It cannot be read.
        """
        self._path = path
        self._file = _BufferedRange(open_binary(path, read_ahead=False))
        try:
            with zip_errors():
                self._archive = zipfile.ZipFile(self._file)
        except DamagedZipError as error:
            raise RawFileError(f"{path}: not a readable zip file: {error}") from error
        if all(info.flag_bits & 1 for info in self._archive.infolist()[:1]):
            raise RawFileError(f"{path}: not a readable zip file: its files are encrypted")
        self._members = MemberIndex(self._archive, below=inside)

    def read(self, path: str, size: int) -> bytes | None:
        """Returns the first ``size`` bytes of a file; None if there is no such path.

        Raises:
            AmbiguousNameError: Several files have the path, or one that differs in case only.
            UnreadableFileError: It is damaged, encrypted, or packed by an unknown method.
        """
        member = self._members.find(path)
        return None if member is None else self.read_member(member, size)

    def find_deeper(self, path: str) -> list[Member]:
        """Returns the files whose path ends in ``path``, below other folders."""
        return self._members.find_deeper(path)

    def read_member(self, member: Member, size: int) -> bytes:
        """Returns the first ``size`` bytes of a file of this zip.

        Raises:
            UnreadableFileError: As `read`.
        """
        info = member.info
        self._file.fetch(info.header_offset, _MEMBER_HEADER + min(info.compress_size, size))
        try:
            with zip_errors(), self._archive.open(info) as file:
                return file.read(size)
        except DamagedZipError as error:
            raise UnreadableFileError(str(error)) from error
        finally:
            self._file.release()

    def describe(self, path: str) -> str:
        """Returns where the zip has files of the same name; empty if it has none."""
        others = self._members.same_name(path)
        return f"{PurePosixPath(self._path).name} has {others[0].path}" if others else ""

    def close(self) -> None:
        """Closes the zip."""
        self._archive.close()
        self._file.close()


Root = FolderRoot | ZipRoot


def open_root(path: str) -> Root:
    """Opens a folder, a zip or a folder in a zip.

    Raises:
        RawFileError: It is neither; see `check_root`.
    """
    zip_path = split_zip_path(path)
    if zip_path is not None:
        return ZipRoot(*zip_path)
    check_root(path)
    return FolderRoot(path) if is_folder(path) else ZipRoot(path)


def check_root(path: str) -> None:
    """Checks that a path is a folder, a zip or a path into a zip, of any name.

    Raises:
        RawFileError: It is neither, for example a tar file.
        StoreError: Its store cannot be reached.
    """
    zip_path = split_zip_path(path)
    if zip_path is None and is_folder(path):
        if is_local(path) and not os.access(path, os.R_OK | os.X_OK, effective_ids=True):
            raise RawFileError(f"{path} is a folder that cannot be read")
        return
    file, inside = zip_path or (path, "")
    try:
        if not is_zip(file):
            error = ": not a readable zip file" if zip_path else " is neither a folder nor a zip"
            raise RawFileError(f"{file}{error}")
    except FileNotFoundError as error:
        raise RawFileError(f"there is no {file}") from error
    if inside:
        with open_zip(file) as archive:
            if not MemberIndex(archive, below=inside):
                raise RawFileError(f"{file} has no files in a folder {inside}")


def read_from(roots: Sequence[Root], path: str, size: int) -> bytes | None:
    """Returns the first ``size`` bytes of a file, in the first root that has its path.

    If none has, the only file whose path ends in it is taken. Returns None if there is none.

    Raises:
        AmbiguousNameError: There are several, with different contents.
        UnreadableFileError: It cannot be read.
    """
    for root in roots:
        content = root.read(path, size)
        if content is not None:
            return content
    zips = [root for root in roots if isinstance(root, ZipRoot)]
    deeper = [(root, member) for root in zips for member in root.find_deeper(path)]
    if not deeper:
        return None
    only_content([member for _, member in deeper], path)
    # Names that differ in case are found too, so that they count as ambiguous.
    ending = f"/{unicodedata.normalize('NFC', path)}"
    for root, member in deeper:
        if member.path.endswith(ending):
            return root.read_member(member, size)
    return None


def _unicode_forms(path: str) -> list[str]:
    forms = (unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path))
    return [form for form in forms if form != path]


def _reason(error: Exception) -> str:
    """Returns an error without the path, which depends on where the raw files are."""
    text = error.strerror if isinstance(error, OSError) else str(error).rpartition(": ")[2]
    return text or type(error).__name__


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
