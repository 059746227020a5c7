"""What other people's readers find in an export is what lies in the shards.

Each reader runs in a process of its own, from the packages that its project publishes.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from bracex import expand
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipelines.build import main as build
from schemas import Caption, Region, Sample
from shards.__main__ import main as shards
from shards.export.phrases import pieces
from shards.reading.reader import Store
from shards.reading.shard_set import ShardSet
from tests.shard_sets import write_shard_set

REPOSITORY = Path(__file__).parents[2]


def export(name: str, shard_set: Path, out: Path, *options: str) -> Path:
    assert shards(["export", name, str(shard_set), str(out), *options]) == 0
    return out


def run(command: list[object], folder: Path) -> None:
    """Runs a program that is to find no network, whatever it might look for there."""
    offline = {
        "HF_HOME": str(folder / "hugging_face"),
        "HF_HUB_OFFLINE": "1",
        "YOLO_AUTOINSTALL": "0",
        "YOLO_CONFIG_DIR": str(folder),
        "YOLO_OFFLINE": "1",
        "YOLO_VERBOSE": "0",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        list(map(str, command)),
        cwd=REPOSITORY,
        env=os.environ | offline,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def read(reader: str, folder: Path, *arguments: object) -> Any:
    """What a reader found."""
    result = folder / "result.json"
    run([sys.executable, "-m", f"tests.consumers.{reader}", result, *arguments], folder)
    return json.loads(result.read_bytes())


def samples(shard_set: Path, split: str) -> list[Sample]:
    return [stored.sample for stored in Store(ShardSet.open(shard_set)).samples(split)]


def with_boxes(shard_set: Path, split: str) -> Iterator[tuple[Sample, Caption]]:
    """The captions that a detector is trained on, in the order of the shards."""
    for sample in samples(shard_set, split):
        for caption in sample.captions:
            if any(region.spans for region in caption.regions):
                yield sample, caption


def words(region: Region, text: str) -> str:
    return " ".join(text[start:stop] for start, stop in sorted(region.spans))


def test_ultralytics(demo_set: Path, tmp_path: Path) -> None:
    out = export("ultralytics", demo_set, tmp_path / "out", "--images")
    read_back = read("read_ultralytics", tmp_path, out / "train.json", out / "images")
    expected = list(with_boxes(demo_set, "train"))
    assert len(expected) > 100
    boxes = 0
    for found, (sample, caption) in zip(read_back["found"], expected, strict=True):
        assert found["image"] == f"{sample.key}.jpg"
        assert found["size"] == [sample.width, sample.height]
        size = np.array([sample.width, sample.height] * 2)
        center, sides = np.split(np.array(found["boxes"]).reshape(-1, 4), 2, axis=1)
        corners = np.concatenate([center - sides / 2, center + sides / 2], axis=1) * size
        # It keeps one of boxes that are equal and have equal phrases.
        ours = {(words(r, caption.text).lower(), r.box) for r in caption.regions}
        assert same_boxes(list(zip(found["phrases"], corners, strict=True)), list(ours))
        boxes += len(found["boxes"])
    assert read_back["boxes in batches"] == boxes


def same_boxes(theirs: list[tuple[str, Any]], ours: list[tuple[str, Any]]) -> bool:
    """Whether each of ours, a phrase and a box, is one of theirs, to a tenth of a pixel."""
    for phrase, box in ours:
        near = (
            i
            for i, (name, other) in enumerate(theirs)
            if name == phrase and np.abs(np.array(other) - box).max() < 0.1
        )
        found = next(near, None)
        if found is None:
            return False
        theirs = theirs[:found] + theirs[found + 1 :]
    return not theirs


@pytest.mark.parametrize("name", ["ultralytics", "mdetr-json"])
def test_yolo_dataset(demo_set: Path, tmp_path: Path, name: str) -> None:
    out = export(name, demo_set, tmp_path / "out", "--images")
    if name == "mdetr-json":
        namespaces = {"final_mixed_train.json": False, "final_flickr_separateGT_train.json": True}
    else:
        namespaces = {"train.json": None}
    for file, is_flickr in namespaces.items():
        read_back = read("read_yolo_dataset", tmp_path, out / file, out / "images")
        # It keeps captions without boxes; MDETR's files have them, ultralytics' have none.
        read_back = [found for found in read_back if found["boxes"]]
        expected = [
            (sample, caption)
            for sample, caption in with_boxes(demo_set, "train")
            if is_flickr in (None, sample.key.startswith("flickr30k/"))
        ]
        assert expected
        for found, (sample, caption) in zip(read_back, expected, strict=True):
            assert found["image"] == f"{sample.key}.jpg"
            assert found["size"] == [sample.width, sample.height]
            assert found["phrases"] == [words(r, caption.text) for r in caption.regions]
            assert np.abs(np.array(found["boxes"]) - [r.box for r in caption.regions]).max() < 1e-3


def test_mmdetection_reads_captions(demo_set: Path, tmp_path: Path) -> None:
    out = export("odvg", demo_set, tmp_path / "out", "--images")
    read_back = read("read_odvg", tmp_path, out / "train_vg.jsonl", out / "images")
    for found, (sample, caption) in zip(read_back, with_boxes(demo_set, "train"), strict=True):
        assert found["image"] == f"{sample.key}.jpg"
        assert found["size"] == [sample.width, sample.height]
        assert found["text"] == caption.text
        assert found["boxes"] == [list(region.box) for region in caption.regions]
        for phrase, region in zip(found["phrases"], caption.regions, strict=True):
            assert phrase["phrase"] == words(region, caption.text)
            spans = phrase["tokens_positive"]
            assert letters(spans, caption.text) == letters(region.spans, caption.text)


def letters(spans: Any, text: str) -> set[int]:
    """The characters that spans name; whether spaces between them are named means nothing."""
    return {at for start, stop in spans for at in range(start, stop) if text[at] != " "}


def test_mmdetection_reads_classes(demo_dataset: Path, tmp_path: Path) -> None:
    recipe, root = "demo_lvis", f"--root={demo_dataset}"
    made = tmp_path / "shards"
    assert build([recipe, root, f"--output={made}", "--quiet"]) == 0
    out = export("odvg", made, tmp_path / "out", "--images")
    arguments = (out / "train_od.jsonl", out / "images", out / "label_map.json")
    read_back = read("read_odvg", tmp_path, *arguments)
    names = json.loads((out / "label_map.json").read_bytes())
    assert sorted(map(int, names)) == list(range(len(names)))
    expected = samples(made, "train")
    assert not (out / "train_vg.jsonl").exists()
    for found, sample in zip(read_back, expected, strict=True):
        assert found["image"] == f"{sample.key}.jpg"
        theirs = Counter(
            (names[str(label)], *box)
            for label, box in zip(found["labels"], found["boxes"], strict=True)
        )
        ours = Counter((c.text, *r.box) for c in sample.captions for r in c.regions)
        assert theirs == ours
    assert sum(len(found["boxes"]) for found in read_back) > 30


def test_mmdetection_converts_mdetr_json_to_our_odvg(demo_set: Path, tmp_path: Path) -> None:
    """Its converter of GoldG takes MDETR's JSON, and says what our own ODVG says."""
    import mmdet

    converter = Path(mmdet.__file__).parent / ".mim/tools/dataset_converters/goldg2odvg.py"
    files = export("mdetr-json", demo_set, tmp_path / "out")
    theirs: list[dict[str, Any]] = []
    for name in ("final_mixed_train", "final_flickr_separateGT_train"):
        converted = tmp_path / f"{name}.jsonl"
        run([sys.executable, converter, files / f"{name}.json", "--out-ann", converted], tmp_path)
        theirs += map(json.loads, converted.read_text().splitlines())
    lines = (
        (export("odvg", demo_set, tmp_path / "odvg") / "train_vg.jsonl").read_text().splitlines()
    )
    assert as_regions(theirs) == as_regions(map(json.loads, lines))


