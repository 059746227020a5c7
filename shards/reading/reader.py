"""The pairs of a shard set, read where they lie: shards are mapped, members sliced and checked."""

import mmap
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import msgspec
import pyarrow as pa

from schemas import Caption, Sample
from schemas.sample import decode_caption, decode_sample
from shards.format.manifest import ShardError
from shards.format.placement import is_safe_key
from shards.reading.shard_set import ShardSet

Decoded = TypeVar("Decoded")

OPEN_SHARDS = 64
_NUMBERS = (
    *("image_offset", "image_size", "image_crc32", "json_offset", "json_size", "json_crc32"),
    *("width", "height", "captions"),
)


class MissingImageError(ShardError):
    """The set holds annotations alone."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An image, as its encoded original bytes, with one of its captions (the ``number``-th).

    ``width`` and ``height`` are pixels of the image. ``image`` is a slice of the mapped shard.
    """

    key: str
    number: int
    width: int
    height: int
    image: memoryview
    caption: Caption


class Stored(NamedTuple):
    """A sample, and where it lies: the ``row``-th of a shard of the manifest."""

    shard: int
    row: int
    sample: Sample


class ImageFile(NamedTuple):
    """An image as it was published: its name in the shard, and its bytes, a slice of that."""

    name: str
    content: memoryview


class Store:
    """Reads pairs; the ``open_shards`` shards that were read from last stay mapped.

    More should stay than are read in turn, which are those of a block: each that is opened anew
    has its rows of the index decoded anew.
    """

    def __init__(self, shards: ShardSet, open_shards: int = OPEN_SHARDS) -> None:
        self._shards = shards
        self._open_shards = open_shards
        self._open: OrderedDict[int, _Shard] = OrderedDict()  # the least recently read first

    def pair(self, shard: int, row: int, number: int) -> Pair:
        """The pair of a shard's ``row``-th image with its ``number``-th caption.

        Raises:
            MissingImageError: the set has none.
            ShardError: the shard is missing, truncated or damaged, or its index is.
        """
        return self._opened(shard).pair(row, number)

    def open(self, shard: int) -> None:
        """Maps a shard, unless it is mapped; only some of its samples may be damaged then.

        Raises:
            ShardError: the shard is missing or truncated, or its index is damaged.
        """
        self._opened(shard)

    def sample(self, shard: int, row: int) -> Sample:
        """A shard's ``row``-th sample; the image itself is not read.

        Raises:
            ShardError: the shard is missing, truncated or damaged, or its index is.
        """
        return self._opened(shard).sample(row)

    def samples(self, split: str) -> Iterator[Stored]:
        """All samples of a split; the images themselves are not read.

        Raises:
            ShardError: a shard is missing, truncated or damaged, or its index is.
        """
        for shard in self._shards.shards_of(split):
            for row, sample in enumerate(self._opened(shard).samples()):
                yield Stored(shard, row, sample)

    def image(self, shard: int, row: int) -> ImageFile:
        """What a shard's ``row``-th sample shows.

        Raises:
            MissingImageError: the set has none.
            ShardError: the shard is missing, truncated or damaged, or its index is.
        """
        return self._opened(shard).image(row)

    def _opened(self, shard: int) -> "_Shard":
        if shard not in self._open:
            self._open[shard] = _Shard(self._shards, shard)
            if len(self._open) > self._open_shards:
                self._open.popitem(last=False)
        self._open.move_to_end(shard)
        return self._open[shard]


class _Shard:
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
            # Kept alive by the slices of it that are still in use.
            self._tar = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def pair(self, row: int, number: int) -> Pair:
        width, height = (int(self._numbers[name][row]) for name in ("width", "height"))
        caption = self._caption(row, number)
        image = self.image(row).content
        return Pair(self._keys[row].as_py(), number, width, height, image, caption)

    def image(self, row: int) -> ImageFile:
        name = self._names[row].as_py()
        if not name:
            key = self._keys[row].as_py()
            raise MissingImageError(f"{self._name} holds annotations alone, no image of {key}")
        key, _, extension = name.rpartition(".")
        if key != self._keys[row].as_py() or not is_safe_key(key) or not extension.isalnum():
            raise ShardError(f"{self._name}: {name[:80]!a} is no name of an image")
        return ImageFile(name, self._member(name, "image", row))

    def samples(self) -> Iterator[Sample]:
        return (self.sample(row) for row in range(len(self._keys)))

    def sample(self, row: int) -> Sample:
        sample = self._decoded(row, _decode_sample)
        if len(sample.captions) != self._numbers["captions"][row]:
            raise ShardError(
                f"{self._name}: {sample.key}.json has {len(sample.captions)} captions; "
                f"the index counts {self._numbers['captions'][row]}"
            )
        return sample

    def _caption(self, row: int, number: int) -> Caption:
        try:
            return self._decoded(row, lambda member: decode_caption(member, number))
        except IndexError:
            raise ShardError(
                f"{self._name}: {self._keys[row].as_py()}.json has no caption {number}; "
                f"the index counts {self._numbers['captions'][row]}"
            ) from None

    def _decoded(self, row: int, decode: Callable[[memoryview], tuple[str, Decoded]]) -> Decoded:
        """What an image's JSON says, which has to be of that image."""
        key = self._keys[row].as_py()
        member = self._member(f"{key}.json", "json", row)
        try:
            found, content = decode(member)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ShardError(f"{self._name}: {key}.json is not a sample: {error}") from error
        if found != key:
            raise ShardError(f"{self._name}: {found!r} was found where the index has {key!r}")
        return content

    def _member(self, name: str, kind: str, row: int) -> memoryview:
        offset, size, crc32 = (
            int(self._numbers[f"{kind}_{of}"][row]) for of in ("offset", "size", "crc32")
        )
        content = self._tar[offset : offset + size]
        found = zlib.crc32(content)
        if len(content) != size or found != crc32:
            raise ShardError(
                f"{self._name}: {name} is damaged: the {size} bytes at {offset} have CRC-32 "
                f"{found:08x}, the index says {crc32:08x}"
            )
        return content


def _decode_sample(member: memoryview) -> tuple[str, Sample]:
    sample = decode_sample(member)
    return sample.key, sample
