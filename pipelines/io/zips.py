"""Zips as published: their members by path, single files in them, unpacked within bounds.

A path may lead into a zip: ``gqa/questions1.2.zip/train_balanced_questions.json``. A path that ends
in ``.zip``, where a file is expected, stands for the only member with data.
"""

import contextlib
import errno
import hashlib
import mmap
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from apache_beam.io.filesystems import FileSystems

from pipelines.io.beam_files import atomic_write
from pipelines.io.raw_files import (
    RawFileError,
    files_in,
    free_bytes,
    is_local,
    local_copy,
    map_local,
    open_binary,
    version,
)
from schemas.limits import FREE_UNPACKED_BYTES, MAX_ZIP_RATIO

_COPY_BYTES = 16 << 20  # copied at once
_UTF8_NAME = 0x800  # flag of a member whose name is UTF-8
_ENDINGS = (".json", ".p", ".pkl", ".pickle", ".txt")  # of files with data

# Exceptions of zipfile: RuntimeError for an encrypted member or an unknown method, the others for
# places outside of the file.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)


# --- members by path ------------------------------------------------------------------------------


class AmbiguousNameError(Exception):
    """Several members of a zip, with different contents, may be meant by one name."""


class Member(NamedTuple):
    """A file in a zip: its path below the folder that is searched, and its entry."""

    path: str
    info: zipfile.ZipInfo


class MemberIndex:
    """The files of a zip by their paths, hidden ones and macOS's copies left out.

    A name is first searched as the path of a member, or as its path below the folder or folders
    that all members have in common, since archives of the same files differ by them. Names that
    differ in case only are the same file for some systems, so they are never both accepted.
    """

    def __init__(self, archive: zipfile.ZipFile, below: str = "") -> None:
        """Indexes an open zip, or the files below one folder in it."""
        prefix = f"{below.strip('/')}/" if below.strip("/") else ""
        members = [
            Member(path.removeprefix(prefix), info)
            for info in archive.infolist()
            if not info.is_dir() and (path := member_path(info)).startswith(prefix)
        ]
        visible = [member for member in members if not _is_hidden(member.path)]
        self._common = _common_folder([member.path for member in visible])
        self._by_name: dict[str, list[Member]] = {}
        for member in visible:
            self._by_name.setdefault(_folded(_name(member.path)), []).append(member)

    def __len__(self) -> int:
        """Returns the number of distinct file names."""
        return len(self._by_name)

    def find(self, path: str) -> Member | None:
        """Returns the member with a path, with or without the common folders.

        Raises:
            AmbiguousNameError: There are several.
        """
        path = unicodedata.normalize("NFC", path)
        paths = {_folded(path), _folded(f"{self._common}{path}")}
        same = [member for member in self._named(path) if _folded(member.path) in paths]
        exact = [m for m in same if m.path in (path, f"{self._common}{path}")]
        return only_content(same, path) if exact else None

    def find_deeper(self, path: str) -> list[Member]:
        """Returns the members whose path ends in ``path``, below any other folders."""
        ending = f"/{unicodedata.normalize('NFC', path)}"
        return [m for m in self._named(path) if _folded(m.path).endswith(_folded(ending))]

    def same_name(self, path: str) -> list[Member]:
        """Returns the members with the last part of a path, in any folder."""
        return self._named(path)

    def _named(self, path: str) -> list[Member]:
        return self._by_name.get(_folded(_name(path)), [])


def only_content(members: list[Member], path: str) -> Member:
    """Returns the first of members that have all the same content.

    Raises:
        AmbiguousNameError: The contents differ.
    """
    if len({(member.info.CRC, member.info.file_size) for member in members}) > 1:
        names = ", ".join(sorted(member.path for member in members)[:4])
        raise AmbiguousNameError(f"{path}: {len(members)} files in the zip: {names}")
    return members[0]


def member_path(info: zipfile.ZipInfo) -> str:
    """Returns the path of a member, also if its name is UTF-8 without saying so, as macOS's are."""
    name = info.filename
    if not info.flag_bits & _UTF8_NAME and not name.isascii():
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return unicodedata.normalize("NFC", name)


def _folded(path: str) -> str:
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path).casefold()


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _is_hidden(path: str) -> bool:
    return path.startswith("__MACOSX/") or _name(path).startswith(("._", ".DS_Store"))


