"""The files of the synthetic dataset: fields and types as published, and true annotations."""

import json
import pickle
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from shapely import Polygon

from pipelines.synthetic.coco import run_lengths
from pipelines.synthetic.phrases import RELATIONS
from pipelines.synthetic.plan import plan_image

REF_FILES = ("refcoco/refs(unc).p", "refcoco+/refs(unc).p", "refcocog/refs(umd).p")


def load(path: Path) -> Any:
    return json.loads(path.read_bytes())


def types(record: dict[str, Any]) -> dict[str, type]:
    return {key: type(value) for key, value in record.items()}


def test_listed_images_exist_at_their_size(demo_dataset: Path) -> None:
    seen = 0
    for split in ("train", "val"):
        for row in load(demo_dataset / f"coco/annotations/instances_{split}2014.json")["images"]:
            with Image.open(demo_dataset / f"coco/{split}2014" / row["file_name"]) as opened:
                assert opened.size == (row["width"], row["height"])
                seen += 1
    for row in load(demo_dataset / "vg/image_data.json"):
        folder = row["url"].split("/")[-2]
        with Image.open(demo_dataset / "vg" / folder / f"{row['image_id']}.jpg") as opened:
            assert opened.size == (row["width"], row["height"])
            seen += 1
    for path in (demo_dataset / "flickr30k/Annotations").iterdir():
        size = ElementTree.parse(path).find("size")
        assert size is not None
        jpeg = demo_dataset / "flickr30k/flickr30k-images" / f"{path.stem}.jpg"
        with Image.open(jpeg) as opened:
            assert [str(side) for side in opened.size] == [size[0].text, size[1].text]
            assert max(opened.size) == 500
            seen += 1
    testdev = {p.gqa_id for p in (plan_image(n, 0) for n in range(300)) if p.coco == "test"}
    assert {p.stem for p in (demo_dataset / "gqa/images").iterdir()} == testdev
    assert seen + len(testdev) == len(list(demo_dataset.rglob("*.jpg")))


def test_visual_genome(demo_dataset: Path) -> None:
    rows, graphs = (
        load(demo_dataset / "vg/image_data.json"),
        load(demo_dataset / "vg/region_graphs.json"),
    )
    assert [row["image_id"] for row in rows] == [graph["image_id"] for graph in graphs]
    assert list(rows[0]) == ["width", "url", "height", "image_id", "coco_id", "flickr_id"]
    assert {type(row["coco_id"]) for row in rows} == {int, type(None)}
    assert {type(row["flickr_id"]) for row in rows} == {int, type(None)}
    regions = [region for graph in graphs for region in graph["regions"]]
    ids = [region["region_id"] for region in regions]
    assert len(ids) == len(set(ids))
    assert types(regions[0]) == {
        "region_id": int,
        "image_id": int,
        "phrase": str,
        "x": int,
        "y": int,
        "width": int,
        "height": int,
        "objects": list,
        "synsets": list,
        "relationships": list,
    }
    objects = [o for region in regions for o in region["objects"]]
    boxed = {"object_id": int, "name": str, "x": int, "y": int, "w": int, "h": int}
    assert all(types(o) == {**boxed, "synsets": list} for o in objects)
    assert {len(o["synsets"]) for o in objects} == {0, 1, 2}
    for region in regions:
        object_ids = {o["object_id"] for o in region["objects"]}
        for relationship in region["relationships"]:
            assert {relationship["subject_id"], relationship["object_id"]} <= object_ids
        for synset in region["synsets"]:
            start, stop = synset["entity_idx_start"], synset["entity_idx_end"]
            assert region["phrase"][start:stop].strip()


def test_only_corrupted_regions_reach_outside_the_image(demo_dataset: Path) -> None:
    sizes = {row["image_id"]: row for row in load(demo_dataset / "vg/image_data.json")}
    regions = [r for g in load(demo_dataset / "vg/region_graphs.json") for r in g["regions"]]
    outside = 0
    for region in regions:
        size = sizes[region["image_id"]]
        right, bottom = region["x"] + region["width"], region["y"] + region["height"]
        inside = 0 <= region["x"] < right <= size["width"]
        outside += not (inside and 0 <= region["y"] < bottom <= size["height"])
        for o in region["objects"]:
            assert 0 <= o["x"] < o["x"] + o["w"] <= size["width"]
            assert 0 <= o["y"] < o["y"] + o["h"] <= size["height"]
    assert 0 < outside < 0.005 * len(regions)


