"""``index.parquet``: its rows, and reading it shard by shard, so that no process holds it whole."""

import mmap
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import arrow
from shards.format.manifest import ShardEntry, ShardError

NAME = "index.parquet"


class Member(NamedTuple):
    """A member of a tar: its name, the offset of its bytes, and how many they are."""

    name: str
    offset: int
    size: int


class IndexRow(msgspec.Struct, array_like=True, gc=False):
    """One image of a shard, as `schemas.arrow.INDEX` has it."""

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

    def members(self) -> list[Member]:
        """What the tar has of the image, in the order in which it lies there."""
        listed = [Member(f"{self.key}.json", self.json_offset, self.json_size)]
        if self.image_name:
            listed.append(Member(self.image_name, self.image_offset, self.image_size))
        return sorted(listed, key=lambda member: member.offset)


class Index:
    """The index of a shard set: opening it reads its footer, `rows` one row group.

    Raises:
        ShardError: it is not a Parquet file, or not the index of ``shards``.
    """

    def __init__(self, file: BinaryIO, shards: Sequence[ShardEntry], shard_set: str) -> None:
        self._name = f"{NAME} of {shard_set}"
        try:
            with file:
                mapped = pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            self._file = pq.ParquetFile(
                pa.BufferReader(mapped), pre_buffer=False, page_checksum_verification=True
            )
        except (pa.ArrowInvalid, OSError, ValueError) as error:  # the last one: it is empty
            raise ShardError(f"{self._name} is not a Parquet file: {error}") from error
        if self._file.schema_arrow.names != arrow.INDEX.names:
            raise self._of_another_version("its columns are not those of an index")
        self._shards = shards
        # A shard without images has no row group.
        self._row_groups = {
            shard: group
            for group, shard in enumerate(i for i, entry in enumerate(shards) if entry.images)
        }
        if self._file.num_row_groups != len(self._row_groups):
            raise self._of_another_version(
                f"it has {self._file.num_row_groups} row groups for "
                f"{len(self._row_groups)} shards with images"
            )

    def rows(self, shard: int, columns: Sequence[str]) -> pa.Table:
        """Columns of the images of a shard, which is named by its place in the manifest.

        Raises:
            ShardError: the index speaks of another shard in its place, or of other counts.
        """
        entry = self._shards[shard]
        if shard not in self._row_groups:
            return arrow.INDEX.empty_table().select(columns)
        group = self._row_groups[shard]
        found = self._file.metadata.row_group(group)
        names = found.column(0).statistics
        if names is None or (names.min, names.max) != (entry.file, entry.file):
            raise self._of_another_version(f"its row group {group} is not of {entry.file} alone")
        if found.num_rows != entry.images:
            raise ShardError(
                f"{self._name} has {found.num_rows} images in {entry.file}, "
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

    def _of_another_version(self, found: str) -> ShardError:
        return ShardError(f"{self._name}: {found}; rebuild the shard set with this version")