def _common_folder(paths: list[str]) -> str:
    """Returns the folders that begin all paths, with a slash at the end; empty if there are none.

    >>> _common_folder(["a/b/1.jpg", "a/b/2.jpg"]), _common_folder(["a/1.jpg", "b/1.jpg"])
    ('a/b/', '')
    """
    if not paths:
        return ""
    first, last = min(paths).split("/")[:-1], max(paths).split("/")[:-1]
    common = []
    for a, b in zip(first, last, strict=False):
        if a != b:
            break
        common.append(f"{a}/")
    return "".join(common)


# --- zips and paths into them ---------------------------------------------------------------------


def split_zip_path(path: str) -> tuple[str, str] | None:
    """Returns a zip and the path in it; None for the path of a file or folder itself.

    >>> split_zip_path("gqa/questions1.2.zip/train.json"), split_zip_path("a.json.zip")
    (('gqa/questions1.2.zip', 'train.json'), ('a.json.zip', ''))
    >>> split_zip_path("a.json")
    """
    parts = path.split("/")
    bucket = 2 if "://" in path else -1
    for number, part in enumerate(parts, 1):
        if part.lower().endswith(".zip") and number - 1 > bucket:
            zip_path = "/".join(parts[:number])
            if not (is_local(zip_path) and Path(zip_path).is_dir()):
                return zip_path, "/".join(parts[number:])
    return None


class DamagedZipError(Exception):
    """A zip, or a member of one, cannot be read."""


@contextlib.contextmanager
def zip_errors() -> Iterator[None]:
    """Raises ``DamagedZipError`` for what zipfile raises in the block, which only reads a zip."""
    try:
        yield
    except _ZIP_ERRORS as error:
        raise DamagedZipError(str(error)) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a place before the file
            raise
        raise DamagedZipError(str(error)) from error


@contextlib.contextmanager
def open_zip(path: str) -> Iterator[zipfile.ZipFile]:
    """Opens a local or remote zip.

    Raises:
        RawFileError: It is not a zip that can be read, or the block finds it damaged.
    """
    with open_binary(path) as file:
        try:
            with zip_errors():
                archive = zipfile.ZipFile(file)
            with archive:
                yield archive
        except DamagedZipError as error:
            raise RawFileError(f"{path}: not a readable zip file: {error}") from error


def is_zip(path: str) -> bool:
    """Returns whether a file ends as a zip does.

    Raises:
        FileNotFoundError, RawFileError, StoreError: As `open_binary`.
    """
    with open_binary(path, read_ahead=False) as file:
        return zipfile.is_zipfile(file)


def find_in_zips(path: str, top: str) -> list[str]:
    """Returns where a file or folder would be if every zip were unpacked in its own folder.

    Searches the zips in the path's folder and in the folders above it, up to ``top``; each result
    leads into a zip. Zips that cannot be read are skipped. No folders are added or left out, since
    the zips of several datasets have files of the same name; only a folder of the zip's own name
    around all its files, such as ``CLEVR_v1.0`` in ``CLEVR_v1.0.zip``, may be left out.
    """
    places: list[str] = []
    folder, _, name = path.rpartition("/")
    while folder and (folder == top or folder.startswith(f"{top}/")):
        for zip_path in files_in(folder):
            if zip_path.lower().endswith(".zip"):
                with contextlib.suppress(RawFileError), open_zip(zip_path) as archive:
                    paths = [member_path(info) for info in archive.infolist()]
                    inside = _path_inside(paths, name, zip_path.rpartition("/")[2][: -len(".zip")])
                    places += [f"{zip_path}/{inside}"] if inside else []
        folder, _, parent = folder.rpartition("/")
        name = f"{parent}/{name}"
    return places


def _path_inside(paths: list[str], name: str, wrapper: str) -> str | None:
    """Returns the path of a file or folder among those of a zip, None if it is not there.

    >>> _path_inside(["a/b/1.jpg"], "a/b", "c"), _path_inside(["a/b/1.jpg"], "b/1.jpg", "a")
    ('a/b', 'a/b/1.jpg')
    >>> _path_inside(["a/b/1.jpg", "c/1.txt"], "b", "a")
    """
    names = [name]
    if all(path.startswith(f"{wrapper}/") for path in paths if not path.startswith("__MACOSX/")):
        names.append(f"{wrapper}/{name}")
    there = (n for n in names if any(path == n or path.startswith(f"{n}/") for path in paths))
    return next(there, None)


