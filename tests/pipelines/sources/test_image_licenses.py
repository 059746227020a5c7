"""Licenses and web addresses of images, as COCO and LVIS state them."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.io.slices import SliceRange, find_slices, read_slice
from pipelines.sources.base import Source
from pipelines.sources.coco import Coco
from pipelines.sources.lvis import Lvis
from pipelines.sources.visual_genome.reader import VisualGenome
from schemas import UNKNOWN_LICENSE, ImageInfo, License, Rejected
from schemas.licenses import MALFORMED_LICENSE, UNKNOWN_LICENSE_ID, is_web_address
from schemas.limits import MAX_LICENSES_BYTES
from tests import tiny

BY, BY_SA = License("BY", "http://by"), License("BY-SA", "http://by-sa")
TABLE = [
    {"id": 4, "name": "BY", "url": "http://by"},
    {"id": 5, "name": "BY-SA", "url": "http://by-sa"},
]


def read_table(source: Source, scratch: str = "") -> list[ImageInfo | Rejected]:
    items: list[ImageInfo | Rejected] = []
    for rank, input_ in enumerate(source.image_tables()):
        for item in find_slices("coco", rank, input_, scratch):
            if isinstance(item, SliceRange):
                items += source.read_image_table(read_slice(item))
            else:
                items.append(item)
    return items


def read(path: Path, images: list[Any], **tables: Any) -> tuple[list[ImageInfo], list[Rejected]]:
    tiny.write_json(path, {**tables, "images": images, "annotations": []})
    items = read_table(Coco(instances=[str(path)]))
    rows = [item for item in items if isinstance(item, ImageInfo)]
    assert len(rows) == len(images)  # whatever their licenses are, the images are used
    return rows, [item for item in items if isinstance(item, Rejected)]


def test_real_images_of_coco_have_the_license_and_the_address_of_their_file(
    reference: Path,
) -> None:
    path = reference / "real/coco_mini/annotations/instances_val2017.json"
    raw = json.loads(path.read_bytes())
    names = {row["id"]: License(row["name"], row["url"]) for row in raw["licenses"]}
    expected = {
        row["file_name"]: (names[row["license"]], row["flickr_url"]) for row in raw["images"]
    }
    assert len(set(names.values())) == 8
    assert len({license for license, _ in expected.values()}) > 1
    rows = read_table(Coco(instances=[str(path)]))
    assert {
        row.file: (row.license, row.url) for row in rows if isinstance(row, ImageInfo)
    } == expected
    assert len(rows) == len(expected)


def test_real_images_of_lvis_have_the_license_and_the_address_of_their_file(
    reference: Path,
) -> None:
    path = reference / "real/lvis/lvis_v0.5_val_100.json"
    raw = json.loads(path.read_bytes())
    names = {row["id"]: License(row["name"], row["url"]) for row in raw["licenses"]}
    rows = read_table(Lvis(annotations={"train": str(path)}))
    assert {(row.key, row.license, row.url) for row in rows if isinstance(row, ImageInfo)} == {
        (f"coco/{row['id']}", names[row["license"]], row["flickr_url"]) for row in raw["images"]
    }


def test_address_of_visual_genome(reference: Path) -> None:
    path = reference / "real/vg_excerpt/image_data.json"
    [row] = read_table(VisualGenome(image_data=str(path), region_graphs="unread.json"))
    assert isinstance(row, ImageInfo)
    assert (row.url, row.license) == (json.loads(path.read_bytes())[0]["url"], UNKNOWN_LICENSE)


@pytest.mark.parametrize(
    ("fields", "license"),
    [
        ({"license": 4}, BY),
        ({"license": 5.0}, BY_SA),
        ({"license": "4"}, BY),
        ({"license": None}, UNKNOWN_LICENSE),
        ({}, UNKNOWN_LICENSE),
    ],
)
def test_license_of_an_image(fields: Any, license: License, tmp_path: Path) -> None:
    [row], rejected = read(tmp_path / "a.json", [tiny.coco_image(1, **fields)], licenses=TABLE)
    assert (row.license, rejected) == (license, [])


@pytest.mark.parametrize("value", [6, "CC BY", [4], {"id": 4}, True, 10**30, -4, 4.5, ""])
def test_license_that_the_table_lacks_is_unknown_and_reported(value: Any, tmp_path: Path) -> None:
    images = [tiny.coco_image(1, license=value), tiny.coco_image(2, license=value)]
    rows, rejected = read(tmp_path / "a.json", images, licenses=TABLE)
    assert {row.license for row in rows} == {UNKNOWN_LICENSE}
    assert [(r.reason, r.records, r.boxes) for r in rejected] == 2 * [(UNKNOWN_LICENSE_ID, 0, 0)]
    detail = "a.json: licenses has no such id; images that state it: 1"  # in each of two slices
    assert {(r.record, r.detail) for r in rejected} == {(f"license {json.dumps(value)}", detail)}


def test_packed_table_is_reported_by_the_name_that_it_has_unpacked(tmp_path: Path) -> None:
    table = {"images": [tiny.coco_image(1, license=6)], "licenses": TABLE, "annotations": []}
    packed = tiny.write_zip(tmp_path / "a.json.zip", {"a.json": json.dumps(table).encode()})
    _, rejected = read_table(Coco(instances=[str(packed)]), str(tmp_path))
    assert isinstance(rejected, Rejected)
    assert rejected.detail.startswith("a.json: licenses has no such id")


@pytest.mark.parametrize(
    ("table", "license", "records"),
    [
        ([], None, []),
        ([{"id": 4}, {"id": 4, "name": "BY", "url": "http://by"}], None, ["licenses"]),
        ([*TABLE, {"id": 4, "name": "another"}], BY, ["licenses"]),
        ([{"name": "no id"}, *TABLE], BY, ["licenses/0"]),
        ([*TABLE, {"id": 7, "name": 7}], BY, ["licenses/2"]),
        ([*TABLE, 7], BY, ["licenses/2"]),
        ({"4": "BY"}, None, ["licenses"]),
        ("BY", None, ["licenses"]),
        ([*TABLE, {"id": 9, "name": "\ud800"}], BY, ["licenses/2"]),
        ([*TABLE, {"id": 9, "name": float("nan")}], BY, ["licenses/2"]),
    ],
)
def test_table_with_errors_costs_no_image(
    table: Any, license: License | None, records: list[str], tmp_path: Path
) -> None:
    [row], rejected = read(tmp_path / "a.json", [tiny.coco_image(1, license=4)], licenses=table)
    assert row.license == (license or UNKNOWN_LICENSE)
    reasons = [(r.record, r.reason) for r in rejected if r.reason == MALFORMED_LICENSE]
    assert reasons == [(record, MALFORMED_LICENSE) for record in records]
    assert all(r.records == 0 for r in rejected)


def test_table_that_is_too_large_is_reported_once(tmp_path: Path) -> None:
    table = [{"id": 4, "name": "x" * MAX_LICENSES_BYTES, "url": ""}]
    images = [tiny.coco_image(i) for i in range(1, 300)]
    _, [rejected] = read(tmp_path / "a.json", images, licenses=table)
    assert (rejected.record, rejected.reason) == ("licenses", MALFORMED_LICENSE)
    assert "bytes from byte" in rejected.detail


def test_each_slice_has_the_table_and_the_first_reports_it(tmp_path: Path) -> None:
    images = [tiny.coco_image(i, license=4 + i % 2) for i in range(1, 2001)]
    path = tiny.write_json(
        tmp_path / "a.json", {"images": images, "licenses": [*TABLE, "bad"], "annotations": []}
    )
    source = Coco(instances=[str(path)])
    assert sum(1 for _ in find_slices("coco", 0, source.image_tables()[0], "")) > 10
    rows, rejected = read(path, images, licenses=[*TABLE, "bad"])
    assert [row.license for row in rows] == [(BY, BY_SA)[i % 2] for i in range(1, 2001)]
    assert [r.record for r in rejected] == ["licenses/2"]


def test_file_without_licenses_has_none(tmp_path: Path) -> None:
    [row], rejected = read(tmp_path / "a.json", [tiny.coco_image(1)])
    assert (row.license, rejected) == (UNKNOWN_LICENSE, [])


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"flickr_url": "http://flickr/1", "coco_url": "http://coco/1"}, "http://flickr/1"),
        ({"flickr_url": "", "coco_url": "http://coco/1"}, "http://coco/1"),
        ({"coco_url": None}, ""),
        ({"coco_url": 7}, "7"),  # which is no address, as the build reports
    ],
)
def test_address_is_the_photo_s_or_else_coco_s(fields: Any, url: str, tmp_path: Path) -> None:
    [row], _ = read(tmp_path / "a.json", [tiny.coco_image(1, **fields)])
    assert row.url == url


@pytest.mark.parametrize(
    "text",
    ["javascript:alert(1)", "ftp://a/b", "http://", "http://a b", 'http://a/"', "http://a/\n", "a"],
)
def test_only_addresses_of_the_web_are_links(text: str) -> None:
    assert not is_web_address(text)
