"""The index is read one shard at a time, and refused with another manifest."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import arrow
from shards.format.index import Index, IndexRow
from shards.format.manifest import ShardEntry, ShardError
from shards.format.tables import encode_index, encode_table


def row(shard: str, n: int, captions: int = 2) -> IndexRow:
    return IndexRow(
        shard=shard,
        key=f"vg/{n}",
        image_name=f"vg/{n}.jpg",
        image_offset=512,
        image_size=10,
        image_crc32=7,
        json_offset=2048,
        json_size=20,
        json_crc32=8,
        width=640,
        height=480,
        captions=captions,
        regions=3,
        datasets=["vg"],
    )


SHARDS = [[row("a", 1), row("a", 2)], [], [row("c", 3)]]
ENTRIES = [
    ShardEntry(name, "train", 10240, "", n, 2 * n) for name, n in [("a", 2), ("b", 0), ("c", 1)]
]


def index(content: bytes, entries: list[ShardEntry], folder: Path) -> Index:
    path = folder / "index.parquet"
    path.write_bytes(content)
    return Index(path.open("rb"), entries, "SET")


def test_index_has_a_row_group_for_each_shard_with_images(tmp_path: Path) -> None:
    content = encode_index(SHARDS)
    assert pq.ParquetFile(pa.BufferReader(content)).num_row_groups == 2
    opened = index(content, ENTRIES, tmp_path)
    keys = [opened.rows(i, ["key"])["key"].to_pylist() for i in range(3)]
    assert keys == [["vg/1", "vg/2"], [], ["vg/3"]]
    assert opened.rows(1, ["captions"])["captions"].to_numpy().sum() == 0


def test_pyarrow_reads_the_index_as_one_table() -> None:
    table = pq.read_table(pa.BufferReader(encode_index(SHARDS)))
    assert table.schema == arrow.INDEX
    assert table["key"].to_pylist() == ["vg/1", "vg/2", "vg/3"]
    assert pq.read_table(pa.BufferReader(encode_index([]))).num_rows == 0


def refuse(content: bytes, folder: Path, entries: list[ShardEntry] = ENTRIES) -> str:
    with pytest.raises(ShardError) as refused:
        opened = index(content, entries, folder)
        for i in range(len(entries)):
            opened.rows(i, ["key"])
    return str(refused.value)


def test_index_of_one_row_group_is_refused(tmp_path: Path) -> None:
    content = encode_table([r for rows in SHARDS for r in rows], arrow.INDEX)
    assert refuse(content, tmp_path) == (
        "index.parquet of SET: it has 1 row groups for 2 shards with images; "
        "rebuild the shard set with this version"
    )


def test_index_of_other_columns_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    pq.write_table(pa.table({"shard": ["a"], "key": ["vg/1"]}), stream)
    assert "its columns are not those of an index; rebuild" in refuse(stream.getvalue(), tmp_path)


def test_row_groups_of_other_shards_are_refused(tmp_path: Path) -> None:
    assert "row group 0 has rows of other shards than a; rebuild" in refuse(
        encode_index(SHARDS[::-1]), tmp_path
    )
    mixed = [[SHARDS[0][0], SHARDS[2][0]], [SHARDS[2][0]]]
    assert "row group 0 has rows of other shards than a; rebuild" in refuse(
        encode_index(mixed), tmp_path
    )


def test_index_with_other_counts_than_the_manifest_is_refused(tmp_path: Path) -> None:
    message = refuse(encode_index([SHARDS[0][:1], SHARDS[2]]), tmp_path)
    assert message == "index.parquet of SET has 1 images in a, the manifest 2"


def test_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    content = encode_index(SHARDS)
    for damaged in (b"PAR1", content[:-20], b"x" * 100):
        assert "index.parquet of SET is not a Parquet file" in refuse(damaged, tmp_path)


def test_flipped_byte_of_the_rows_is_detected(tmp_path: Path) -> None:
    """Bytes of the footer have no checksum, but a flip there fails or changes no row."""
    many = [[row("a", n) for n in range(200)]]
    content = encode_index(many)
    entries = [ShardEntry("a", "train", 10240, "", 200, 400)]
    columns: list[Any] = arrow.INDEX.names
    whole = index(content, entries, tmp_path).rows(0, columns)
    footer = int.from_bytes(content[-8:-4], "little")
    for at in range(4, len(content) - footer - 8, 7):
        damaged = bytearray(content)
        damaged[at] ^= 1
        try:
            rows = index(bytes(damaged), entries, tmp_path).rows(0, columns)
        except ShardError:
            continue
        assert rows == whole
