"""Detection datasets in COCO's layout: classes as captions, whichever slices have their boxes."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from pipelines.io import slices
from shards.format import manifest
from shards.format.source_counts import SourceCounts
from tests import tiny

CLASSES = [
    {"id": 1, "name": "Person"},
    {"id": 4, "name": "Cabinet/shelf"},
    {"id": 9, "name": "bow_(weapon)"},
]
RUNNER = "--runner=tests.eager_runner.EagerRunner"
SEPARATE = {"train": {"shards": 1, "combine": False}}
Boxes = dict[tuple[str, str], list[list[float]]]  # by image and class


def row(number: int, **fields: Any) -> dict[str, Any]:
    name = f"images/v1/patch8/objects365_v1_{number:08d}.jpg"
    size = {"width": tiny.WIDTH, "height": tiny.HEIGHT}
    return {"id": number, "file_name": name, "license": 5, "url": "", **size, **fields}


def box(image: int, category: int, bbox: Any = (10, 10, 40, 30), **fields: Any) -> dict[str, Any]:
    facts = {"id": 7, "iscrowd": 0, "isfake": 0, "isreflected": 0}
    return {"image_id": image, "category_id": category, "bbox": bbox, **facts, **fields}


def write(root: Path, images: list[Any], annotations: list[Any], **more: Any) -> dict[str, Any]:
    """Writes Objects365 with its images; returns the recipe's table."""
    content = {"images": images, "annotations": annotations, "categories": CLASSES, **more}
    tiny.write_json(root / "objects365/train.json", content)
    for image in images:
        if isinstance(image["id"], int):
            file = image["file_name"].removeprefix("images/v1/")
            tiny.write(root / "objects365/train" / file, tiny.image_file(hue=image["id"]))
    return {
        "annotations": {"train": "objects365/train.json"},
        "images": ["objects365/train"],
    }


def build(root: Path, table: dict[str, Any], **tables: Any) -> SourceCounts:
    tables = {"splits": SEPARATE, "sources": {"objects365": table}, **tables}
    assert tiny.build(root, RUNNER, **tables) == 0
    [counts] = manifest.load(root / "shards").sources.values()
    return counts


def boxes_of(root: Path) -> Boxes:
    return {
        (key, caption["text"]): sorted(region["box"] for region in caption["regions"])
        for key, sample in tiny.samples(root).items()
        for caption in sample["captions"]
    }


