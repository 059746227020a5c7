"""``manifest.json``, which makes a folder a shard set and is written last."""

import hashlib
import re
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from schemas import NotAskedFor
from schemas.decodable import decodable
from shards.format.exclusion_counts import ExclusionCounts
from shards.format.licenses import LicenseEntry
from shards.format.source_counts import Counts, SourceCounts

SCHEMA_VERSION = 5
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*")
_SPLIT = re.compile(r"[A-Za-z0-9_]+")
NAME = "manifest.json"

#: What the images of a split are for: to be trained on, or to evaluate a model.
Role = Literal["train", "eval"]


class NotAShardSetError(ValueError):
    """A folder without a manifest that this version can read."""


class DamagedManifestError(NotAShardSetError):
    """A manifest of this version, or of none, that cannot be decoded."""


class ShardError(ValueError):
    """A file of a shard set that is missing, or is not what the manifest or the index states."""


class FileEntry(msgspec.Struct):
    """A file in the manifest."""

    file: str
    bytes: int
    sha256: str


class ShardEntry(msgspec.Struct):
    """A shard in the manifest: its tar, the numbers of its images and captions, and its index.

    The index numbers the licenses of its shard; ``licenses`` has the manifest's id of each.
    """

    file: str
    split: str
    bytes: int
    sha256: str
    images: int
    captions: int
    index: FileEntry
    licenses: list[int]


class Terms(msgspec.Struct):
    """The license of a dataset's annotations and images, and how to cite it.

    Each is as the catalog of published files states it, or "unknown".
    """

    title: str
    homepage: str
    license: str
    citation: str


class SameFile(msgspec.Struct):
    """An image file that several images have, byte for byte, and the number of those."""

    crc32: int
    bytes: int
    images: int = 0

    def identity(self) -> int:
        """Returns CRC-32 and size in one number of 64 bits."""
        return self.crc32 << 32 | self.bytes


class _Listed(msgspec.Struct):
    """A file that a manifest of any version lists."""

    file: str


class _ListedShard(_Listed):
    """A shard that a manifest of any version lists; since version 5, it has an index."""

    index: _Listed | None = None


class _Listing(msgspec.Struct):
    """The files that manifests of all versions list."""

    schema_version: int
    shards: list[_ListedShard]
    files: list[_Listed]


class _Version(msgspec.Struct):
    """The field that manifests of all versions have."""

    schema_version: int


class Manifest(msgspec.Struct, kw_only=True):
    """The contents of a shard set and how it was built.

    ``recipe`` has every default resolved, and ``recipe_sha256`` is the version of the data.
    ``roles`` states what the images of each split are for; no image is in splits of both roles.
    ``not_asked_for`` has what the recipe leaves out of the sources, in a row for each part.
    ``same_files`` has the files that several images have, because the raw files have them under
    several names. ``licenses`` are those of single images, ``terms`` those of the datasets
    that each source reads. ``absent`` has what became of the absent phrases of the sources that
    state any.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    recipe_sha256: str
    recipe: dict[str, Any]
    code_version: str
    language_model: dict[str, str]
    roles: dict[str, Role]  # of each split
    totals: dict[str, dict[str, int]]  # counts of each split
    sources: dict[str, SourceCounts]
    not_asked_for: list[NotAskedFor]
    exclusions: dict[str, ExclusionCounts]
    same_files: list[SameFile] = []
    warnings: list[str]  # of what may let an evaluated image be trained on
    licenses: list[LicenseEntry]  # by id, which is the position in the list
    terms: dict[str, dict[str, Terms]]  # of each source, by the name of the dataset
    shards: list[ShardEntry]
    files: list[FileEntry]
    absent: dict[str, Counts] | UnsetType = UNSET

    def entries(self) -> list[ShardEntry | FileEntry]:
        """Returns all files of the set but the manifest: shards, their indexes, and tables."""
        return [*self.shards, *(shard.index for shard in self.shards), *self.files]

    def splits_of_role(self, role: Role) -> list[str]:
        """Returns the splits with a role."""
        return [split for split, its_role in self.roles.items() if its_role == role]


def encode(manifest: Manifest) -> bytes:
    """Returns the content of ``manifest.json``; equal manifests give equal bytes."""
    return (
        msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=1) + b"\n"
    )


def file_sizes(manifest: Manifest) -> dict[str, int]:
    """Returns the sizes in bytes of all files of a set but the manifest, by name."""
    return {entry.file: entry.bytes for entry in manifest.entries()}


def recipe_sha256(recipe: dict[str, Any]) -> str:
    """Returns the version of a recipe, as in `Manifest.recipe_sha256`."""
    return hashlib.sha256(msgspec.json.encode(recipe, order="deterministic")).hexdigest()


def load(shard_set: str | Path) -> Manifest:
    """Reads the manifest of a local shard set.

    Raises:
        NotAShardSetError: there is no manifest, or none that this version can read.
    """
    path = Path(shard_set) / NAME
    try:
        return decode(path.read_bytes(), str(shard_set))
    except (FileNotFoundError, NotADirectoryError):
        raise NotAShardSetError(f"{shard_set} is not a shard set: it has no {NAME}") from None


def listed_files(content: bytes, shard_set: str) -> list[str]:
    """Returns the files that a manifest of any version lists; the names are not checked.

    Raises:
        NotAShardSetError: it is not a manifest.
    """
    try:
        listing = msgspec.json.decode(content, type=decodable(_Listing))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedManifestError(f"{NAME} of {shard_set} is not a manifest: {error}") from error
    indexes = [shard.index for shard in listing.shards if shard.index]
    return [entry.file for entry in [*listing.shards, *indexes, *listing.files]]


def decode(content: bytes, shard_set: str) -> Manifest:
    """Decodes the manifest of ``shard_set``, a folder or URL for messages.

    Raises:
        NotAShardSetError: this version cannot read it; `DamagedManifestError`, if no version can.
    """
    try:
        version = msgspec.json.decode(content, type=decodable(_Version)).schema_version
        if version != SCHEMA_VERSION:
            remedy = (
                "build the shard set again with this version"
                if version < SCHEMA_VERSION
                else "a newer release is needed"
            )
            raise NotAShardSetError(
                f"{shard_set} has schema version {version}, this program reads version "
                f"{SCHEMA_VERSION}: {remedy}"
            )
        manifest = msgspec.json.decode(content, type=decodable(Manifest))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedManifestError(f"{NAME} of {shard_set} is not a manifest: {error}") from error
    # Sets are untrusted input, and files are written under these names.
    for entry in manifest.entries():
        if not _FILE.fullmatch(entry.file):
            raise DamagedManifestError(f"{NAME} of {shard_set} names a file {entry.file[:80]!a}")
        if not _SHA256.fullmatch(entry.sha256) or entry.bytes < 0:
            raise DamagedManifestError(
                f"{NAME} of {shard_set} states sha256 {entry.sha256[:80]!a} and {entry.bytes} "
                f"bytes of {entry.file}: expected 64 hexadecimal digits and a size"
            )
    for shard in manifest.shards:
        if not _SPLIT.fullmatch(shard.split):
            raise DamagedManifestError(f"{NAME} of {shard_set} names a split {shard.split[:80]!a}")
        if shard.split not in manifest.roles:
            raise DamagedManifestError(f"{NAME} of {shard_set} states no role of {shard.split}")
    return manifest
