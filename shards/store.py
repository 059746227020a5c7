"""The pairs of a shard set, read where they lie: shards are mapped, members sliced and checked."""

import mmap
import zlib
from collections import OrderedDict
from dataclasses import dataclass

import msgspec
import pyarrow as pa

from schemas import Caption
from shards.manifest import ShardError
from shards.sample_json import decode_caption
from shards.shard_set import ShardSet

_OPEN_SHARDS = 64  # more than the blocks that are read at once; a mapped shard costs a file handle
_NUMBERS = (
    *("picture_offset", "picture_size", "picture_crc32", "json_offset", "json_size", "json_crc32"),
    *("width", "height", "captions"),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture, as its encoded original bytes, with one of its captions (the ``number``-th).

    ``width`` and ``height`` are pixels of the picture. ``picture`` is a slice of the mapped shard.
    """

    key: str
    number: int
    width: int
    height: int
    picture: memoryview
    caption: Caption


class Store:
    """Reads pairs; the shards it has read from lately stay mapped."""

    def __init__(self, shards: ShardSet) -> None:
        self._shards = shards
        self._open: OrderedDict[int, _Shard] = OrderedDict()

    def pair(self, shard: int, row: int, number: int) -> Pair:
        """The pair of a shard's ``row``-th picture with its ``number``-th caption.

        Raises:
            ShardError: the shard is missing, truncated or damaged, or its index is.
        """
        opened = self._open.get(shard)
        if opened is None:
            opened = self._open[shard] = _Shard(self._shards, shard)
            if len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(shard)
        return opened.pair(row, number)


class _Shard:
    """A mapped tar with its rows of the index."""

    def __init__(self, shards: ShardSet, shard: int) -> None:
        self._name = f"{shards.location}: {shards.shards[shard].file}"
        rows = shards.rows(shard, ["key", *_NUMBERS])
        self._keys: pa.ChunkedArray = rows["key"]
        self._numbers = {name: rows[name].to_numpy() for name in _NUMBERS}
        with shards.open_shard(shard) as file:
            # Kept alive by the slices of it that are still in use.
            self._tar = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def pair(self, row: int, number: int) -> Pair:
        key = self._keys[row].as_py()
        of = {name: int(column[row]) for name, column in self._numbers.items()}
        if of["picture_offset"] < 0:
            raise ShardError(f"{self._name} holds annotations alone, no picture of {key}")
        member = self._member(f"{key}.json", of["json_offset"], of["json_size"], of["json_crc32"])
        try:
            found, caption = decode_caption(member, number)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ShardError(f"{self._name}: {key}.json is not a sample: {error}") from error
        except IndexError:
            raise ShardError(
                f"{self._name}: {key}.json has no caption {number}; "
                f"the index counts {of['captions']}"
            ) from None
        if found != key:
            raise ShardError(f"{self._name}: {found!r} was found where the index has {key!r}")
        picture = self._member(key, of["picture_offset"], of["picture_size"], of["picture_crc32"])
        return Pair(key, number, of["width"], of["height"], picture, caption)

    def _member(self, name: str, offset: int, size: int, crc32: int) -> memoryview:
        content = self._tar[offset : offset + size]
        found = zlib.crc32(content)
        if len(content) != size or found != crc32:
            raise ShardError(
                f"{self._name}: {name} is damaged: the {size} bytes at {offset} have CRC-32 "
                f"{found:08x}, the index says {crc32:08x}"
            )
        return content
