"""Licenses and addresses of images, from the raw files to the shard set, by the real command."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from shards.__main__ import main as shards
from shards.format import manifest as mf
from shards.reading.shard_set import ShardSet
from shards.verification.verify import verify
from tests import tiny

TABLE = [
    {"id": 1, "name": "BY-NC", "url": "http://creativecommons.org/licenses/by-nc/2.0/"},
    {"id": 3, "name": "No known restrictions", "url": "http://flickr.com/commons/usage/"},
]


def coco_file(path: Path, images: list[Any], licenses: Any, ids: range | None = None) -> str:
    """Writes instances with one annotation an image."""
    annotations = [tiny.coco_annotation(image["id"], image["id"]) for image in images]
    content = {"images": images, "annotations": annotations, "licenses": licenses}
    tiny.write_json(path, content)
    return path.name


def build(root: Path, licenses: Any = TABLE, **more: Any) -> int:
    """Builds three images of COCO, one of which Visual Genome has, too, and one of its own."""
    images = [
        tiny.coco_image(7, license=1, flickr_url="http://farm6.staticflickr.com/5062/1_a_z.jpg"),
        tiny.coco_image(8, license=3, coco_url="http://images.cocodataset.org/train2014/8.jpg"),
        tiny.coco_image(9, license=2, coco_url="javascript:alert(9)"),
    ]
    references = [tiny.reference(i, i, {i: f"the cat {i}"}) for i in (7, 8, 9)]
    coco = tiny.write_coco(root, images, [], references)
    coco_file(root / "coco/instances.json", images, licenses)
    vg = tiny.write_vg(
        root,
        [
            tiny.vg_image(1, coco_id=7, url="https://cs.stanford.edu/people/rak248/VG_100K/1.jpg"),
            tiny.vg_image(2, url="https://cs.stanford.edu/people/rak248/VG_100K/2.jpg"),
        ],
        [tiny.vg_graph(i, tiny.vg_region(i, "a red dog")) for i in (1, 2)],
    )
    return tiny.build(root, sources={"coco": coco, "vg": vg, **more.pop("sources", {})}, **more)


def index(root: Path) -> dict[str, tuple[list[int], str]]:
    return index_of(root / "shards")


def index_of(shard_set: Path) -> dict[str, tuple[list[int], str]]:
    """Returns the ids of licenses and the address of each image, by its key."""
    shards = ShardSet.open(shard_set)
    rows = [row for i in range(len(shards.shards)) for row in shards.index_rows(i)]
    return {row.key: (row.licenses, row.url) for row in rows}


def test_licenses_and_addresses_reach_the_index_and_the_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(tmp_path) == 0
    assert index(tmp_path) == {
        "coco/7": ([1], "http://farm6.staticflickr.com/5062/1_a_z.jpg"),
        "coco/8": ([2], "http://images.cocodataset.org/train2014/8.jpg"),
        "coco/9": ([0], ""),
        "vg/2": ([0], "https://cs.stanford.edu/people/rak248/VG_100K/2.jpg"),
    }
    manifest = mf.load(tmp_path / "shards")
    table = [(e.id, e.name, e.url, e.images, e.stated_by) for e in manifest.licenses]
    assert table == [
        (0, "unknown", "", 2, []),
        (1, "BY-NC", TABLE[0]["url"], 1, ["coco"]),
        (2, "No known restrictions", TABLE[1]["url"], 1, ["coco"]),
    ]
    assert {name: list(terms) for name, terms in manifest.terms.items()} == {
        "coco": ["unknown"],
        "vg": ["unknown", "vg"],  # by the names of its tables; its folder of images has another
    }
    assert manifest.terms["vg"]["unknown"].title.endswith(": vg/images")
    errors = {(row.record, row.reason, row.records) for row in tiny.rejected(tmp_path)}
    assert errors == {("license 2", "unknown license", 0), ("coco/9", "not a web address", 0)}
    assert verify(ShardSet.open(tmp_path / "shards")).errors.listed == []
    capsys.readouterr()
    assert shards(["stats", str(tmp_path / "shards")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "BY-NC 1 coco" in shown and "unknown 2 -" in shown
    assert "terms of vg, unknown: unknown" in shown


def lvis(root: Path, images: list[dict[str, Any]], licenses: Any) -> dict[str, Any]:
    """Writes LVIS's classes of images of COCO; returns the recipe's table."""
    content = {
        "images": images,
        "annotations": [tiny.coco_annotation(i["id"], i["id"]) for i in images],
        "categories": [{"id": 1, "name": "cat"}],
        "licenses": licenses,
    }
    tiny.write_json(root / "lvis.json", content)
    return {"annotations": {"train": "lvis.json"}}


def lvis_image(id_: int, **fields: Any) -> dict[str, Any]:
    size = {"width": tiny.WIDTH, "height": tiny.HEIGHT}
    return {"id": id_, "coco_url": f"http://images.cocodataset.org/{id_}.jpg", **size, **fields}


def test_sources_that_disagree_are_both_stated_and_counted(tmp_path: Path) -> None:
    """Of image 7, LVIS states another license than COCO; of 8 the same; of 9 it alone one."""
    images = [lvis_image(7, license=5), lvis_image(8, license=6), lvis_image(9, license=5)]
    of_lvis = [{"id": 5, "name": "BY", "url": "http://by"}, TABLE[1] | {"id": 6}]
    assert build(tmp_path, sources={"lvis": lvis(tmp_path, images, of_lvis)}) == 0
    manifest = mf.load(tmp_path / "shards")
    names = [entry.name for entry in manifest.licenses]
    by_key = {key: [names[id_] for id_ in ids] for key, (ids, _) in index(tmp_path).items()}
    assert by_key == {
        "coco/7": ["BY-NC", "BY"],
        "coco/8": ["No known restrictions"],
        "coco/9": ["BY"],
        "vg/2": ["unknown"],
    }
    assert {e.name: (e.images, e.stated_by) for e in manifest.licenses} == {
        "unknown": (1, []),
        "BY": (2, ["lvis"]),
        "BY-NC": (1, ["coco"]),
        "No known restrictions": (1, ["coco", "lvis"]),
    }
    assert index(tmp_path)["coco/9"][1] == "http://images.cocodataset.org/9.jpg"
    [warning] = [w for w in manifest.warnings if "license" in w]
    assert warning.startswith("sources state different licenses of 1 image")
    assert verify(ShardSet.open(tmp_path / "shards")).errors.listed == []


def test_licenses_of_a_table_that_is_read_for_its_ids_fail_no_build(tmp_path: Path) -> None:
    coco_file(tmp_path / "ids.json", [tiny.coco_image(77, license=4)], "no table")
    assert build(tmp_path, image_tables={"coco": ["ids.json"]}) == 0
    assert {row.source for row in tiny.rejected(tmp_path)} == {"coco"}
    too_large = [{"id": 1, "name": "x" * (1 << 17)}]
    coco_file(tmp_path / "ids.json", [tiny.coco_image(77, license=4)], too_large)
    assert build(tmp_path, image_tables={"coco": ["ids.json"]}) == 1  # the set is there
    shutil.rmtree(tmp_path / "shards")
    assert build(tmp_path, image_tables={"coco": ["ids.json"]}) == 0
    assert {row.source for row in tiny.rejected(tmp_path)} == {"coco"}


def test_synthetic_images_have_the_licenses_of_their_raw_files(
    demo_dataset: Path, demo_set: Path
) -> None:
    expected: dict[str, tuple[str, str]] = {}
    for split in ("train", "val"):
        path = demo_dataset / f"coco/annotations/instances_{split}2014.json"
        raw = json.loads(path.read_bytes())
        names = {row["id"]: row["name"] for row in raw["licenses"]}
        for row in raw["images"]:
            expected[f"coco/{row['id']}"] = names[row["license"]], row["flickr_url"]
    manifest = mf.load(demo_set)
    assert len(manifest.licenses) == 3
    for key, ([id_], url) in index_of(demo_set).items():
        name = manifest.licenses[id_].name
        if key.startswith("coco/"):
            assert (name, url) == expected[key]
        else:
            assert name == "unknown"
            assert url.endswith(f"/{key.removeprefix('vg/')}.jpg") or not url
    assert {tuple(terms) for terms in manifest.terms.values()} == {("unknown",)}
