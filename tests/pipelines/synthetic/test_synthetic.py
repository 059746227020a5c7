"""The made-up world: its bytes, its layouts, its overlaps, and the truth of what it says."""

import hashlib
import json
import pickle
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from shapely import Polygon

from pipelines.synthetic import corruption
from pipelines.synthetic.__main__ import main
from pipelines.synthetic.boxes import annotate, copy_of
from pipelines.synthetic.coco import run_lengths
from pipelines.synthetic.phrases import OPPOSITE, RELATIONS, Language, Mention, Sentence
from pipelines.synthetic.plan import PER_HUNDRED, image
from pipelines.synthetic.render import render
from pipelines.synthetic.scene import bounds, compose
from pipelines.synthetic.shapes import OUTLINES
from pipelines.synthetic.visual_genome import phrase

IMAGES = 300
#: Without a deadline: a busy machine is no failure.
few = settings(max_examples=50, deadline=None)
REF_FILES = ("refcoco/refs(unc).p", "refcoco+/refs(unc).p", "refcocog/refs(umd).p")


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations of the default world, without images."""
    out = tmp_path_factory.mktemp("world") / "out"
    assert main([str(out), "--images", str(IMAGES), "--without-images"]) == 0
    return out


@pytest.fixture(scope="module")
def imaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imaged") / "out"
    assert main([str(out), "--images", "40", "--seed", "3"]) == 0
    return out


def load(path: Path) -> Any:
    return json.loads(path.read_bytes())


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def types(record: dict[str, Any]) -> dict[str, type]:
    return {key: type(value) for key, value in record.items()}


class TestCommand:
    def test_same_options_give_the_same_bytes(self, imaged: Path, tmp_path: Path) -> None:
        assert main([str(tmp_path / "again"), "--images", "40", "--seed", "3"]) == 0
        assert digests(tmp_path / "again") == digests(imaged)

    def test_images_do_not_change_annotations(self, imaged: Path, tmp_path: Path) -> None:
        options = ["--images", "40", "--seed", "3", "--without-images"]
        assert main([str(tmp_path / "bare"), *options]) == 0
        with_images = digests(imaged)
        annotations = {name: d for name, d in with_images.items() if not name.endswith(".jpg")}
        assert len(annotations) < len(with_images)
        assert digests(tmp_path / "bare") == annotations

    def test_chunks_in_several_processes_are_the_images_one_by_one(self, synthetic: Path) -> None:
        ids = [row["image_id"] for row in load(synthetic / "vg/image_data.json")]
        assert ids == [p.vg_id for p in (image(n, 0) for n in range(IMAGES)) if p.vg_id]

    def test_another_seed_gives_another_dataset(self, imaged: Path, tmp_path: Path) -> None:
        options = ["--images", "40", "--seed", "4", "--without-images"]
        assert main([str(tmp_path / "other"), *options]) == 0
        same = digests(tmp_path / "other").items() & digests(imaged).items()
        assert "vg/region_graphs.json" not in dict(same)

    @pytest.mark.parametrize("images", [0, 1, 2])
    def test_tiny_datasets_have_every_file(
        self, images: int, synthetic: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "tiny"
        assert main([str(out), "--images", str(images)]) == 0
        fixed = {n for n in digests(synthetic) if not re.search(r"(Annotations|Sentences)/", n)}
        assert fixed <= digests(out).keys()
        assert len(load(out / "vg/image_data.json")) <= images
        for file in REF_FILES:
            assert isinstance(pickle.loads((out / "refcoco" / file).read_bytes()), list)

    def test_refuses_a_folder_with_something_in_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "kept").write_text("mine")
        assert main([str(tmp_path), "--images", "1"]) == 2
        assert "not an empty folder" in capsys.readouterr().err
        assert [p.name for p in tmp_path.iterdir()] == ["kept"]

    def test_fills_an_empty_folder_and_leaves_nothing_beside_it(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        assert main([str(tmp_path / "out"), "--images", "1", "--without-images"]) == 0
        assert [p.name for p in tmp_path.iterdir()] == ["out"]

    def test_a_killed_run_does_not_hinder_the_next(self, tmp_path: Path) -> None:
        (tmp_path / "out.partial" / "vg").mkdir(parents=True)
        assert main([str(tmp_path / "out"), "--images", "1", "--without-images"]) == 0
        assert not (tmp_path / "out.partial").exists()


class TestImages:
    def test_every_image_that_is_listed_is_there_at_its_size(self, imaged: Path) -> None:
        seen = 0
        for split in ("train", "val"):
            for row in load(imaged / f"coco/annotations/instances_{split}2014.json")["images"]:
                with Image.open(imaged / f"coco/{split}2014" / row["file_name"]) as opened:
                    assert image.size == (row["width"], row["height"])
                    seen += 1
        for row in load(imaged / "vg/image_data.json"):
            folder = row["url"].split("/")[-2]
            with Image.open(imaged / "vg" / folder / f"{row['image_id']}.jpg") as opened:
                assert image.size == (row["width"], row["height"])
                seen += 1
        for path in (imaged / "flickr30k/Annotations").iterdir():
            size = ElementTree.parse(path).find("size")
            assert size is not None
            jpeg = imaged / "flickr30k/flickr30k-images" / f"{path.stem}.jpg"
            with Image.open(jpeg) as opened:
                assert [str(side) for side in opened.size] == [size[0].text, size[1].text]
                assert max(opened.size) == 500
                seen += 1
        testdev = {p.gqa_id for p in (image(n, 3) for n in range(40)) if p.coco == "test"}
        assert {p.stem for p in (imaged / "gqa/images").iterdir()} == testdev
        assert seen + len(testdev) == len(list(imaged.rglob("*.jpg")))

    @pytest.mark.parametrize("number", range(6))
    def test_boxes_are_tight_around_what_is_drawn(self, number: int) -> None:
        scene = compose(Random(number))
        scene = scene._replace(background=scene.background._replace(pattern="plain"))
        copy = copy_of(scene, 800)
        pixels = np.asarray(render(scene, copy)).astype(int)
        drawn = np.abs(pixels - scene.background.rgb).max(axis=2) > 20
        for obj in scene.objects:
            x0, y0, x1, y1 = (round(side) for side in copy.scaled(obj.box))
            near = drawn[max(0, y0 - 3) : y1 + 3, max(0, x0 - 3) : x1 + 3]
            rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
            top, left = max(0, y0 - 3), max(0, x0 - 3)
            found = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
            assert np.abs(np.subtract(found, (x0, y0, x1, y1))).max() <= 2
            drawn[y0 - 3 : y1 + 3, x0 - 3 : x1 + 3] = False
        assert not drawn.any()


class TestTruth:
    @pytest.mark.parametrize("noun", OUTLINES)
    def test_outlines_lie_in_the_unit_circle(self, noun: str) -> None:
        assert all(np.hypot(x, y) <= 1 + 1e-9 for x, y in OUTLINES[noun])
        x0, y0, x1, y1 = bounds(OUTLINES[noun])
        assert max(x1 - x0, y1 - y0) > 1.3

    @few
    @given(st.integers(0, 10**6))
    def test_what_names_one_object_fits_no_other(self, seed: int) -> None:
        scene = compose(Random(seed))
        language = Language(scene)
        for i, descriptions in enumerate(language.unique):
            assert descriptions
            for d in descriptions:
                fitting = [
                    k
                    for k, t in enumerate(scene.objects)
                    if t.noun == d.noun
                    and d.size in ("", t.size)
                    and d.texture in ("", t.texture)
                    and d.color in ("", t.color, f"{t.shade} {t.color}")
                ]
                assert fitting == [i]

    @few
    @given(st.integers(0, 10**6))
    def test_a_side_that_tells_an_object_from_its_like(self, seed: int) -> None:
        scene = compose(Random(seed))
        for obj, told in zip(scene.objects, Language(scene).told_by_side, strict=True):
            for description, side in told:
                axis, sign = {
                    "on the left side": (0, 1),
                    "on the right side": (0, -1),
                    "at the top": (1, 1),
                    "at the bottom": (1, -1),
                }[side]
                fitting = [
                    other
                    for other in scene.objects
                    if other.noun == description.noun
                    and description.size in ("", other.size)
                    and description.texture in ("", other.texture)
                    and description.color
                    in ("", other.color, f"{other.shade} {other.color}".strip())
                ]
                assert len(fitting) > 1
                assert obj == min(fitting, key=lambda other: sign * other.center[axis])
                middle = (scene.width, scene.height)[axis] / 2
                assert sign * (middle - obj.center[axis]) > 0

    @few
    @given(st.integers(0, 10**6))
    def test_relations_hold_and_their_opposites_do_not(self, seed: int) -> None:
        scene = compose(Random(seed))
        language = Language(scene)
        relations = set(language.relations)
        for relation in relations:
            if relation.direction == "near":
                continue
            back = relation._replace(
                subject=relation.object,
                object=relation.subject,
                direction=OPPOSITE[relation.direction],
            )
            assert back in relations
            axis = 0 if relation.direction in ("left", "right") else 1
            subject = scene.objects[relation.subject].center[axis]
            anchor = scene.objects[relation.object].center[axis]
            assert (subject < anchor) == (relation.direction in ("left", "above"))
            assert relation.subject in language.beside(relation.object, relation.direction)

    @few
    @given(st.integers(0, 10**6))
    def test_objects_lie_in_the_image_and_apart(self, seed: int) -> None:
        scene = compose(Random(seed))
        for i, obj in enumerate(scene.objects):
            x0, y0, x1, y1 = obj.box
            assert 0 <= x0 < x1 <= scene.width and 0 <= y0 < y1 <= scene.height
            for other in scene.objects[:i]:
                a0, b0, a1, b1 = other.box
                assert x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0

    @few
    @given(st.integers(0, 10**6))
    def test_annotated_boxes_are_close_and_inside(self, seed: int) -> None:
        rng = Random(seed)
        scene = compose(rng)
        copy = copy_of(scene, rng.choice((500, 640, 800, 1024)))
        for obj in scene.objects:
            x, y, w, h = annotate(rng, obj.box, copy)
            assert 0 <= x < x + w <= copy.width and 0 <= y < y + h <= copy.height
            corners = np.array((x, y, x + w, y + h))
            assert np.abs(corners - copy.scaled(obj.box)).max() <= 3.5

    @few
    @given(st.integers(0, 10**6), st.sampled_from(["", *corruption.REGIONS]))
    def test_mentions_follow_their_words_through_every_flaw(self, seed: int, defect: str) -> None:
        rng = Random(seed)
        clean = phrase(rng, Language(compose(rng)))
        flawed = (
            corruption.malform_text(rng, clean, defect)
            if defect
            else corruption.make_sloppy(rng, clean)
        )
        if not flawed.text.strip("."):
            assert flawed.mentions == []
            return
        for before, after in zip(clean.mentions, flawed.mentions, strict=True):
            noun = clean.text[before.noun : before.stop]
            said = flawed.text[after.noun : after.stop]
            assert re.fullmatch(noun.replace(" ", r"[\s_.-]+"), said, re.IGNORECASE)

    def test_gqa_answers_agree_with_the_scene_graph(self, synthetic: Path) -> None:
        graphs = load(synthetic / "gqa/train_sceneGraphs.json")
        checked = set()
        for question in load(synthetic / "gqa/train_balanced_questions.json").values():
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


class TestLayouts:
    def test_visual_genome(self, synthetic: Path) -> None:
        rows, graphs = (
            load(synthetic / "vg/image_data.json"),
            load(synthetic / "vg/region_graphs.json"),
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
            own = {o["object_id"] for o in region["objects"]}
            for relationship in region["relationships"]:
                assert {relationship["subject_id"], relationship["object_id"]} <= own
            for synset in region["synsets"]:
                start, stop = synset["entity_idx_start"], synset["entity_idx_end"]
                assert region["phrase"][start:stop].strip()

    def test_regions_lie_in_the_image_but_for_the_planted_ones(self, synthetic: Path) -> None:
        sizes = {row["image_id"]: row for row in load(synthetic / "vg/image_data.json")}
        regions = [r for g in load(synthetic / "vg/region_graphs.json") for r in g["regions"]]
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

    def test_gqa(self, synthetic: Path) -> None:
        graphs = {s: load(synthetic / f"gqa/{s}_sceneGraphs.json") for s in ("train", "val")}
        vg = {str(row["image_id"]): row for row in load(synthetic / "vg/image_data.json")}
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
        train = load(synthetic / "gqa/train_balanced_questions.json")
        unknown = boxless = several_words = 0
        for question_id, question in train.items():
            assert re.fullmatch(r"\d{8}", question_id)
            objects = graphs["train"][question["imageId"]]["objects"]
            words = question["question"].split()
            for place, name in question["annotations"]["question"].items():
                first, _, stop = place.partition(":")
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

    def test_gqa_all_questions_hold_the_balanced_ones(self, synthetic: Path) -> None:
        train = load(synthetic / "gqa/train_balanced_questions.json")
        every: dict[str, Any] = {}
        for number in range(10):
            path = synthetic / f"gqa/train_all_questions/train_all_questions_{number}.json"
            every |= load(path)
        assert {k: q for k, q in every.items() if q["isBalanced"]} == train
        assert len(every) > len(train)

    def test_coco(self, synthetic: Path) -> None:
        crowds = empty = crossed = total = 0
        for split in ("train", "val"):
            instances = load(synthetic / f"coco/annotations/instances_{split}2014.json")
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
    def test_references(self, file: str, synthetic: Path) -> None:
        references = pickle.loads((synthetic / "refcoco" / file).read_bytes())
        instances = load(synthetic / "coco/annotations/instances_train2014.json")
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

    def test_flickr30k(self, synthetic: Path) -> None:
        folder = synthetic / "flickr30k"
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


class TestOverlaps:
    def test_kinds_are_a_hundred(self) -> None:
        assert sum(PER_HUNDRED.values()) == 100

    def test_ids_do_not_meet(self) -> None:
        images = [image(number, 5) for number in range(20_000)]
        assert len({p.coco_id for p in images}) == len(images)
        assert len({p.photo_id for p in images}) == len(images)
        vg = [p.vg_id for p in images if p.vg_id]
        assert len(set(vg)) == len(vg) == 13_000

    def test_half_of_visual_genome_is_coco_at_another_size(self, synthetic: Path) -> None:
        rows = load(synthetic / "vg/image_data.json")
        shared = [row for row in rows if row["coco_id"]]
        assert 0.4 < len(shared) / len(rows) < 0.6
        for split in ("train", "val"):
            images = load(synthetic / f"coco/annotations/instances_{split}2014.json")["images"]
            coco = {row["id"]: row for row in images}
            pairs = [(row, coco[row["coco_id"]]) for row in shared if row["coco_id"] in coco]
            assert pairs
            for a, b in pairs:
                assert a["width"] != b["width"]
                assert a["width"] / a["height"] == pytest.approx(b["width"] / b["height"], abs=0.01)

    def test_flickr_photos_are_in_the_other_datasets(self, synthetic: Path) -> None:
        images = load(synthetic / "coco/annotations/instances_train2014.json")["images"]
        coco = {row["flickr_url"].rsplit("/", 1)[1].split("_")[0] for row in images}
        vg = {str(row["flickr_id"]) for row in load(synthetic / "vg/image_data.json")}
        for split in ("train", "test"):
            photos = set((synthetic / f"flickr30k/{split}.txt").read_text().split())
            assert photos & coco and photos & vg
        assert set((synthetic / "flickr30k/val.txt").read_text().split()) & coco

    def test_some_images_lie_in_two_datasets_and_no_id_tells(self) -> None:
        images = [image(number, 0) for number in range(100)]
        untold = [p for p in images if p.vg_id and p.vg_coco_id is None and p.coco == "val"]
        untold += [p for p in images if p.vg_id and p.flickr30k == "val"]
        assert len(untold) == 2
        assert all(p.vg_flickr_id is None and p.vg_coco_id is None for p in untold)

    def test_testdev_has_coco_test_images_and_a_few_of_visual_genome(self, synthetic: Path) -> None:
        questions = load(synthetic / "gqa/testdev_balanced_questions.json").values()
        ids = {question["imageId"] for question in questions}
        vg = {str(row["image_id"]) for row in load(synthetic / "vg/image_data.json")}
        assert {i for i in ids if i.startswith("n")} and ids & vg
        assert ids <= vg | {i for i in ids if re.fullmatch(r"n\d+", i)}
        trained = load(synthetic / "gqa/train_sceneGraphs.json").keys()
        assert not ids & (trained | load(synthetic / "gqa/val_sceneGraphs.json").keys())

    def test_lists_of_ids_name_images_of_the_dataset(self, synthetic: Path) -> None:
        vg = {row["image_id"] for row in load(synthetic / "vg/image_data.json")}
        phrasecut = (synthetic / "ids/phrasecut_val_test.txt").read_text().split()
        assert phrasecut and {int(i) for i in phrasecut} <= vg
        coco = {
            row["id"]
            for split in ("train", "val")
            for row in load(synthetic / f"coco/annotations/instances_{split}2014.json")["images"]
        }
        minival = {row["id"] for row in load(synthetic / "lvis/lvis_v1_minival.json")["images"]}
        assert minival and minival <= coco


class TestDefects:
    def test_shares_stay_below_the_limit_of_rejected_records(self) -> None:
        for shares in (
            corruption.REGIONS,
            corruption.QUESTIONS,
            corruption.REFERENCES,
            corruption.ANNOTATIONS,
            corruption.SENTENCES,
        ):
            assert sum(shares.values()) < 0.01

    def test_planted_as_often_as_stated(self) -> None:
        planted: dict[str, int] = dict.fromkeys(corruption.REGIONS, 0)
        images, average = 20_000, 12.0
        for ordinal in range(images):
            found = corruption.plan(Random(ordinal), corruption.REGIONS, ordinal, average, 12)
            for defect in found.values():
                planted[defect] += 1
        for defect, share in corruption.REGIONS.items():
            assert planted[defect] == pytest.approx(share * images * average, rel=0.02)

    def test_malformed_texts(self) -> None:
        clean = Sentence("a red circle", [Mention([0], 2, 6, 12)])
        made = {d: corruption.malform_text(Random(0), clean, d).text for d in corruption.REGIONS}
        assert made["empty phrase"] == "" and made["ellipsis"] == "..."
        assert "\n" in made["newline"] and "_" in made["underscore"]
        assert " - " in made["spaced hyphen"] and ".. " in made["inner dots"]

    def test_malformed_boxes(self) -> None:
        box = (10, 20, 30, 40)
        assert corruption.malform_box(box, 100, 90, "zero width") == (10, 20, 0, 40)
        assert corruption.malform_box(box, 100, 90, "reaches outside") == (10, 20, 115, 95)
        assert corruption.malform_box(box, 100, 90, "negative corner") == (-6, -4, 46, 64)
        assert corruption.malform_box(box, 100, 90, "") == box


@few
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=8))
def test_run_lengths_are_cocos(rows: list[list[bool]]) -> None:
    mask = np.array(rows)
    code = {"counts": run_lengths(mask), "size": list(mask.shape)}
    expected = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    assert coco_mask.frPyObjects(code, *mask.shape)["counts"] == expected["counts"]


def test_descriptions_are_as_brief_as_asked_for() -> None:
    """Less brief ones still fit one object alone."""
    lengths = {}
    for caption_length_bias in (1.0, 5.0):
        rng, words = Random(0), []
        for _ in range(100):
            language = Language(compose(rng), caption_length_bias)
            for obj in range(len(language.objects)):
                named = language.describe(rng, obj)
                assert named.objects == [obj]
                words.append(len(named.words.split()) - len(named.noun.split()))
        lengths[caption_length_bias] = np.mean(words)
    assert lengths[1.0] > 1.4 * lengths[5.0]
