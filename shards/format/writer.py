"""Writing one shard: a tar of images and JSON members, the same bytes for the same samples."""

import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from schemas.sample import Sample, encode_sample
from shards.format.index import IndexRow
from shards.format.placement import is_safe_key

_HEADER = 512  # bytes of a tar header; keys are short ASCII, so no member needs a longer one


class ShardWriter:
    """Writes samples one after another; `rows`, `size` and `sha256` tell what was written.

    >>> import io
    >>> with shard_writer(io.BytesIO(), "train-00000-of-00001.tar") as writer:
    ...     writer.write(Sample("coco/139", 640, 426, "000000000139.jpg", []), "jpg", b"...")
    >>> [row.key for row in writer.rows], writer.size
    (['coco/139'], 10240)
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        import webdataset  # imports torch, where it is installed: a second for every command

        self.name = name
        self.rows: list[IndexRow] = []
        self._stream = _Hashing(stream)
        # A fixed time, owner and mode; webdataset names the rest. An integer time, because a
        # fractional one would add a header to every member.
        self._tar = webdataset.TarWriter(self._stream, encoder=False, compress=False, mtime=0)

    @property
    def size(self) -> int:
        return self._stream.size

    @property
    def sha256(self) -> str:
        return self._stream.digest.hexdigest()

    def write(self, sample: Sample, extension: str, image: bytes | None) -> None:
        """Adds an image (its original bytes, or None in an annotation-only set) and its captions.

        Raises:
            ValueError: the key cannot name a member of a tar (see `placement.is_safe_key`).
        """
        if not is_safe_key(sample.key):
            raise ValueError(f"unusable key {sample.key!r}")
        members = {"json": encode_sample(sample)}
        if image is not None:
            members[extension] = image
        offsets = {}
        for name in sorted(members):  # the order in which webdataset writes them
            offsets[name] = self._tar.tarstream.offset + _HEADER
            self._tar.write({"__key__": sample.key, name: members[name]})
        self.rows.append(
            IndexRow(
                self.name,
                sample.key,
                f"{sample.key}.{extension}" if image is not None else "",
                offsets[extension] if image is not None else -1,
                len(image) if image is not None else 0,
                zlib.crc32(image) if image is not None else 0,
                offsets["json"],
                len(members["json"]),
                zlib.crc32(members["json"]),
                sample.width,
                sample.height,
                len(sample.captions),
                sum(len(c.regions) for c in sample.captions),
                sorted({p.dataset for c in sample.captions for p in c.provenance}),
            )
        )

    def close(self) -> None:
        self._tar.close()


@contextmanager
def shard_writer(stream: BinaryIO, name: str) -> Iterator[ShardWriter]:
    """A `ShardWriter` on ``stream`` that ends the tar at the end of the block."""
    writer = ShardWriter(stream, name)
    yield writer
    writer.close()


class _Hashing:
    """A binary stream that counts and hashes what passes through."""

    def __init__(self, stream: BinaryIO) -> None:
        self.size = 0
        self.digest = hashlib.sha256()
        self._stream = stream

    def write(self, content: bytes) -> int:
        self.size += len(content)
        self.digest.update(content)
        self._stream.write(content)
        return len(content)
