"""Writes a shard: a tar of images and JSON members, the same bytes for the same samples."""

import functools
import hashlib
import importlib
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from isal import isal_zlib

from schemas.sample import Sample, encode_sample
from shards.format.index import IndexRow
from shards.format.licenses import UNKNOWN_ID
from shards.format.placement import is_safe_key
from shards.substituted_modules import substituted_modules

_HEADER = 512  # bytes of a tar header; keys are short ASCII, so no member needs a longer one

_importing = threading.Lock()  # a second thread waits for webdataset


class ShardWriter:
    """Writes samples to a tar, and collects its index rows, size and sha256.

    >>> import io
    >>> with shard_writer(io.BytesIO(), "train-00000-of-00001.tar") as writer:
    ...     writer.write(Sample("coco/139", 640, 426, "000000000139.jpg", []), "jpg", b"...")
    >>> [row.key for row in writer.rows], writer.size
    (['coco/139'], 10240)
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name = name
        self.rows: list[IndexRow] = []
        self._stream = _Hashing(stream)
        # webdataset fixes owner and mode. The time is an integer, because a fractional one would
        # add a header to every member.
        self._tar = _tar_writer()(self._stream, encoder=False, compress=False, mtime=0)

    @property
    def size(self) -> int:
        """The number of bytes written."""
        return self._stream.size

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes written, in hexadecimal."""
        return self._stream.digest.hexdigest()

    def write(
        self,
        sample: Sample,
        extension: str,
        image: bytes | None,
        crop_of: str = "",
        licenses: Sequence[int] = (UNKNOWN_ID,),
        url: str = "",
    ) -> None:
        """Adds an image with its captions.

        Args:
            sample: the captions.
            extension: of the image's file name, such as ``jpg``.
            image: the original bytes; None in a set without images.
            crop_of: the key of the image whose crop this one is, and in whose shard it is.
            licenses: ids of the image's licenses.
            url: the image's address on the web.

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
                shard=self.name,
                key=sample.key,
                image_name=f"{sample.key}.{extension}" if image is not None else "",
                image_offset=offsets[extension] if image is not None else -1,
                image_size=len(image) if image is not None else 0,
                image_crc32=isal_zlib.crc32(image) if image is not None else 0,
                json_offset=offsets["json"],
                json_size=len(members["json"]),
                json_crc32=isal_zlib.crc32(members["json"]),
                width=sample.width,
                height=sample.height,
                captions=len(sample.captions),
                regions=sum(len(caption.regions) for caption in sample.captions),
                datasets=sorted(
                    {origin.dataset for c in sample.captions for origin in c.provenance}
                ),
                crop_of=crop_of,
                licenses=list(licenses),
                url=url,
            )
        )

    def close(self) -> None:
        """Ends the tar; the stream stays open."""
        self._tar.close()

    def discard(self) -> None:
        """Drops the end of the tar, which tarfile writes even when it is deleted."""
        self._stream.is_discarded = True


@contextmanager
def shard_writer(stream: BinaryIO, name: str) -> Iterator[ShardWriter]:
    """Yields a `ShardWriter` on ``stream`` and ends the tar at the end of the block.

    After an error in the block nothing more is written.
    """
    writer = ShardWriter(stream, name)
    try:
        yield writer
        writer.close()
    except BaseException:
        writer.discard()
        raise


def _tar_writer() -> Any:
    """Returns webdataset's class that writes tars."""
    with _importing:
        return _imported_tar_writer()


@functools.cache
def _imported_tar_writer() -> Any:
    """Imports webdataset without torch, which takes a second and 500 MiB, unless one is imported.

    The module is then imported again by those that read with it, with torch.
    """
    if "webdataset" in sys.modules or "torch" in sys.modules:
        return importlib.import_module("webdataset").TarWriter
    with substituted_modules({"torch": None}):
        tar_writer = importlib.import_module("webdataset").TarWriter
    for name in [name for name in sys.modules if name.partition(".")[0] == "webdataset"]:
        del sys.modules[name]
    return tar_writer


class _Hashing:
    """A binary stream that counts and hashes the bytes written to it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.size = 0
        self.is_discarded = False
        self.digest = hashlib.sha256()
        self._stream = stream

    def write(self, content: bytes) -> int:
        self.size += len(content)
        self.digest.update(content)
        if not self.is_discarded:
            self._stream.write(content)
        return len(content)