def test_gqa(demo_dataset: Path) -> None:
    graphs = {s: load(demo_dataset / f"gqa/{s}_sceneGraphs.json") for s in ("train", "val")}
    vg = {str(row["image_id"]): row for row in load(demo_dataset / "vg/image_data.json")}
    for split in ("train", "val"):
        assert graphs[split].keys() <= vg.keys()
        for image_id, graph in graphs[split].items():
            assert (graph["width"], graph["height"]) == (
                vg[image_id]["width"],
                vg[image_id]["height"],
            )
            assert {r["object"] for o in graph["objects"].values() for r in o["relations"]} <= (
                graph["objects"].keys()
            )
    assert not graphs["train"].keys() & graphs["val"].keys()
    train = load(demo_dataset / "gqa/train_balanced_questions.json")
    unknown = boxless = several_words = 0
    for question_id, question in train.items():
        assert re.fullmatch(r"\d{8}", question_id)
        objects = graphs["train"][question["imageId"]]["objects"]
        words = question["question"].split()
        for words_range, name in question["annotations"]["question"].items():
            first, _, stop = words_range.partition(":")
            assert int(first) < len(words) and (not stop or int(stop) <= len(words))
            several_words += bool(stop)
            unknown += name not in objects
        boxless += not question["annotations"]["question"]
        for step in question["semantic"]:
            assert types(step) == {"operation": str, "dependencies": list, "argument": str}
        assert question["isBalanced"] is True
        assert types(question["types"]) == dict.fromkeys(
            ("detailed", "semantic", "structural"), str
        )
    assert 0 < unknown < 0.01 * len(train)
    assert boxless and several_words
    structural = {q["types"]["structural"] for q in train.values()}
    assert structural == {"verify", "query", "choose", "logical", "compare"}


def test_gqa_all_questions_include_the_balanced_ones(demo_dataset: Path) -> None:
    train = load(demo_dataset / "gqa/train_balanced_questions.json")
    every: dict[str, Any] = {}
    for number in range(10):
        path = demo_dataset / f"gqa/train_all_questions/train_all_questions_{number}.json"
        every |= load(path)
    assert {k: q for k, q in every.items() if q["isBalanced"]} == train
    assert len(every) > len(train)


def test_coco(demo_dataset: Path) -> None:
    crowds = empty = crossed = total = 0
    for split in ("train", "val"):
        instances = load(demo_dataset / f"coco/annotations/instances_{split}2014.json")
        assert list(instances) == ["info", "images", "licenses", "annotations", "categories"]
        sizes = {row["id"]: (row["height"], row["width"]) for row in instances["images"]}
        names = [row["file_name"] for row in instances["images"]]
        assert all(re.fullmatch(rf"COCO_{split}2014_\d{{12}}\.jpg", name) for name in names)
        ids = [a["id"] for a in instances["annotations"]]
        assert len(ids) == len(set(ids))
        for a in instances["annotations"]:
            x, y, w, h = a["bbox"]
            height, width = sizes[a["image_id"]]
            assert x >= -1 and y >= -1 and x + w <= width + 1 and y + h <= height + 1
            if a["iscrowd"]:
                crowds += 1
                code = coco_mask.frPyObjects(a["segmentation"], height, width)
                assert coco_mask.area(code) == a["area"]
                assert coco_mask.toBbox(code).tolist() == a["bbox"]
                continue
            (polygon,) = a["segmentation"]
            corners = np.reshape(polygon, (-1, 2))
            low, high = corners.min(axis=0), corners.max(axis=0)
            assert [*low, *(high - low)] == pytest.approx(a["bbox"], abs=0.006)
            assert all(side == round(side, 2) for side in a["bbox"])
            if a["area"] == 0:
                empty += 1
                continue
            shape = Polygon(corners)
            crossed += not shape.is_valid or shape.area != pytest.approx(a["area"])
        total += len(ids)
    assert empty and crossed and empty + crossed < 0.01 * total
    assert crowds


@pytest.mark.parametrize("file", REF_FILES)
def test_references(file: str, demo_dataset: Path) -> None:
    references = pickle.loads((demo_dataset / "refcoco" / file).read_bytes())
    instances = load(demo_dataset / "coco/annotations/instances_train2014.json")
    annotations = {a["id"]: a for a in instances["annotations"]}
    assert [ref["ref_id"] for ref in references] == list(range(len(references)))
    sent_ids = [sent_id for ref in references for sent_id in ref["sent_ids"]]
    assert sent_ids == list(range(len(sent_ids)))
    splits = {"train", "val", "test"} if "g" in file else {"train", "val", "testA", "testB"}
    assert {ref["split"] for ref in references} <= splits
    unknown = empty = 0
    for ref in references:
        assert types(ref) == {
            "sent_ids": list,
            "file_name": str,
            "ann_id": int,
            "ref_id": int,
            "image_id": int,
            "split": str,
            "sentences": list,
            "category_id": int,
        }
        assert re.fullmatch(r"COCO_train2014_\d{12}_\d+\.jpg", ref["file_name"])
        assert [s["sent_id"] for s in ref["sentences"]] == ref["sent_ids"]
        for s in ref["sentences"]:
            assert list(s) == ["tokens", "raw", "sent_id", "sent"]
            assert s["tokens"] == s["sent"].split()
            empty += not s["sent"]
        if ref["ann_id"] in annotations:
            annotation = annotations[ref["ann_id"]]
            assert annotation["image_id"] == ref["image_id"]
            assert annotation["category_id"] == ref["category_id"]
        else:
            unknown += 1
    assert unknown + empty < 0.01 * len(sent_ids)