def as_regions(records: Any) -> Counter[tuple[object, ...]]:
    """Every box of every caption with its phrase; mmdetection puts boxes of one phrase together."""
    found: Counter[tuple[object, ...]] = Counter()
    for record in records:
        caption = record["grounding"]["caption"]
        for region in record["grounding"]["regions"]:
            boxes = np.array(region["bbox"], np.float32).reshape(-1, 4).tolist()
            phrase = region["phrase"]
            phrase = phrase if isinstance(phrase, str) else " ".join(phrase)
            for box in boxes:
                found[record["filename"], caption, phrase, *box] += 1
    return found


def test_hugging_face(demo_set: Path, tmp_path: Path) -> None:
    out = export("hf", demo_set, tmp_path / "out")
    read_back = read("read_hugging_face", tmp_path, out, tmp_path / "cache")
    assert set(read_back) == {"train", "val", "test"}
    for split, rows in read_back.items():
        for row, sample in zip(rows, samples(demo_set, split), strict=True):
            assert row["image"] == [row["width"], row["height"]] == [sample.width, sample.height]
            assert (row["key"], row["file"]) == (sample.key, sample.file)
            assert msgspec.convert(row["captions"], list[Caption]) == sample.captions


def test_hugging_face_without_images(tmp_path: Path) -> None:
    made = write_shard_set(tmp_path / "shards", [[2, 1], [3]], images=False)
    out = export("hf", made, tmp_path / "out")
    [rows] = read("read_hugging_face", tmp_path, out, tmp_path / "cache").values()
    assert [row["image"] for row in rows] == [None] * 3
    assert [row["key"] for row in rows] == [sample.key for sample in samples(made, "train")]


