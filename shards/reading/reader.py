"""Reads samples and pairs of a shard set: maps its shards, slices and checks their members."""

import mmap
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import msgspec
import pyarrow as pa

from schemas.sample import Caption, Sample, decode_caption, decode_sample
from shards.format.manifest import ShardError
from shards.format.placement import is_safe_key
from shards.reading.shard_set import ShardSet

Decoded = TypeVar("Decoded")
Read = TypeVar("Read")

OPEN_SHARDS = 64
_NUMBERS = (
    *("image_offset", "image_size", "image_crc32", "json_offset", "json_size", "json_crc32"),
    *("width", "height", "captions"),
)


class MissingImageError(ShardError):
    """The shard set has no images."""


@dataclass(frozen=True, slots=True)
class Pair:
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
        rows = shards.rows(shard, ["key", "image_name", *_NUMBERS])
        self._keys: pa.ChunkedArray = rows["key"]
        self._names: pa.ChunkedArray = rows["image_name"]
        self._numbers = {name: rows[name].to_numpy() for name in _NUMBERS}
        with shards.open_shard(shard) as file:
            if not shards.shards[shard].bytes:
                raise ShardError(f"{self._name} is empty")  # and cannot be mapped
            # Slices that are in use keep the map alive.
            self._tar = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def pair(self, row: int, caption_index: int) -> Pair:
        caption = self._caption(row, caption_index)  # checks the key
        return Pair(
            key=self._keys[row].as_py(),
            caption_index=caption_index,
            width=int(self._numbers["width"][row]),
            height=int(self._numbers["height"][row]),
            image=self.image(row).content,
            caption=caption,
        )

    def image(self, row: int) -> ImageMember:
        name = self._names[row].as_py()
        if not name:
            key = self._keys[row].as_py()
            raise MissingImageError(f"{self._name} has no images, and so none of {key}")
        key, _, extension = name.rpartition(".")
        if key != self._keys[row].as_py() or not is_safe_key(key) or not extension.isalnum():
            raise ShardError(f"{self._name}: {name[:80]!a} is not the name of an image")
        return ImageMember(name, self._member(name, "image", row))

    def sample(self, row: int) -> Sample:
        sample = self._decode(row, _decode_sample)
        if len(sample.captions) != self._numbers["captions"][row]:
            raise ShardError(
                f"{self._name}: {sample.key}.json has {len(sample.captions)} captions; "
                f"the index counts {self._numbers['captions'][row]}"
            )
        return sample

    def _caption(self, row: int, caption_index: int) -> Caption:
        try:
            return self._decode(row, lambda member: decode_caption(member, caption_index))
        except IndexError:
            raise ShardError(
                f"{self._name}: {self._keys[row].as_py()}.json has no caption {caption_index}; "
                f"the index counts {self._numbers['captions'][row]}"
            ) from None

    def _decode(self, row: int, decode: Callable[[memoryview], tuple[str, Decoded]]) -> Decoded:
        """Decodes a row's JSON member with ``decode``, and checks the key in it."""
        key = self._keys[row].as_py()
        member = self._member(f"{key}.json", "json", row)
        try:
            key_in_member, content = decode(member)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ShardError(f"{self._name}: {key}.json is not a sample: {error}") from error
        if key_in_member != key:
            raise ShardError(f"{self._name}: {key_in_member!r} is where the index has {key!r}")
        return content

    def _member(self, name: str, kind: str, row: int) -> memoryview:
        """Returns the bytes of a row's member; ``kind`` is ``image`` or ``json``."""
        offset, size, expected = (
            int(self._numbers[f"{kind}_{column}"][row]) for column in ("offset", "size", "crc32")
        )
        content = self._tar[offset : offset + size]
        crc32 = zlib.crc32(content)
        if len(content) != size or crc32 != expected:
            raise ShardError(
                f"{self._name}: {name} is damaged: the {size} bytes at {offset} have CRC-32 "
                f"{crc32:08x}, the index states {expected:08x}"
            )
        return content


def _decode_sample(member: memoryview) -> tuple[str, Sample]:
    sample = decode_sample(member)
    return sample.key, sample
