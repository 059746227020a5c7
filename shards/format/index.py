"""The index of a shard, a Parquet file with a row for each of its images."""

from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import arrow
from shards.format.licenses import UNKNOWN_ID
from shards.format.manifest import ShardEntry, ShardError


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


def read_rows(file: BinaryIO, entry: ShardEntry, columns: Sequence[str]) -> pa.Table:
    """Returns columns of the index of a shard, one row per image.

    Ids of licenses become those of the manifest.

    Args:
        file: the index.
        entry: the shard.
        columns: names of columns of `schemas.arrow.INDEX`.

    Raises:
        ShardError: the file is damaged, or is not the index that the manifest states.
    """
    name = entry.index.file
    try:
        parquet = pq.ParquetFile(
            pa.BufferReader(file.read()), pre_buffer=False, page_checksum_verification=True
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(f"{name} is not a Parquet file: {error}") from error
    if not parquet.schema_arrow.equals(arrow.INDEX):
        raise ShardError(f"{name}: its columns are not those of an index")
    try:
        # One thread: a pool of threads does not survive a fork into data workers.
        rows = parquet.read(columns=["shard", *columns], use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(f"{name} is damaged: {error}") from error
    if any(column.null_count for column in rows.columns):
        raise ShardError(f"{name} is damaged: a value is missing")
    if rows.num_rows != entry.images:
        raise ShardError(f"{name} has {rows.num_rows} images, the manifest {entry.images}")
    if others := sorted(set(rows["shard"].unique().to_pylist()) - {entry.file}):
        raise ShardError(f"{name} has rows of another shard, {others[0][:80]!a}")
    rows = rows.select(columns)
    if "licenses" not in columns:
        return rows
    position = rows.schema.get_field_index("licenses")
    return rows.set_column(position, arrow.INDEX.field("licenses"), _licenses(rows, entry))


def _licenses(rows: pa.Table, entry: ShardEntry) -> pa.Array:
    """Returns the ids of the manifest's licenses, for those of the index."""
    ids = rows["licenses"].combine_chunks()
    try:
        of_manifest = pa.array(entry.licenses, pa.int32()).take(ids.values)
    except pa.ArrowIndexError as error:
        raise ShardError(
            f"{entry.index.file} has licenses of which the manifest states no id: {error}"
        ) from error
    return pa.ListArray.from_arrays(ids.offsets, of_manifest)
