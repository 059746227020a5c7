"""Overlaps between the datasets of the synthetic dataset: ids, sizes and splits."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipelines.synthetic.plan import plan_image


def load(path: Path) -> Any:
    return json.loads(path.read_bytes())


def test_ids_are_distinct() -> None:
    images = [plan_image(number, 5) for number in range(20_000)]
    assert len({p.coco_id for p in images}) == len(images)
    assert len({p.photo_id for p in images}) == len(images)
    vg = [p.vg_id for p in images if p.vg_id]
    assert len(set(vg)) == len(vg) == 13_000


def test_half_of_visual_genome_is_coco_at_another_size(demo_dataset: Path) -> None:
    rows = load(demo_dataset / "vg/image_data.json")
    shared = [row for row in rows if row["coco_id"]]
    assert 0.4 < len(shared) / len(rows) < 0.6
    for split in ("train", "val"):
        images = load(demo_dataset / f"coco/annotations/instances_{split}2014.json")["images"]
        coco = {row["id"]: row for row in images}
        pairs = [(row, coco[row["coco_id"]]) for row in shared if row["coco_id"] in coco]
        assert pairs
        for a, b in pairs:
            assert a["width"] != b["width"]
            assert a["width"] / a["height"] == pytest.approx(b["width"] / b["height"], abs=0.01)


def test_flickr_photos_are_in_the_other_datasets(demo_dataset: Path) -> None:
    images = load(demo_dataset / "coco/annotations/instances_train2014.json")["images"]
    coco = {row["flickr_url"].rsplit("/", 1)[1].split("_")[0] for row in images}
    vg = {str(row["flickr_id"]) for row in load(demo_dataset / "vg/image_data.json")}
    for split in ("train", "test"):
        photos = set((demo_dataset / f"flickr30k/{split}.txt").read_text().split())
        assert photos & coco and photos & vg
    assert set((demo_dataset / "flickr30k/val.txt").read_text().split()) & coco


def test_some_images_are_in_two_datasets_that_no_id_links() -> None:
    images = [plan_image(number, 0) for number in range(100)]
    unlinked = [p for p in images if p.vg_id and p.vg_coco_id is None and p.coco == "val"]
    unlinked += [p for p in images if p.vg_id and p.flickr30k == "val"]
    assert len(unlinked) == 2
    assert all(p.vg_flickr_id is None and p.vg_coco_id is None for p in unlinked)


def test_testdev_has_images_of_coco_test_and_visual_genome(demo_dataset: Path) -> None:
    questions = load(demo_dataset / "gqa/testdev_balanced_questions.json").values()
    ids = {question["imageId"] for question in questions}
    vg = {str(row["image_id"]) for row in load(demo_dataset / "vg/image_data.json")}
    assert {i for i in ids if i.startswith("n")} and ids & vg
    assert ids <= vg | {i for i in ids if re.fullmatch(r"n\d+", i)}
    trained = load(demo_dataset / "gqa/train_sceneGraphs.json").keys()
    assert not ids & (trained | load(demo_dataset / "gqa/val_sceneGraphs.json").keys())


def test_lists_of_ids_contain_images_of_the_dataset(demo_dataset: Path) -> None:
    vg = {row["image_id"] for row in load(demo_dataset / "vg/image_data.json")}
    phrasecut = (demo_dataset / "ids/phrasecut_val_test.txt").read_text().split()
    assert phrasecut and {int(i) for i in phrasecut} <= vg
    coco = {
        row["id"]
        for split in ("train", "val")
        for row in load(demo_dataset / f"coco/annotations/instances_{split}2014.json")["images"]
    }
    minival = {row["id"] for row in load(demo_dataset / "lvis/lvis_v1_minival.json")["images"]}
    assert minival and minival <= coco