def check_file(path: str) -> None:
    """Checks that a path into a zip, if it is one, leads to one file.

    Raises:
        RawFileError: It does not.
    """
    zip_path = split_zip_path(path)
    if zip_path is not None:
        with open_zip(zip_path[0]) as archive:
            _data_member(archive, *zip_path)


def unpack(path: str, scratch: str) -> str:
    """Extracts the file that a path into a zip leads to below ``scratch``; returns its path.

    A path that leads to no zip is returned as it is.

    Raises:
        RawFileError: It is not a zip that can be read, has no or several such members, or the
            member is too large for its packed size or for the disk.
    """
    zip_path = split_zip_path(path)
    if zip_path is None:
        return path
    with open_zip(zip_path[0]) as archive:
        member = _data_member(archive, *zip_path)
        name = hashlib.sha256(path.encode()).hexdigest()[:16] + Path(member.path).suffix
        target: str = FileSystems.join(scratch, name)
        _check_size(member.info, path)
        if is_local(scratch) and member.info.file_size > (free := free_bytes(scratch)):
            raise RawFileError(
                f"{path}: takes {member.info.file_size} bytes unpacked, but {scratch} has {free} "
                "bytes free"
            )
        with zip_errors():
            packed = archive.open(member.info)
        with packed, atomic_write(target, scratch) as unpacked:
            while True:
                with zip_errors():
                    content = packed.read(_COPY_BYTES)
                if not content:
                    break
                unpacked.write(content)
    return target


def read_whole(path: str, limit: int) -> bytes:
    """Returns the content of a file, which may be in a zip.

    Raises:
        RawFileError: It has more than ``limit`` bytes, or cannot be read; see also `unpack`.
        FileNotFoundError: There is no such file.
    """
    zip_path = split_zip_path(path)
    if zip_path is None:
        with open_binary(path) as file:
            content = file.read(limit + 1)
    else:
        with open_zip(zip_path[0]) as archive:
            member = _data_member(archive, *zip_path)
            _check_size(member.info, path)
            with zip_errors(), archive.open(member.info) as packed:
                content = packed.read(limit + 1)
    if len(content) > limit:
        raise RawFileError(f"{path}: more than {limit} bytes")
    return content


def map_file(path: str) -> mmap.mmap:
    """Maps a whole file into memory; a remote or zipped one as a temporary copy.

    Raises:
        RawFileError: It is empty, or cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder, local_copy(unpack(path, folder)) as local:
        if local.is_file() and local.stat().st_size == 0:
            raise RawFileError(f"{path}: empty file")
        return map_local(local)


def version_of(path: str) -> tuple[int, str]:
    """Returns size and modification time of a file or of the zip that has it."""
    zip_path = split_zip_path(path)
    return version(zip_path[0] if zip_path else path)


def _data_member(archive: zipfile.ZipFile, zip_path: str, path: str) -> Member:
    """Returns the member with a path, or the only one with data if the path is empty.

    A zip called ``NAME.json.zip`` or ``NAME.zip`` may have other files beside ``NAME.json``.
    """
    if path:
        try:
            member = MemberIndex(archive).find(path)
        except AmbiguousNameError as error:
            raise RawFileError(f"{zip_path}: {error}") from error
        if member is None:
            raise RawFileError(f"{zip_path}: there is no {path} in the zip")
        return member
    name = zip_path.rpartition("/")[2][: -len(".zip")]
    suffix = PurePosixPath(name).suffix
    suffix = suffix if suffix in _ENDINGS else ".json"
    members = [Member(member_path(info), info) for info in archive.infolist()]
    members = [m for m in members if m.path.endswith(suffix) and not _is_hidden(m.path)]
    named = [m for m in members if _name(m.path) in (name, f"{name}{suffix}")]
    if len(named) != 1 and len(members) != 1:
        message = f"{zip_path}: expected one {suffix} file in the zip, found {len(members)}"
        if members:
            message += f"; the path of one of them is {zip_path}/{members[0].path}"
        raise RawFileError(message)
    return (named if len(named) == 1 else members)[0]


def _check_size(info: zipfile.ZipInfo, path: str) -> None:
    """Raises ``RawFileError`` for a member that is made to fill the disk."""
    size, packed = info.file_size, max(info.compress_size, 1)
    if size > FREE_UNPACKED_BYTES and size > MAX_ZIP_RATIO * packed:
        raise RawFileError(
            f"{path}: {size} bytes in {packed} packed ones; expected at most {MAX_ZIP_RATIO} times "
            "as many"
        )