def test_energon_loads_what_was_written(demo_set: Path, tmp_path: Path) -> None:
    out = export("energon", demo_set, tmp_path / "out")
    for split in ("train", "val"):
        read_back = read("read_energon", tmp_path, out / "metadataset.yaml", split)
        expected = {sample.key: sample for sample in samples(demo_set, split)}
        assert sorted(found["key"] for found in read_back) == sorted(expected)
        for found in read_back:
            sample = expected[found["key"]]
            assert found["size"] == [sample.width, sample.height]
            assert [c["text"] for c in found["record"]["captions"]] == [
                caption.text for caption in sample.captions
            ]


def test_energon_writes_the_same_itself(demo_set: Path, tmp_path: Path) -> None:
    out = export("energon", demo_set, tmp_path / "out") / "train"
    own = tmp_path / "own"
    own.mkdir()
    for tar in demo_set.glob("train-*.tar"):
        shutil.copy(tar, own)
    options = ["--non-interactive", "--no-progress", "--num-workers", "2"]
    kind = ["--split-parts", r"train:train-.*\.tar", "--sample-type", "CrudeWebdataset"]
    run([Path(sys.executable).parent / "energon", "prepare", own, *options, *kind], tmp_path)
    files = sorted(path.relative_to(own) for path in own.rglob("*.idx"))
    assert len(files) == len(list(demo_set.glob("train-*.tar")))
    for name in [*files, Path(".nv-meta/.info.json"), Path(".nv-meta/dataset.yaml")]:
        assert (out / name).read_bytes() == (own / name).read_bytes(), name
    splits = [yaml.safe_load((f / ".nv-meta/split.yaml").read_text()) for f in (out, own)]
    for of in splits:
        of["split_parts"]["train"] = [n for p in of["split_parts"]["train"] for n in expand(p)]
    assert splits[0] == splits[1]
    for table in ("samples", "sample_parts"):
        assert rows_of(out, table) == rows_of(own, table)
    assert len(rows_of(out, "samples")) == len(samples(demo_set, "train"))


def rows_of(folder: Path, table: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / ".nv-meta/index.sqlite") as database:
        return sorted(database.execute(f"SELECT * FROM {table}"))


def test_pycocotools(demo_set: Path, tmp_path: Path) -> None:
    out = export("coco", demo_set, tmp_path / "out")
    coco = COCO(out / "instances_val.json")
    expected = samples(demo_set, "val")
    assert len(coco.imgs) == len(expected)
    for image, sample in zip(coco.loadImgs(sorted(coco.imgs)), expected, strict=True):
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        theirs = [
            (coco.cats[of["category_id"]]["name"], np.cumsum(np.reshape(of["bbox"], (2, 2)), 0))
            for of in annotations
        ]
        ours = {
            (words(region, caption.text).lower() or "object", region.box)
            for caption in sample.captions
            for region in caption.regions
        }
        assert image["file_name"] == sample.file
        assert same_boxes([(name, box.ravel()) for name, box in theirs], list(ours))
    truth = [
        {**{k: a[k] for k in ("image_id", "category_id", "bbox")}, "score": 1.0}
        for a in coco.anns.values()
        if not a["iscrowd"]
    ]
    evaluation = COCOeval(coco, coco.loadRes(truth), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_pycocotools_reads_mdetr_json(demo_set: Path, tmp_path: Path) -> None:
    out = export("mdetr-json", demo_set, tmp_path / "out")
    coco = COCO(out / "final_mixed_train.json")
    captions = [
        (sample, caption)
        for sample in samples(demo_set, "train")
        if not sample.key.startswith("flickr30k/")
        for caption in sample.captions
    ]
    assert len(captions) == len(coco.imgs)
    for id_, (sample, caption) in enumerate(captions):
        image = coco.imgs[id_]
        assert (image["file_name"], image["caption"]) == (sample.file, caption.text)
        annotations = coco.loadAnns(coco.getAnnIds(id_))
        assert [a["tokens_positive"] for a in annotations] == [
            [list(span) for span in region.spans] for region in caption.regions
        ]
        assert {a["category_id"] for a in annotations} <= coco.cats.keys()


def test_kosmos_2(demo_set: Path, tmp_path: Path) -> None:
    out = export("grit", demo_set, tmp_path / "out")
    read_back = read("read_grit", tmp_path, out / "val.jsonl")
    expected = list(with_boxes(demo_set, "val"))
    for found, (sample, caption) in zip(read_back, expected, strict=True):
        # It takes away spaces beside a phrase.
        assert found["caption"].replace(" ", "") == caption.text.replace(" ", "")
        size = np.array([sample.width, sample.height] * 2)
        ours = [
            (caption.text[start:stop], np.array(region.box) / size)
            for region in caption.regions
            for start, stop in pieces(region.spans, caption.text)
        ]
        theirs = [(phrase, box) for phrase, _, boxes in found["entities"] for box in boxes]
        assert len(theirs) == len(ours)
        for phrase, box in theirs:  # on a grid of 32 by 32
            assert any(p == phrase and np.abs(box - b).max() <= 1 / 32 for p, b in ours)
    assert sum(len(found["entities"]) for found in read_back) > 30
