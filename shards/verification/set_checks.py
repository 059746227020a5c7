"""Checks of a shard set without its shards: files, tables, and which images are in which split."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shards.format import manifest as mf
from shards.format.manifest import ShardError
from shards.format.placement import is_safe_key
from shards.format.tables import integers
from shards.reading.shard_set import ShardSet
from shards.verification.datasets import Datasets
from shards.verification.errors import ErrorKind, ErrorLog, VerificationError
from shards.verification.held_out import HeldOutList

_COLUMNS = ["key", "captions", "regions", "crop_of", "image_crc32", "image_size"]


class IndexedShard(NamedTuple):
    """The index data of a shard.

    Attributes:
        keys: Of its images.
        captions, regions: The numbers of those of all its images.
        crop_of: The image from which each image was cut; empty for most.
        files: Of each image, CRC-32 and size of its file in one number; 0 without images.
    """

    keys: list[str]
    captions: int
    regions: int
    crop_of: Sequence[str] = ()
    files: npt.NDArray[np.uint64] = np.empty(0, np.uint64)


def read_index(shards: ShardSet, log: ErrorLog) -> dict[int, IndexedShard]:
    """Returns the indexed shards, by their index in the manifest, and logs unreadable indexes."""
    indexed: dict[int, IndexedShard] = {}
    for shard in range(len(shards.shards)):
        try:
            rows = shards.rows(shard, _COLUMNS)
        except ShardError as error:
            file = shards.shards[shard].index.file
            log.add([VerificationError(ErrorKind.INDEX, str(error), file)])
            continue
        crc32, size = (integers(rows[name]) for name in ("image_crc32", "image_size"))
        indexed[shard] = IndexedShard(
            keys=rows["key"].to_pylist(),
            captions=sum(rows["captions"].to_pylist()),
            regions=sum(rows["regions"].to_pylist()),
            crop_of=rows["crop_of"].to_pylist(),
            files=crc32.astype(np.uint64) << np.uint64(32) | size.astype(np.uint64),
        )
    return indexed


def check_files(shards: ShardSet) -> Iterator[VerificationError]:
    """Checks the files of the manifest but its tars, and that a local folder has no others.

    A folder in it is one error, regardless of its contents. Names that begin with a dot are
    ignored: a killed build leaves temporary files, which the next one deletes.
    """
    manifest = shards.manifest
    for entry in (*(shard.index for shard in manifest.shards), *manifest.files):
        try:
            with shards.open_entry(entry) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        except ShardError as error:
            yield VerificationError(ErrorKind.FILE, str(error), entry.file)
            continue
        if digest != entry.sha256:
            message = f"it has {digest}, the manifest states {entry.sha256}"
            yield VerificationError(ErrorKind.SHA256, message, entry.file)
    listed = Counter(entry.file for entry in manifest.entries())
    listed[mf.NAME] += 1
    for name, count in listed.items():
        if count > 1:
            message = "the manifest lists it more than once"
            yield VerificationError(ErrorKind.DUPLICATE_FILE, message, name)
    if not shards.is_remote:
        for path in sorted(Path(shards.location).iterdir()):
            if path.name not in listed and not path.name.startswith("."):
                name = f"{path.name}/" if path.is_dir() else path.name
                message = "the manifest does not list it"
                yield VerificationError(ErrorKind.UNKNOWN_FILE, message, name)


def check_keys(
    shards: ShardSet, indexed: Mapping[int, IndexedShard]
) -> Iterator[VerificationError]:
    """Yields keys that are unsafe file names, twice in a split, or in splits of both roles.

    An image and a crop of it may not be in splits of both roles either.
    """
    file_of: dict[str, dict[str, str]] = defaultdict(dict)  # by split and key
    for shard, row in indexed.items():
        entry = shards.shards[shard]
        split_files = file_of[entry.split]
        for key in row.keys:
            if not is_safe_key(key):
                yield VerificationError(ErrorKind.KEY, f"{key!a} is not a safe key", entry.file)
            if key in split_files:
                message = f"{split_files[key]} of the same split has it too"
                yield VerificationError(ErrorKind.DUPLICATE_IMAGE, message, entry.file, key)
            split_files[key] = entry.file
        for crop_of in filter(None, row.crop_of):
            split_files.setdefault(crop_of, entry.file)
    for trained in shards.manifest.splits_of_role("train"):
        for evaluated in shards.manifest.splits_of_role("eval"):
            for key in sorted(file_of[trained].keys() & file_of[evaluated].keys()):
                message = f"{file_of[evaluated][key]} of {evaluated} has it too"
                yield VerificationError(ErrorKind.LEAK, message, file_of[trained][key], key)


def check_namespaces(
    shards: ShardSet, indexed: Mapping[int, IndexedShard], datasets: Datasets | None
) -> Iterator[VerificationError]:
    """Yields keys of namespaces that no source of the recipe has."""
    if datasets is None or datasets.is_open:
        return
    for shard, row in indexed.items():
        for key in row.keys:
            if key.partition("/")[0] not in datasets.namespaces:
                message = f"no source of the recipe has such keys: {key!a}"
                yield VerificationError(ErrorKind.KEY, message, shards.shards[shard].file, key)


def check_held_out(
    shards: ShardSet, indexed: Mapping[int, IndexedShard], lists: Sequence[HeldOutList]
) -> Iterator[VerificationError]:
    """Yields the images that are trained on and that a list of held-out images contains.

    A list contains a crop if it contains the image from which it was cut.
    """
    trained = shards.manifest.splits_of_role("train")
    for shard, row in indexed.items():
        entry = shards.shards[shard]
        if entry.split in trained:
            for key, crop_of in zip(row.keys, row.crop_of, strict=True):
                for held_out in lists:
                    if key in held_out.keys:
                        message = f"{held_out.argument} lists it"
                    elif crop_of in held_out.keys:
                        message = f"{held_out.argument} lists {crop_of}, of which it is a crop"
                    else:
                        continue
                    yield VerificationError(ErrorKind.HELD_OUT, message, entry.file, key)
