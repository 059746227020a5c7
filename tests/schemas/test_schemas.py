"""Records, and the tables written from them."""

import msgspec
import pyarrow as pa
import pytest

import schemas
from schemas import Excluded, Rejected, arrow
from shards.format.index import IndexRow
from shards.format.tables import encode_table

TABLES = [(Rejected, arrow.REJECTED), (Excluded, arrow.EXCLUDED), (IndexRow, arrow.INDEX)]
ARROW_TYPES = {
    str: pa.string(),
    bool: pa.bool_(),
    list[str]: pa.list_(pa.string()),
    list[int]: pa.list_(pa.int32()),
}


@pytest.mark.parametrize(("struct", "schema"), TABLES)
def test_columns_are_the_fields_of_the_structs_in_order(
    struct: type[msgspec.Struct], schema: pa.Schema
) -> None:
    assert schema.names == list(struct.__struct_fields__)
    for field in msgspec.structs.fields(struct):
        if field.type is int:
            assert pa.types.is_signed_integer(schema.field(field.name).type)
        else:
            assert schema.field(field.name).type == ARROW_TYPES[field.type]


def test_rows_survive_encoding_as_a_table() -> None:
    row = IndexRow(
        shard="a.tar",
        key="vg/1",
        image_name="vg/1.jpg",
        image_offset=3 << 40,
        image_size=5,
        image_crc32=(1 << 32) - 1,
        json_offset=6,
        json_size=7,
        json_crc32=8,
        width=640,
        height=480,
        captions=2,
        regions=3,
        datasets=["gqa", "vg"],
        licenses=[3, 1],
        url="http://farm6.staticflickr.com/5062/5896644212_a326e96ea9_z.jpg",
    )
    table = pa.parquet.read_table(pa.BufferReader(encode_table([row], arrow.INDEX)))
    [read_row] = table.to_pylist()
    assert IndexRow(**read_row) == row
    empty = pa.parquet.read_table(pa.BufferReader(encode_table([], arrow.REJECTED)))
    assert (empty.num_rows, empty.schema) == (0, arrow.REJECTED)


def test_records_cannot_form_a_cycle() -> None:
    """``gc=False`` is safe only if no record holds records of its own kind."""
    for name in (
        "Region",
        "ObjectRegion",
        "Object",
        "Phrase",
        "Provenance",
        "ImageInfo",
        "Rejected",
        "EvalImage",
    ):
        struct = getattr(schemas, name)
        assert not struct.__struct_config__.gc
        assert name not in {str(f.type) for f in msgspec.structs.fields(struct)}
