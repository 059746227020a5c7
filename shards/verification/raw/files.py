"""Raw files below a local root: plain, or in a zip."""

import codecs
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec


class RawError(Exception):
    """A raw file is missing, or is not in the layout of its source; the message names it."""


class RawRoot:
    """The folder of the raw files; paths in recipes are relative to it."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._zips: dict[Path, zipfile.ZipFile] = {}

    def path(self, name: str) -> Path:
        """Returns the file or folder of a name in a recipe, or the zip of that name.

        Raises:
            RawError: neither exists.
        """
        path = self.folder / name
        for candidate in (path, path.with_name(f"{path.name}.zip")):
            if candidate.exists():
                return candidate
        raise RawError(f"{path}: there is no such file")

    def read_json(self, name: str) -> Any:
        """Returns the plain values of a JSON file.

        Raises:
            RawError: as `read`.
            msgspec.DecodeError: it is not JSON.
        """
        return msgspec.json.decode(self.read(name))

    def read(self, name: str) -> bytes:
        """Returns the content of a file, or of the only file in a zip, without a byte order mark.

        Raises:
            RawError: it is missing, or the zip has several files.
        """
        return self._read(name).removeprefix(codecs.BOM_UTF8)

    def _read(self, name: str) -> bytes:
        path = self.path(name)
        if path.suffix != ".zip":
            return path.read_bytes()
        archive = self._zip(path)
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) > 1:  # of the published name, beside notes and files of the system
            members = [m for m in members if Path(m.filename).name == path.stem]
        if len(members) != 1:
            raise RawError(f"{path}: {len(members)} files, expected {path.stem}")
        return archive.read(members[0])

    def read_in(self, folder: str, name: str) -> bytes | None:
        """Returns the content of a file of a folder or zip; None if there is none."""
        path = self.path(folder)
        if path.suffix == ".zip":
            archive = self._zip(path)
            wanted = tuple(Path(name).parts)
            for member in archive.infolist():
                if Path(member.filename).parts[-len(wanted) :] == wanted:
                    return archive.read(member)
            return None
        file = path / name
        return file.read_bytes() if file.is_file() else None

    def _zip(self, path: Path) -> zipfile.ZipFile:
        if path not in self._zips:
            try:
                self._zips[path] = zipfile.ZipFile(path)
            except zipfile.BadZipFile as error:
                raise RawError(f"{path}: {error}") from error
        return self._zips[path]


def non_empty_lines(content: bytes) -> Iterator[str]:
    """Yields the lines of a text file that are not blank, without spaces around them."""
    for line in content.decode("utf-8-sig").splitlines():
        if line.strip():
            yield line.strip()
