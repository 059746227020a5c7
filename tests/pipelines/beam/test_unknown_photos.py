"""Warnings of images whose photos no table states, though they are in COCO."""

import json
from pathlib import Path
from typing import Any

from tests import tiny

URL = "http://farm6.staticflickr.com/5062/5896644212_a326e96ea9_z.jpg"


def build(root: Path, **tables: Any) -> list[str]:
    """Builds Visual Genome with [exclude.photos] of Flickr30k; returns the manifest's warnings."""
    tiny.write(root / "photos.txt", b"5896644212\n")
    vg = tiny.write_vg(
        root,
        [tiny.vg_image(7, coco_id=139), tiny.vg_image(8, flickr_id=33)],
        [tiny.vg_graph(i, tiny.vg_region(i, "a dog")) for i in (7, 8)],
    )
    exclude = {"photos": {"ids": ["photos.txt"], "of": "flickr30k"}}
    assert tiny.build(root, sources={"vg": vg}, exclude=exclude, **tables) == 0
    warnings: list[str] = json.loads((root / "shards/manifest.json").read_text())["warnings"]
    return warnings


def test_image_with_a_coco_id_and_no_photo(tmp_path: Path) -> None:
    assert (
        "sources.vg: no table states the flickr photo id of 1 of its images of vg that are in COCO "
        "(vg/7), so they are not found by it as images of exclude.photos"
    ) in build(tmp_path)
    assert tiny.samples(tmp_path).keys() == {"vg/7", "vg/8"}


def test_table_of_coco_states_the_photo(tmp_path: Path) -> None:
    images = [tiny.coco_image(139, flickr_url=URL)]
    tiny.write_json(tmp_path / "coco.json", {"images": images, "annotations": []})
    warnings = build(tmp_path, image_tables={"coco": ["coco.json"]})
    assert not any("in COCO" in warning for warning in warnings)
    assert tiny.samples(tmp_path).keys() == {"vg/8"}


def test_evaluation_image_with_a_coco_id_and_no_photo(tmp_path: Path) -> None:
    """Its table is read for joins alone, and COCO's is not."""
    tiny.write_json(tmp_path / "image_data.json", [tiny.vg_image(7, coco_id=139)])
    tiny.write(tmp_path / "held_out.txt", b"7\n")
    flickr30k = tiny.write_flickr30k(tmp_path, {5896644212: ["A dog runs ."]})
    tables = {
        "sources": {"flickr30k": flickr30k},
        "exclude": {"gqa": {"ids": ["held_out.txt"], "of": "vg"}},
        "image_tables": {"vg": ["image_data.json"]},
    }
    assert tiny.build(tmp_path, **tables) == 0
    warnings = json.loads((tmp_path / "shards/manifest.json").read_text())["warnings"]
    assert (
        "exclude.gqa: no table states the flickr photo id of 1 of its images of vg that are in "
        "COCO (vg/7), so they are not found by it in sources.flickr30k"
    ) in warnings


def test_images_of_coco_that_no_table_has(tmp_path: Path) -> None:
    """All images of COCO are held out, and one of them is known."""
    images = [tiny.coco_image(139, flickr_url=URL)]
    tiny.write_json(tmp_path / "coco.json", {"images": images, "annotations": []})
    vg = tiny.write_vg(
        tmp_path,
        [tiny.vg_image(7, flickr_id=5896644212), tiny.vg_image(8, flickr_id=33)],
        [tiny.vg_graph(i, tiny.vg_region(i, "a dog")) for i in (7, 8)],
    )
    tables = {"exclude": {"coco": {"namespace": "coco"}}, "image_tables": {"coco": ["coco.json"]}}
    assert tiny.build(tmp_path, sources={"vg": vg}, **tables) == 0
    assert tiny.samples(tmp_path).keys() == {"vg/8"}
    warnings = json.loads((tmp_path / "shards/manifest.json").read_text())["warnings"]
    assert (
        "exclude.coco: the tables state the flickr photo id of 1 image of coco, and COCO 2014 has "
        "123287; the others are not found by it in sources.vg"
    ) in warnings
