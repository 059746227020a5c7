"""Raw files below a local root: plain, or in archives. No code is shared with builds."""

import codecs
import contextlib
import io
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import msgspec


class RawError(Exception):
    """A raw file is missing, or is not in the layout of its source; the message names it."""


class _Archive:
    """A zip or a plain tar: its files by path."""

    def __init__(self, file: Path | BinaryIO, name: str) -> None:
        """Opens an archive.

        Raises:
            RawError: it cannot be read.
        """
        self.stem = PurePosixPath(name).stem
        self._read: Callable[[Any], bytes]
        members: dict[str, Any]
        try:
            if name.endswith(".zip"):
                opened = zipfile.ZipFile(file)
                members = {i.filename: i for i in opened.infolist() if not i.is_dir()}
                self._read = opened.read
            else:
                tar = tarfile.TarFile(fileobj=file.open("rb") if isinstance(file, Path) else file)
                members = {m.name.removeprefix("./"): m for m in tar.getmembers() if m.isreg()}
                _check_end(tar, name)
                self._read = lambda member: tar.extractfile(member).read()  # type: ignore[union-attr]
        except (zipfile.BadZipFile, tarfile.TarError) as error:
            raise RawError(f"{name}: {error}") from error
        self._members = {n: m for n, m in members.items() if not n.startswith("__MACOSX/")}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in self._members:
            self._by_name[path.rpartition("/")[2]].append(path)

    def paths(self) -> list[str]:
        """Returns the paths of all files."""
        return list(self._members)

    def read(self, path: str) -> bytes:
        """Returns the content of a file."""
        return self._read(self._members[path])

    def inside(self, path: str) -> str | None:
        """Returns the path here of what unpacking would put at a path; None if it has none."""
        for candidate in (path, f"{self.stem}/{path}"):
            if any(p == candidate or p.startswith(f"{candidate}/") for p in self._members):
                return candidate
        return None

    def ending(self, folder: str, name: str) -> str | None:
        """Returns a file below a folder whose path ends in a name; None if there is none."""
        for path in self._by_name.get(name.rpartition("/")[2], ()):
            if path.startswith(folder) and f"/{path}".endswith(f"/{name}"):
                return path
        return None


def _check_end(tar: tarfile.TarFile, name: str) -> None:
    """Checks that no other tar follows a tar in its file.

    Raises:
        RawError: there are bytes after its end mark.
    """
    file = tar.fileobj
    assert file is not None  # it is open
    file.seek(tar.offset)
    while block := file.read(1 << 16):
        if block.count(0) != len(block):
            raise RawError(f"{name}: bytes follow its end mark, as in concatenated tars")


class _Packed(NamedTuple):
    """A file or folder in an archive; the archive itself if the path is empty."""

    archive: _Archive
    path: str


_ENDINGS = (".zip", ".tar")


class RawRoot:
    """The folder of the raw files; paths in recipes are relative to it.

    Files may be in zips and plain tars, where builds find them, too.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._places: dict[str, Path | _Packed] = {}
        self._archives: dict[Path, _Archive] = {}

    def has(self, name: str) -> bool:
        """Returns whether there is a file or folder of a name, packed or not."""
        try:
            self._find(name)
        except RawError:
            return False
        return True

    def read_json(self, name: str) -> Any:
        """Returns the plain values of a JSON file.

        Raises:
            RawError: as `read`.
            msgspec.DecodeError: it is not JSON.
        """
        return msgspec.json.decode(self.read(name))

    def read(self, name: str) -> bytes:
        """Returns the content of a file, without a byte order mark.

        Raises:
            RawError: it is missing, or an archive is meant that has several files.
        """
        return self._read(name).removeprefix(codecs.BOM_UTF8)

    def _read(self, name: str) -> bytes:
        place = self._find(name)
        if isinstance(place, Path):
            return place.read_bytes()
        archive, path = place
        if path:
            return archive.read(path)
        paths = archive.paths()
        if len(paths) > 1:  # of the published name, beside notes and files of the system
            paths = [path for path in paths if path.rpartition("/")[2] == archive.stem]
        if len(paths) != 1:
            raise RawError(f"{name}: {len(paths)} files in its archive, expected {archive.stem}")
        return archive.read(paths[0])

    def read_in(self, folder: str, name: str) -> bytes | None:
        """Returns the content of a file of a folder or archive; None if there is none."""
        place = self._find(folder)
        if isinstance(place, Path):
            file = place / name
            return file.read_bytes() if file.is_file() else None
        archive, inside = place
        path = archive.ending(f"{inside}/" if inside else "", name)
        return None if path is None else archive.read(path)

    def _find(self, name: str) -> Path | _Packed:
        """Returns where a file or folder is: below the root, or in an archive beside or above it.

        Raises:
            RawError: it is nowhere.
        """
        if name not in self._places:
            self._places[name] = self._search(name)
        return self._places[name]

    def _search(self, name: str) -> Path | _Packed:
        path = self.folder / name
        for candidate in (path, *(path.with_name(f"{path.name}{e}") for e in _ENDINGS)):
            if candidate.is_file() and candidate.suffix in _ENDINGS:
                return _Packed(self._archive(candidate), "")
            if candidate.exists():
                return candidate
        for folder in path.parents:
            if not folder.is_relative_to(self.folder):
                break
            files = [folder] if folder.is_file() else sorted(folder.glob("*"))
            for file in files:
                if file.suffix in _ENDINGS and file.is_file():
                    with contextlib.suppress(RawError):  # an archive that nothing may need
                        archive = self._archive(file)
                        inside = archive.inside(path.relative_to(folder).as_posix())
                        if inside is not None:
                            return self._unpacked(_Packed(archive, inside))
        raise RawError(f"{path}: there is no such file")

    def _unpacked(self, packed: _Packed) -> _Packed:
        """Returns an archive that is in another one as itself."""
        archive, path = packed
        if path in archive.paths() and path.endswith(_ENDINGS):
            return _Packed(_Archive(io.BytesIO(archive.read(path)), path), "")
        return packed

    def _archive(self, path: Path) -> _Archive:
        if path not in self._archives:
            self._archives[path] = _Archive(path, str(path))
        return self._archives[path]


def non_empty_lines(content: bytes) -> Iterator[str]:
    """Yields the lines of a text file that are not blank, without spaces around them."""
    for line in content.decode("utf-8-sig").splitlines():
        if line.strip():
            yield line.strip()
