"""Reads samples and pairs of a shard set: maps its shards, slices and checks their members."""

import mmap
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
from isal import isal_zlib

from schemas.sample import Caption, Sample, decode_caption, decode_sample
from shards.format.manifest import ShardError
from shards.format.placement import is_safe_key
from shards.format.tables import integers
from shards.reading.shard_set import ShardSet

Decoded = TypeVar("Decoded")
Read = TypeVar("Read")

OPEN_SHARDS = 64


class _Numbers(NamedTuple):
    """The numbers of a row of the index."""

    image_offset: int
    image_size: int
    image_crc32: int
    json_offset: int
    json_size: int
    json_crc32: int
    width: int
    height: int
    captions: int


class MissingImageError(ShardError):
    """The shard set has no images."""


class Pair(NamedTuple):
    """An image with one of its captions, the ``caption_index``-th."""

    key: str
    caption_index: int
    width: int  # pixels
    height: int
    image: memoryview  # the encoded original bytes, a slice of the mapped shard
    caption: Caption


class StoredSample(NamedTuple):
    """A sample and its location: the ``row``-th of a shard of the manifest."""

    shard: int
    row: int
    sample: Sample


class ImageMember(NamedTuple):
    """An image file: its name in the shard and its bytes, a slice of the shard."""

    name: str
    content: memoryview


class ShardReader:
    """Reads samples and pairs; the ``open_shards`` most recently read shards stay mapped.

    ``open_shards`` should exceed the shards of a block, which are read alternately: reopening a
    shard decodes its rows of the index again.
    """

    def __init__(self, shards: ShardSet, open_shards: int = OPEN_SHARDS) -> None:
        self._shards = shards
        self._open_shards = open_shards
        self._open: OrderedDict[int, _MappedShard] = OrderedDict()  # the least recently read first

    def pair(self, shard: int, row: int, caption_index: int) -> Pair:
        """Returns a shard's ``row``-th image with its ``caption_index``-th caption.

        Raises:
            MissingImageError: the set has no images.
            ShardError: the shard is missing, truncated or damaged, or its index is.
        """
        return self._read(shard, lambda opened: opened.pair(row, caption_index))

    def open(self, shard: int) -> None:
        """Maps a shard, unless it is mapped; afterwards only single samples can be damaged.

        Raises:
            ShardError: the shard is missing or truncated, or its index is damaged.
        """
        self._opened(shard)

    def sample(self, shard: int, row: int) -> Sample:
        """Returns a shard's ``row``-th sample; does not read the image.

        Raises:
            ShardError: the shard is missing, truncated or damaged, or its index is.
        """
        return self._read(shard, lambda opened: opened.sample(row))

    def samples(self, split: str) -> Iterator[StoredSample]:
        """Yields all samples of a split; does not read the images.

        Raises:
            ShardError: a shard is missing, truncated or damaged, or its index is.
        """
        for shard in self._shards.shards_of(split):
            for row in range(self._shards.shards[shard].images):
                yield StoredSample(shard, row, self.sample(shard, row))

    def image(self, shard: int, row: int) -> ImageMember:
        """Returns the image of a shard's ``row``-th sample.

        Raises:
            MissingImageError: the set has no images.
            ShardError: the shard is missing, truncated or damaged, or its index is.
        """
        return self._read(shard, lambda opened: opened.image(row))

    def _read(self, shard: int, read: Callable[["_MappedShard"], Read]) -> Read:
        """Reads from a shard; if its cached file is damaged, from one that is fetched anew."""
        opened = self._opened(shard)
        try:
            return read(opened)
        except MissingImageError:
            raise
        except ShardError:
            if not self._shards.discard_damaged(shard):
                raise
            del self._open[shard]
            return read(self._opened(shard))

    def _opened(self, shard: int) -> "_MappedShard":
        if shard not in self._open:
            self._open[shard] = _MappedShard(self._shards, shard)
            if len(self._open) > self._open_shards:
                self._open.popitem(last=False)
        self._open.move_to_end(shard)
        return self._open[shard]


class _MappedShard:
    """A mapped tar with its rows of the index."""

    def __init__(self, shards: ShardSet, shard: int) -> None:
        self._name = shards.name_of(shard)
        rows = shards.rows(shard, ["key", "image_name", *_Numbers._fields])
        self._keys: pa.ChunkedArray = rows["key"]
        self._names: pa.ChunkedArray = rows["image_name"]
        self._numbers = np.array([integers(rows[name]) for name in _Numbers._fields], np.int64).T
        with shards.open_shard(shard) as file:
            if not shards.shards[shard].bytes:
                raise ShardError(f"{self._name} is empty")  # and cannot be mapped
            # Slices that are in use keep the map alive.
            self._tar = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def pair(self, row: int, caption_index: int) -> Pair:
        key, numbers = self._keys[row].as_py(), self._numbers_of(row)
        try:
            caption = self._decode(key, numbers, lambda json: decode_caption(json, caption_index))
        except IndexError:
            raise ShardError(
                f"{self._name}: {key}.json has no caption {caption_index}; the index counts "
                f"{numbers.captions}"
            ) from None
        image = self._image(key, row, numbers).content
        return Pair(key, caption_index, numbers.width, numbers.height, image, caption)

    def image(self, row: int) -> ImageMember:
        return self._image(self._keys[row].as_py(), row, self._numbers_of(row))

    def sample(self, row: int) -> Sample:
        key, numbers = self._keys[row].as_py(), self._numbers_of(row)
        sample = self._decode(key, numbers, _decode_sample)
        if len(sample.captions) != numbers.captions:
            raise ShardError(
                f"{self._name}: {sample.key}.json has {len(sample.captions)} captions; "
                f"the index counts {numbers.captions}"
            )
        return sample

    def _numbers_of(self, row: int) -> _Numbers:
        return _Numbers(*self._numbers[row].tolist())

    def _image(self, key: str, row: int, numbers: _Numbers) -> ImageMember:
        """Returns the image of a row, and checks that its name is the key's."""
        name = self._names[row].as_py()
        if not name:
            raise MissingImageError(f"{self._name} has no images, and so none of {key}")
        stem, _, extension = name.rpartition(".")
        if stem != key or not is_safe_key(key) or not extension.isalnum():
            raise ShardError(f"{self._name}: {name[:80]!a} is not the name of an image")
        return ImageMember(
            name,
            self._member(name, numbers.image_offset, numbers.image_size, numbers.image_crc32),
        )

    def _decode(
        self, key: str, numbers: _Numbers, decode: Callable[[memoryview], tuple[str, Decoded]]
    ) -> Decoded:
        """Decodes the JSON member of a row, and checks the key in it."""
        name = f"{key}.json"
        member = self._member(name, numbers.json_offset, numbers.json_size, numbers.json_crc32)
        try:
            key_in_member, content = decode(member)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ShardError(f"{self._name}: {name} is not a sample: {error}") from error
        if key_in_member != key:
            raise ShardError(f"{self._name}: {key_in_member!r} is where the index has {key!r}")
        return content

    def _member(self, name: str, offset: int, size: int, expected: int) -> memoryview:
        """Returns the bytes of a member, and checks them."""
        content = self._tar[offset : offset + size]
        crc32 = isal_zlib.crc32(content)
        if len(content) != size or crc32 != expected:
            raise ShardError(
                f"{self._name}: {name} is damaged: the {size} bytes at {offset} have CRC-32 "
                f"{crc32:08x}, the index states {expected:08x}"
            )
        return content


def _decode_sample(member: memoryview) -> tuple[str, Sample]:
    sample = decode_sample(member)
    return sample.key, sample
