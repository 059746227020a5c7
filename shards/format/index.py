"""``index.parquet``: its rows, and a reader that holds one shard's rows at a time."""

import mmap
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import arrow
from shards.format.licenses import UNKNOWN_ID
from shards.format.manifest import ShardEntry, ShardError

NAME = "index.parquet"


class Member(NamedTuple):
    """A member of a tar: its name, and the offset and number of its bytes."""

    name: str
    offset: int
    size: int


class IndexRow(msgspec.Struct, array_like=True, gc=False):
    """The row of an image; the columns are those of `schemas.arrow.INDEX`."""

    shard: str
    key: str
    image_name: str
    image_offset: int
    image_size: int
    image_crc32: int
    json_offset: int
    json_size: int
    json_crc32: int
    width: int
    height: int
    captions: int
    regions: int
    datasets: list[str]
    crop_of: str = ""
    licenses: list[int] = msgspec.field(default_factory=lambda: [UNKNOWN_ID])
    url: str = ""

    def members(self) -> list[Member]:
        """Returns the image's members in the order of the tar."""
        members = [Member(f"{self.key}.json", self.json_offset, self.json_size)]
        if self.image_name:
            members.append(Member(self.image_name, self.image_offset, self.image_size))
        return sorted(members, key=lambda member: member.offset)


class Index:
    """The index of a shard set. Opening it reads the footer of the file, `rows` one row group.

    Raises:
        ShardError: the file is not Parquet, or not the index of ``shards``.
    """

    def __init__(self, file: BinaryIO, shards: Sequence[ShardEntry], shard_set: str) -> None:
        self._name = f"{NAME} of {shard_set}"
        try:
            with file:
                mapped = pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            self._file = pq.ParquetFile(
                pa.BufferReader(mapped), pre_buffer=False, page_checksum_verification=True
            )
        except (pa.ArrowInvalid, OSError, ValueError) as error:  # ValueError: it is empty
            raise ShardError(f"{self._name} is not a Parquet file: {error}") from error
        if not self._file.schema_arrow.equals(arrow.INDEX):
            raise self._mismatch("its columns are not those of an index")
        self._shards = shards
        # A shard without images has no row group.
        self._row_groups = {
            shard: group
            for group, shard in enumerate(i for i, entry in enumerate(shards) if entry.images)
        }
        if self._file.num_row_groups != len(self._row_groups):
            raise self._mismatch(
                f"it has {self._file.num_row_groups} row groups for "
                f"{len(self._row_groups)} shards with images"
            )

    def rows(self, shard: int, columns: Sequence[str]) -> pa.Table:
        """Returns columns of the rows of a shard, one row per image.

        Args:
            shard: its index in the manifest.
            columns: their names.

        Raises:
            ShardError: the file is damaged, or its shards or counts differ from the manifest.
        """
        entry = self._shards[shard]
        if shard not in self._row_groups:
            return arrow.INDEX.empty_table().select(columns)
        group = self._row_groups[shard]
        row_group = self._file.metadata.row_group(group)
        names = row_group.column(0).statistics
        if names is None or (names.min, names.max) != (entry.file, entry.file):
            raise self._mismatch(
                f"its row group {group} has rows of other shards than {entry.file}"
            )
        if row_group.num_rows != entry.images:
            raise ShardError(
                f"{self._name} has {row_group.num_rows} images in {entry.file}, "
                f"the manifest {entry.images}"
            )
        try:
            # One thread: a pool of threads does not survive a fork into data workers.
            rows = self._file.read_row_group(group, columns=list(columns), use_threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise ShardError(f"{self._name} is damaged at {entry.file}: {error}") from error
        if any(column.null_count for column in rows.columns):
            raise ShardError(f"{self._name} is damaged at {entry.file}: a value is missing")
        return rows

    def _mismatch(self, detail: str) -> ShardError:
        return ShardError(f"{self._name}: {detail}; rebuild the shard set with this version")