def test_all_boxes_of_a_class_are_one_caption_whichever_slices_have_them(
    tmp_path: Path,
) -> None:
    """Each slice of a small file has one annotation."""
    annotations = [box(1 + i % 4, 1 + 3 * (i % 3 // 2), [i, 2, 20 + i, 30]) for i in range(40)]
    expected: Boxes = defaultdict(list)
    for annotation in annotations:
        name = {1: "Person", 4: "Cabinet/shelf"}[annotation["category_id"]]
        x, y, width, height = annotation["bbox"]
        key = f"objects365/{annotation['image_id']}"
        expected[key, name].append([x, y, x + width, y + height])
    counts = build(tmp_path, write(tmp_path, [row(i) for i in range(1, 5)], annotations))
    assert boxes_of(tmp_path) == {key: sorted(boxes) for key, boxes in expected.items()}
    assert (counts.in_shards, counts.boxes.in_shards) == (8, 40)
    assert counts.merged > 8 and counts.read == counts.in_shards + counts.merged
    sample = tiny.samples(tmp_path)["objects365/1"]
    region = sample["captions"][0]["regions"][0]
    assert (region["tokens_positive"], region.get("category", 1)) == ([[0, 6]], 1)
    assert sample["captions"][0]["provenance"][0]["record"] == "1:1"


def test_classes_of_a_combined_split_are_joined_with_their_own_spans(tmp_path: Path) -> None:
    images = [row(3)]
    annotations = [box(3, 1), box(3, 4, [120, 50, 30, 30]), box(3, 9, [12, 11, 38, 29])]
    table = write(tmp_path, images, annotations)
    build(tmp_path, table, splits={"train": {"shards": 1}})
    captions = tiny.samples(tmp_path)["objects365/3"]["captions"]
    words = {
        caption["text"][slice(*region["tokens_positive"][0])]: region["box"][0]
        for caption in captions
        for region in caption["regions"]
    }
    assert words == {"Person": 10, "Cabinet/shelf": 120, "bow": 12}
    # The boxes of a person and a bow are nearly the same.
    assert len(captions) == 2


def test_unusable_records_are_rejected_with_their_reason_and_counted(tmp_path: Path) -> None:
    annotations = [
        box(1, 1, [10, 10, 5000, 30]),  # beyond the image: clipped
        box(1, 1, [900, 10, 20, 30]),
        box(1, 4, [1, 2, 3]),
        box(1, 77),
        box(5, 1),
        {"image_id": 1},
        box(2, 9, iscrowd=1),
        box(2, 9, [1, 2, 1e9, 3]),
    ]
    counts = build(tmp_path, write(tmp_path, [row(1), row(2)], annotations))
    assert boxes_of(tmp_path) == {
        ("objects365/1", "Person"): [[10, 10, tiny.WIDTH, 40]],
        ("objects365/2", "bow"): [[10, 10, 50, 40]],
    }
    rows = {(r.record, r.reason, r.records, r.boxes) for r in tiny.rejected(tmp_path)}
    assert rows == {
        ("objects365/1:1", "box outside the image", 0, 1),
        ("2", "malformed record", 0, 1),
        ("5", "malformed record", 0, 1),
        ("7", "malformed record", 0, 1),
        ("objects365/1:4", "all boxes lost", 1, 0),
        ("objects365/1:77", "unknown class", 1, 1),
        ("objects365/5", "unknown image", 1, 1),
        ("license 5", "unknown license", 0, 0),
    }
    assert (counts.boxes.read, counts.boxes.in_shards, counts.boxes.rejected) == (8, 2, 6)
    [crowd] = tiny.samples(tmp_path)["objects365/2"]["captions"][0]["regions"]
    assert crowd["crowd"] is True


def test_class_of_too_many_boxes_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.captions.class_captions.MAX_CLASS_BOXES", 3)
    boxes = [box(1, 1, [i, 2, 20, 30]) for i in range(4)]
    build(tmp_path, write(tmp_path, [row(1)], [*boxes, box(1, 9)]))
    assert list(boxes_of(tmp_path)) == [("objects365/1", "bow")]
    [lost] = [r for r in tiny.rejected(tmp_path) if r.reason == "too many objects"]
    assert (lost.record, lost.records, lost.boxes) == ("objects365/1:1", 1, 4)


@pytest.mark.parametrize(
    ("categories", "message"),
    [([], "no categories"), ([{"id": 1}], "not in COCO's layout"), ("x" * 2000, "2002 bytes")],
)
def test_file_without_usable_classes_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    categories: Any,
    message: str,
) -> None:
    monkeypatch.setitem(slices._MAX_BESIDE_BYTES, "categories", 1000)
    table = write(tmp_path, [row(1)], [box(1, 1)], categories=categories)
    assert tiny.build(tmp_path, RUNNER, splits=SEPARATE, sources={"objects365": table}) == 1
    assert message in capsys.readouterr().err


def test_classes_of_coco_are_about_the_images_of_its_expressions(tmp_path: Path) -> None:
    """They have the Flickr photos that join them with other datasets."""
    url = "http://farm6.staticflickr.com/1/4242_ab_z.jpg"
    images = [tiny.coco_image(7, flickr_url=url)]
    tiny.write_coco(tmp_path, images, [tiny.coco_annotation(70, 7)], [])
    classes = json.loads((tmp_path / "coco/instances.json").read_text())
    tiny.write_json(tmp_path / "coco/instances.json", classes | {"categories": CLASSES})
    table = {"annotations": {"train": "coco/instances.json"}, "images": ["coco/images"]}
    ids = tiny.write(tmp_path / "held_out.txt", b"4242\n").name
    exclude = {"photos": {"ids": [ids], "of": "flickr30k"}}
    may_be_empty = {"train": {"shards": 1, "allow_empty": True}}
    assert (
        tiny.build(
            tmp_path,
            RUNNER,
            splits=may_be_empty,
            sources={"coco_detection": table | {"allow_empty": True}},
            exclude=exclude,
        )
        == 0
    )
    [excluded] = manifest.load(tmp_path / "shards").exclusions["photos"].excluded.items()
    assert excluded[0] == "flickr photo id"
    assert tiny.samples(tmp_path) == {}


def test_near_duplicates_hold_out_images_that_no_id_joins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """COCO's image 3 is drawn as the image 3 here."""
    table = write(tmp_path, [row(3), row(4)], [box(3, 1), box(4, 1)])
    tiny.write_json(tmp_path / "minival.json", {"images": [tiny.coco_image(3)]})
    tiny.write(tmp_path / "coco/3.jpg", tiny.image_file(hue=3))
    minival = {"instances": ["minival.json"], "images": ["coco"]}
    tables = {"sources": {"objects365": table}, "exclude": {"lvis_minival": minival}}
    assert tiny.build(tmp_path, RUNNER, **tables) == 1
    assert "can be found in no source" in capsys.readouterr().err
    build(tmp_path, table, **tables, near_duplicates={"action": "exclude", "distance": 2})
    assert list(tiny.samples(tmp_path)) == ["objects365/4"]
