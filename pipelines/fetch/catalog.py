"""The catalog of published files: `catalog.toml`, which says what each of its fields means."""

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec

from schemas.decodable import decodable

_Sha256 = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]
_Md5 = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{32})?$")]
_Bytes = Annotated[int, msgspec.Meta(gt=0)]


class CatalogError(Exception):
    """A catalog cannot be read; the message names the file."""


class Dataset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dataset that files belong to."""

    title: str
    homepage: str
    license: str
    citation: str


class PublishedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file as its owners publish it; paths are below the root folder of recipes."""

    dataset: str
    path: str
    provides: list[str]
    facts_from: str
    present_if: list[str] = []
    addresses: list[str] = []
    bytes: _Bytes | None = None
    bytes_about: _Bytes | None = None
    sha256: _Sha256 = ""
    md5: _Md5 = ""
    unpack: bool = False
    by_hand: str = ""

    @property
    def estimated_bytes(self) -> int:
        """The size as far as it is known: exact, else as a page states it, else 0."""
        return self.bytes or self.bytes_about or 0

    @property
    def size_text(self) -> str:
        """The size for people."""
        return size_text([self]) if self.estimated_bytes else "size unknown"


class Catalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All published files, by their datasets' names."""

    synthetic_recipes: list[str]
    datasets: dict[str, Dataset]
    files: list[PublishedFile]

    def files_for(self, paths: Iterable[str]) -> list[PublishedFile]:
        """Returns the files that provide any of these paths of recipes, in the catalog's order."""
        wanted = set(paths)
        return [file for file in self.files if wanted.intersection(file.provides)]

    def unknown(self, paths: Iterable[str]) -> list[str]:
        """Returns the paths of recipes that no file provides."""
        provided = {path for file in self.files for path in file.provides}
        return [path for path in paths if path not in provided]


def read_catalog(path: Path | None = None) -> Catalog:
    """Reads the shipped catalog, or another one.

    Raises:
        CatalogError: The other one cannot be read.
    """
    shipped = resources.files("pipelines.fetch").joinpath("catalog.toml")
    try:
        return msgspec.toml.decode((path or shipped).read_bytes(), type=decodable(Catalog))
    except (OSError, ValueError) as error:
        raise CatalogError(f"{path or shipped}: not a catalog: {error}") from error


def size_text(files: Iterable[PublishedFile]) -> str:
    """Returns the size of files together, with the number of those whose size is not known.

    >>> size_text([])
    '0 bytes'
    """
    listed = list(files)
    total = sum(file.estimated_bytes for file in listed)
    unknown = sum(not file.estimated_bytes for file in listed)
    about = "about " if any(file.bytes is None and file.bytes_about for file in listed) else ""
    texts = [f"{about}{bytes_text(total)}"] if total or not unknown else []
    if unknown:
        texts.append(f"{unknown} file{'s' if unknown > 1 else ''} of unknown size")
    return " + ".join(texts)


def bytes_text(count: int) -> str:
    """Returns a number of bytes in a unit of 1000.

    >>> [bytes_text(count) for count in (12, 10733, 252872794, 13510573713, 999_999)]
    ['12 bytes', '10.7 kB', '252.9 MB', '13.5 GB', '1.0 MB']
    """
    units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)]
    fitting = ((unit, size) for unit, size in units if count >= 0.99995 * size)
    unit, size = next(fitting, ("bytes", 1))
    return f"{count} bytes" if size == 1 else f"{count / size:.1f} {unit}"
