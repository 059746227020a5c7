"""The index of a shard is refused if it is not what the manifest states."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import arrow
from shards.format.index import IndexRow, read_rows
from shards.format.manifest import FileEntry, ShardEntry, ShardError
from shards.format.tables import encode_index


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


ROWS = [row("a.tar", 1), row("a.tar", 2)]


def entry(images: int, licenses: tuple[int, ...] = (0,)) -> ShardEntry:
    """Returns the entry of the shard; sizes and checksums are those of no file."""
    index = FileEntry("a.index.parquet", 0, "")
    return ShardEntry("a.tar", "train", 10240, "", images, 2 * images, index, list(licenses))


def read(content: bytes, entry: ShardEntry, columns: list[str]) -> pa.Table:
    return read_rows(io.BytesIO(content), entry, columns)


def refusal(content: bytes, entry: ShardEntry, *columns: str) -> str:
    with pytest.raises(ShardError) as refused:
        read(content, entry, list(columns) or ["key"])
    return str(refused.value)


def test_columns_are_read() -> None:
    content = encode_index(ROWS)
    assert read(content, entry(2), ["key"]).to_pydict() == {"key": ["vg/1", "vg/2"]}
    assert read(content, entry(2), list(arrow.INDEX.names)).schema == arrow.INDEX
    assert pq.read_table(pa.BufferReader(content)).schema == arrow.INDEX


def test_index_of_a_shard_without_images_has_no_row_group() -> None:
    content = encode_index([])
    assert pq.ParquetFile(pa.BufferReader(content)).num_row_groups == 0
    assert read(content, entry(0), ["captions"])["captions"].to_numpy().sum() == 0
    assert read(content, entry(0), ["licenses"]).to_pylist() == []


def test_licenses_are_those_of_the_manifest() -> None:
    first, second = row("a.tar", 1), row("a.tar", 2)
    first.licenses, second.licenses = [2, 1], [0]
    content = encode_index([first, second])
    rows = read(content, entry(2, (0, 7, 3)), ["key", "licenses", "url"])
    assert rows.schema == pa.schema([arrow.INDEX.field(n) for n in ("key", "licenses", "url")])
    assert rows["licenses"].to_pylist() == [[3, 7], [0]]
    assert refusal(content, entry(2, (0, 7)), "licenses").startswith(
        "a.index.parquet has licenses of which the manifest states no id"
    )
    first.licenses = [-1]
    assert "states no id" in refusal(encode_index([first, second]), entry(2, (0, 7)), "licenses")


def test_index_of_other_columns_is_refused() -> None:
    stream = io.BytesIO()
    pq.write_table(pa.table({"shard": ["a.tar"], "key": ["vg/1"]}), stream)
    message = refusal(stream.getvalue(), entry(1))
    assert message == "a.index.parquet: its columns are not those of an index"


def test_rows_of_another_shard_are_refused() -> None:
    for mixed in ([row("c.tar", 1)], [row("a.tar", 1), row("c.tar", 2)]):
        message = refusal(encode_index(mixed), entry(len(mixed)))
        assert message == "a.index.parquet has rows of another shard, 'c.tar'"


def test_index_with_other_counts_than_the_manifest_is_refused() -> None:
    message = refusal(encode_index(ROWS[:1]), entry(2))
    assert message == "a.index.parquet has 1 images, the manifest 2"


def test_damaged_parquet_file_is_refused() -> None:
    content = encode_index(ROWS)
    for damaged in (b"", b"PAR1", content[:-20], b"x" * 100):
        assert "a.index.parquet is not a Parquet file" in refusal(damaged, entry(2))


def test_flipped_byte_of_the_rows_is_detected() -> None:
    """Bytes of the footer have no checksum, but a flip there fails or changes no row."""
    content = encode_index([row("a.tar", n) for n in range(200)])
    columns: list[Any] = arrow.INDEX.names
    whole = read(content, entry(200), columns)
    footer = int.from_bytes(content[-8:-4], "little")
    for at in range(4, len(content) - footer - 8, 7):
        damaged = bytearray(content)
        damaged[at] ^= 1
        try:
            rows = read(bytes(damaged), entry(200), columns)
        except ShardError:
            continue
        assert rows == whole