def test_flickr30k(demo_dataset: Path) -> None:
    folder = demo_dataset / "flickr30k"
    lists = {s: (folder / f"{s}.txt").read_text().split() for s in ("train", "val", "test")}
    listed = [photo for photos in lists.values() for photo in photos]
    assert len(listed) == len(set(listed))
    assert sorted(listed) == sorted(p.stem for p in (folder / "Annotations").iterdir())
    assert sorted(listed) == sorted(p.stem for p in (folder / "Sentences").iterdir())
    several_boxes = several_names = unboxed = not_visual = 0
    for photo in listed:
        root = ElementTree.parse(folder / f"Annotations/{photo}.xml").getroot()
        assert root.findtext("filename") == f"{photo}.jpg"
        width, height = (int(root.findtext(f"size/{s}") or 0) for s in ("width", "height"))
        boxes: dict[str, int] = {}
        known = {"0"}
        for element in root.findall("object"):
            names = [name.text or "" for name in element.findall("name")]
            known |= set(names)
            box = element.find("bndbox")
            if box is None:
                assert element.findtext("nobndbox") == "1"
                assert element.findtext("scene") in ("0", "1")
                continue
            x0, y0, x1, y1 = (int(side.text or "") for side in box)
            assert 0 <= x0 < x1 <= width and 1 <= y0 < y1 <= height
            several_names += len(names) > 1
            for name in names:
                boxes[name] = boxes.get(name, 0) + 1
        several_boxes += any(count > 1 for count in boxes.values())
        text = (folder / f"Sentences/{photo}.txt").read_text()
        sentences = [line for line in text.split("\n") if line]
        assert len(sentences) == 5
        for line in sentences:
            assert line.endswith(" .")
            phrases = re.findall(r"\[/EN#(\d+)/([a-z/]+) ([^\]]+)\]", line)
            assert phrases
            assert {number for number, _, _ in phrases} <= known
            unboxed += any(number not in boxes for number, _, _ in phrases)
            not_visual += any(number == "0" for number, _, _ in phrases)
    assert several_boxes and several_names and unboxed and not_visual


def test_gqa_answers_agree_with_the_scene_graph(demo_dataset: Path) -> None:
    graphs = load(demo_dataset / "gqa/train_sceneGraphs.json")
    checked = set()
    for question in load(demo_dataset / "gqa/train_balanced_questions.json").values():
        objects = graphs[question["imageId"]]["objects"]
        named = list(question["annotations"]["question"].values())
        kind, answer = question["types"]["detailed"], question["answer"]
        if not set(named) <= objects.keys():
            continue
        if kind in ("color", "chooseAttr"):
            assert objects[named[0]]["attributes"][0] == answer
        elif kind == "exist":
            assert (answer == "yes") == bool(named)
        elif kind == "relS":
            (answered,) = question["annotations"]["answer"].values()
            assert objects[answered]["name"] == answer
            there = {"name": question["semantic"][1]["argument"].split(",")[1]}
            if there["name"] in (RELATIONS["left"][0], RELATIONS["right"][0]):
                assert {**there, "object": named[0]} in objects[answered]["relations"]
        elif kind == "twoSame":
            colors = [objects[name]["attributes"][0] for name in named]
            assert (answer == "yes") == (colors[0] == colors[1])
        elif kind == "existAnd":
            assert (answer == "yes") == (len(named) == 2)
        elif kind == "compareSize":
            (answered,) = question["annotations"]["answer"].values()
            area = {name: objects[name]["w"] * objects[name]["h"] for name in named}
            assert answered in area and objects[answered]["name"] == answer
        elif kind == "relChooser":
            subject, anchor = (objects[name] for name in named)
            side = {"left": "x", "right": "x"}.get(answer.split()[-2] if " " in answer else "")
            if side:
                center = [o["x"] + o["w"] / 2 for o in (subject, anchor)]
                assert (center[0] < center[1]) == ("left" in answer)
        checked.add(kind)
    assert checked >= {"color", "exist", "relS", "twoSame", "existAnd", "relVerify"}


@settings(max_examples=50)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=8))
def test_run_lengths_equal_those_of_pycocotools(rows: list[list[bool]]) -> None:
    mask = np.array(rows)
    code = {"counts": run_lengths(mask), "size": list(mask.shape)}
    expected = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    assert coco_mask.frPyObjects(code, *mask.shape)["counts"] == expected["counts"]
