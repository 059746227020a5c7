"""Images of a set that have one file: the raw files have it, byte for byte, under several names.

Datasets repeat a few photos, and a failed download may leave one placeholder under many names. No
id joins such images, so they are neither merged nor held out together.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from shards.format.index import IndexRow
from shards.format.manifest import SameFile
from shards.terminal import count_noun, listed


def packed_files(rows: Iterable[IndexRow]) -> bytes:
    """Returns, in 16 bytes for each image, its file's CRC-32 and size, and a hash of its key."""
    files = [
        (SameFile(row.image_crc32, row.image_size).identity(), _hash(row.key))
        for row in rows
        if row.image_name
    ]
    return np.array(files, np.uint64).tobytes()


def same_files(packed: Iterable[bytes]) -> list[SameFile]:
    """Returns the files that several images have, sorted; an image may be in several splits."""
    pairs = np.frombuffer(b"".join(packed), np.uint64).reshape(-1, 2)
    files, counts = np.unique(np.unique(pairs, axis=0)[:, 0], return_counts=True)
    repeated = counts > 1
    return [
        SameFile(identity >> 32, identity & 0xFFFFFFFF, count)
        for identity, count in zip(files[repeated].tolist(), counts[repeated].tolist(), strict=True)
    ]


def warnings(files: Sequence[SameFile]) -> Iterator[str]:
    """Yields what the result of `same_files` means for a set, unless it is empty."""
    if files:
        images = count_noun(sum(file.images for file in files), "image")
        yield (
            f"{images} have a file that another image has, byte for byte, with the CRC-32 "
            f"{listed([f'{file.crc32:08x}' for file in files])}; no id joins them, so they are "
            "neither merged nor held out together ([near_duplicates] finds copies of evaluated "
            "images)"
        )


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")
