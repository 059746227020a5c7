"""Perceptual hashes of images of evaluation sets, and of the image files of an audited file."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from schemas.image_ids import namespace_of
from schemas.limits import MAX_IMAGE_FILE_BYTES
from shards.audit.eval_sets import EvalSet
from shards.audit.files.errors import AuditError
from shards.audit.files.statements import (
    IMAGE_EXTENSION,
    Statement,
    namespace_of_folder,
    state_name,
)
from shards.format.perceptual_hash import DEFAULT_DISTANCE, ImageHashError, perceptual_hash


class ImageFolder:
    """The image files below a folder, by the paths that annotation files have for them."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise AuditError(f"{root} is not a folder of images")
        self._root = root.resolve()
        self._by_name: dict[str, Path | None] = {}
        for path in self.files():
            # A name that several files have is none of them.
            self._by_name[path.name] = None if path.name in self._by_name else path

    def files(self) -> Iterator[Path]:
        """Yields the image files below the folder, sorted within each folder."""
        for parent, folders, names in os.walk(self._root):
            folders.sort()
            names = [name for name in sorted(names) if IMAGE_EXTENSION.search(name)]
            yield from (Path(parent, name) for name in names)

    def published_path(self, path: Path) -> str:
        """Returns the path of a file, from the folder's own name on, which may be a dataset's."""
        return path.relative_to(self._root.parent).as_posix()

    def find(self, statement: Statement) -> Path | None:
        """Returns the file of a statement: at its path below the folder, or the only one so named.

        One in a folder of another dataset is another image: datasets number their files alike.
        """
        stated = statement.file.replace("\\", "/")
        if not stated:
            return None
        path: Path | None = Path(os.path.normpath(self._root / stated.lstrip("/")))
        if not (path and path.is_relative_to(self._root) and path.is_file()):
            path = self._by_name.get(stated.rpartition("/")[2])
        return path if path and _may_be_of(statement, self.published_path(path)) else None


class HashedImages:
    """The hashes of images of evaluation sets, searched within the distance of near-duplicates.

    Args:
        eval_sets: The sets; images whose content their files have are hashed.
        folders: Folders with more images of the sets, under their published names or those that
            the sets' files state.
        images: The folder of the audited file's images, if it does not contain them.
        distance: The maximum Hamming distance of two hashes.

    Attributes:
        hashed: By evaluation set, the keys of the images that were hashed.
        unusable: The number of images of the audited file that could not be hashed, by reason.
    """

    def __init__(
        self,
        eval_sets: Iterable[EvalSet],
        folders: Iterable[ImageFolder],
        images: ImageFolder | None = None,
        distance: int = DEFAULT_DISTANCE,
    ) -> None:
        self._distance = distance
        self._images = images
        self._cache: dict[str, int | None] = {}  # by the stated file of the images' folder
        self.unusable: Counter[str] = Counter()
        sets = list(eval_sets)
        self.hashed: list[set[str]] = [set() for _ in sets]
        rows: list[tuple[int, int, str]] = []  # hash, number of the set, key
        for number, eval_set in enumerate(sets):
            for key, statement in eval_set.images.items():
                if statement.content is not None:
                    rows.append((_eval_hash(statement.content, key), number, key))
        for folder in folders:
            rows += _hashes_of_folder(folder, sets)
        for _, number, key in rows:
            self.hashed[number].add(key)
        self._rows = [(number, key) for _, number, key in rows]
        self._hashes = np.array([row[0] for row in rows], np.uint64)

    def near(self, statement: Statement) -> tuple[tuple[int, str], ...] | None:
        """Returns set and key of the images that a record's image is near; None if not hashed."""
        if statement.content is not None:
            value = self._hash(statement.content)
        else:
            name = f"{statement.file} of {statement.name}"
            if name not in self._cache:
                self._cache[name] = self._hash_of_file(statement)
            value = self._cache[name]
        if value is None:
            return None
        distances = np.bitwise_count(self._hashes ^ np.uint64(value))
        return tuple(self._rows[i] for i in np.flatnonzero(distances <= self._distance))

    def _hash_of_file(self, statement: Statement) -> int | None:
        path = self._images.find(statement) if self._images else None
        if path is None:
            self.unusable["image missing"] += 1
            return None
        if path.stat().st_size > MAX_IMAGE_FILE_BYTES:
            self.unusable["image too large"] += 1
            return None
        return self._hash(path.read_bytes())

    def _hash(self, content: bytes) -> int | None:
        try:
            return perceptual_hash(content)
        except ImageHashError as error:
            self.unusable[error.reason] += 1
            return None


def _hashes_of_folder(folder: ImageFolder, sets: list[EvalSet]) -> Iterator[tuple[int, int, str]]:
    """Yields hash, number of the set and key of the images of the sets that a folder has."""
    by_file: list[dict[str, list[str]]] = [{} for _ in sets]
    for eval_set, files in zip(sets, by_file, strict=True):
        for key, statement in eval_set.images.items():
            if statement.file:
                files.setdefault(re.split(r"[/\\]", statement.file)[-1], []).append(key)
    for path in folder.files():
        published = folder.published_path(path)
        stated = state_name(published, "").keys
        names = stated or tuple(f"{ns}/{path.stem}" for ns in ("vg", "flickr30k", "coco"))
        matches = []
        for number, eval_set in enumerate(sets):
            keys = [key for key in names if key in eval_set.images]
            keys = keys or [
                key
                for key in by_file[number].get(path.name, ())
                if _may_be_of(eval_set.images[key], published)
            ]
            if len(keys) == 1:
                matches.append((number, keys[0]))
        if matches:
            value = _eval_hash(path.read_bytes(), str(path))
            yield from ((value, number, key) for number, key in matches)


def _may_be_of(statement: Statement, path: str) -> bool:
    """Returns whether a file is in no folder of another dataset than a statement's image."""
    namespace = namespace_of_folder(path)
    of_keys = {namespace_of(key) for key in (*statement.keys, *statement.links)}
    expected = {namespace_of_folder(statement.file)} - {""} or of_keys
    return not (namespace and expected) or namespace in expected


def _eval_hash(content: bytes, name: str) -> int:
    try:
        return perceptual_hash(content)
    except ImageHashError as error:
        raise AuditError(
            f"{name}, an image of an evaluation set, cannot be hashed: {error}"
        ) from error
