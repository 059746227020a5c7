"""The joins between datasets that tables make possible."""

import pytest

from pipelines.dedup.joins import Joins, TableIds
from schemas.joins import COCO_ID, ID, PHOTO_ID

VG: TableIds = {"vg": {COCO_ID, PHOTO_ID}}
COCO: TableIds = {"coco": {PHOTO_ID}}
KEYS: dict[str, TableIds] = {name: {name: set()} for name in ("coco", "vg", "flickr30k")}


@pytest.mark.parametrize(
    ("tables", "eval_set", "source", "expected"),
    [
        ([], "coco", "coco", [ID]),
        ([], "coco", "flickr30k", []),
        ([COCO], "coco", "flickr30k", [PHOTO_ID]),
        ([VG], "coco", "flickr30k", [PHOTO_ID]),  # by the photo of the duplicate in VG
        ([{"vg": {PHOTO_ID}}], "coco", "flickr30k", []),
        ([VG], "vg", "flickr30k", [PHOTO_ID]),
        ([{"vg": {COCO_ID}}, COCO], "vg", "flickr30k", [PHOTO_ID]),
        ([{"vg": {COCO_ID}}], "vg", "flickr30k", []),
        ([VG], "coco", "vg", [COCO_ID]),
        ([VG, COCO], "coco", "vg", [COCO_ID, PHOTO_ID]),
        ([COCO], "coco", "vg", []),
    ],
)
def test_possible_joins(
    tables: list[TableIds], eval_set: str, source: str, expected: list[str]
) -> None:
    joins = Joins(tables)
    assert joins.possible(KEYS[eval_set], KEYS[source]) == expected
    assert joins.possible(KEYS[source], KEYS[eval_set]) == expected
