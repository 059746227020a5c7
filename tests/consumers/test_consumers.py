"""The readers of other projects find in an export what is in the shards.

Each reader runs in a separate process, from the packages that its project publishes.
"""

import json
import re
import shutil
import sqlite3
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
from schemas import AbsentSpan, Caption, Provenance, Region, Sample
from shards.__main__ import main as shards
from shards.export.regions import merge_spans
from shards.format import manifest as mf
from shards.reading.reader import ShardReader
from shards.reading.shard_set import ShardSet
from tests import tiny
from tests.processes import run
from tests.shard_sets import read_indexes, write_samples, write_shard_set


def export(name: str, shard_set: Path, out: Path, *options: str) -> Path:
    assert shards(["export", name, str(shard_set), "--output", str(out), *options]) == 0
    return out


def run_offline(command: list[object], folder: Path) -> None:
    """Runs a program, which must not use the network."""
    offline = {
        "HF_HOME": str(folder / "hugging_face"),
        "HF_HUB_OFFLINE": "1",
        "YOLO_AUTOINSTALL": "0",
        "YOLO_CONFIG_DIR": str(folder),
        "YOLO_OFFLINE": "1",
        "YOLO_VERBOSE": "0",
        "OMP_NUM_THREADS": "1",
    }
    run(command, env=offline, timeout=600, check=True)


def read(reader: str, folder: Path, *arguments: object) -> Any:
    """Returns what a reader found."""
    result = folder / "result.json"
    run_offline([sys.executable, "-m", f"tests.consumers.{reader}", result, *arguments], folder)
    return json.loads(result.read_bytes())


def samples(shard_set: Path, split: str) -> list[Sample]:
    return [stored.sample for stored in ShardReader(ShardSet.open(shard_set)).samples(split)]


def with_boxes(shard_set: Path, split: str) -> Iterator[tuple[Sample, Caption]]:
    """Yields the captions that a detector is trained on, in the order of the shards."""
    for sample in samples(shard_set, split):
        for caption in sample.captions:
            if any(region.spans for region in caption.regions):
                yield sample, caption


def words(region: Region, text: str) -> str:
    return " ".join(text[start:stop] for start, stop in sorted(region.spans))


def test_ultralytics_reads_and_batches_its_json(demo_set: Path, tmp_path: Path) -> None:
    out = export("ultralytics", demo_set, tmp_path / "out", "--with-images")
    read_back = read("read_ultralytics", tmp_path, out / "train.json", out / "images")
    expected = list(with_boxes(demo_set, "train"))
    assert len(expected) > 100
    boxes = 0
    for theirs, (sample, caption) in zip(read_back["captions"], expected, strict=True):
        assert theirs["image"] == f"{sample.key}.jpg"
        assert theirs["size"] == [sample.width, sample.height]
        size = np.array([sample.width, sample.height] * 2)
        center, sides = np.split(np.array(theirs["boxes"]).reshape(-1, 4), 2, axis=1)
        corners = np.concatenate([center - sides / 2, center + sides / 2], axis=1) * size
        # ultralytics drops duplicates of a box with the same phrase.
        ours = {(words(r, caption.text).lower(), r.box) for r in caption.regions}
        assert same_boxes(list(zip(theirs["phrases"], corners, strict=True)), list(ours))
        boxes += len(theirs["boxes"])
    assert read_back["boxes in batches"] == boxes


def same_boxes(theirs: list[tuple[str, Any]], ours: list[tuple[str, Any]]) -> bool:
    """Returns whether the phrases and boxes are the same, to a tenth of a pixel."""
    for phrase, box in ours:
        near = (
            i
            for i, (name, other) in enumerate(theirs)
            if name == phrase and np.abs(np.array(other) - box).max() < 0.1
        )
        match = next(near, None)
        if match is None:
            return False
        theirs = theirs[:match] + theirs[match + 1 :]
    return not theirs


def test_yolo_world_reads_mdetr_json_and_ultralytics_json(demo_set: Path, tmp_path: Path) -> None:
    ultralytics = export("ultralytics", demo_set, tmp_path / "ultralytics", "--with-images")
    mdetr = export("mdetr-json", demo_set, tmp_path / "mdetr", "--with-images")
    namespace_of = {
        ultralytics / "train.json": "",
        mdetr / "final_mixed_train.json": "not flickr30k",
        mdetr / "final_flickr_separateGT_train.json": "flickr30k",
    }
    files = read("read_yolo_world", tmp_path, ultralytics / "images", *namespace_of)
    for file, namespace in namespace_of.items():
        # YOLO-World keeps captions without boxes; MDETR's files have them, ultralytics' have none.
        read_back = [theirs for theirs in files[str(file)] if theirs["boxes"]]
        expected = [
            (sample, caption)
            for sample, caption in with_boxes(demo_set, "train")
            if not namespace or sample.key.startswith("flickr30k/") == (namespace == "flickr30k")
        ]
        assert expected
        for theirs, (sample, caption) in zip(read_back, expected, strict=True):
            assert theirs["image"] == f"{sample.key}.jpg"
            assert theirs["size"] == [sample.width, sample.height]
            assert theirs["phrases"] == [words(r, caption.text) for r in caption.regions]
            boxes = [region.box for region in caption.regions]
            assert np.abs(np.array(theirs["boxes"]) - boxes).max() < 1e-3


def test_mmdetection_reads_captions(demo_set: Path, tmp_path: Path) -> None:
    out = export("odvg", demo_set, tmp_path / "out", "--with-images")
    read_back = read("read_odvg", tmp_path, out / "train_vg.jsonl", out / "images")
    for theirs, (sample, caption) in zip(read_back, with_boxes(demo_set, "train"), strict=True):
        assert theirs["image"] == f"{sample.key}.jpg"
        assert theirs["size"] == [sample.width, sample.height]
        assert theirs["text"] == caption.text
        assert theirs["boxes"] == [list(region.box) for region in caption.regions]
        for phrase, region in zip(theirs["phrases"], caption.regions, strict=True):
            assert phrase["phrase"] == words(region, caption.text)
            spans = phrase["tokens_positive"]
            assert letters(spans, caption.text) == letters(region.spans, caption.text)


WITH_ABSENT = Caption(
    "blue kite. a red dog. moon.",
    [Region([(11, 20)], (10, 20, 300, 400))],
    [(0, 9), (11, 20), (22, 26)],
    [Provenance("vg", "1", (11, 20))],
    absent=[
        AbsentSpan((0, 9), "gqa", "2", "answered no", "proven"),
        AbsentSpan((22, 26), "vocabulary", "", "drawn", "unproven"),
    ],
)


def export_absent(name: str, folder: Path) -> Path:
    """Exports one image with a dog, and without a kite or a moon."""
    shown = Sample("vg/7", 640, 480, "7.jpg", [WITH_ABSENT])
    made = write_samples(folder / "set", [[(shown, tiny.image_file(640, 480))]])
    return export(name, made, folder / "out", "--with-images")


def test_mmdetection_reads_absent_phrases_as_words_of_no_box(tmp_path: Path) -> None:
    """They stay in the text; its labels are those of the other phrases."""
    out = export_absent("odvg", tmp_path)
    [theirs] = read("read_odvg", tmp_path, out / "train_vg.jsonl", out / "images")
    assert theirs["text"] == WITH_ABSENT.text
    assert theirs["labels"] == [0]
    assert [phrase["tokens_positive"] for phrase in theirs["phrases"]] == [[[11, 20]]]


def letters(spans: Any, text: str) -> set[int]:
    """Returns the characters that spans cover, without spaces."""
    return {i for start, stop in spans for i in range(start, stop) if text[i] != " "}


def test_mmdetection_reads_classes(demo_dataset: Path, tmp_path: Path) -> None:
    recipe, root = "demo_lvis", f"--root={demo_dataset}"
    made = tmp_path / "shards"
    assert build([recipe, root, f"--output={made}", "--quiet"]) == 0
    out = export("odvg", made, tmp_path / "out", "--with-images")
    arguments = (out / "train_od.jsonl", out / "images", out / "label_map.json")
    read_back = read("read_odvg", tmp_path, *arguments)
    names = json.loads((out / "label_map.json").read_bytes())
    assert sorted(map(int, names)) == list(range(len(names)))
    expected = samples(made, "train")
    assert not (out / "train_vg.jsonl").exists()
    for theirs, sample in zip(read_back, expected, strict=True):
        assert theirs["image"] == f"{sample.key}.jpg"
        their_boxes = Counter(
            (names[str(label)], *box)
            for label, box in zip(theirs["labels"], theirs["boxes"], strict=True)
        )
        assert their_boxes == Counter(
            (caption.text, *region.box) for caption in sample.captions for region in caption.regions
        )
    assert sum(len(theirs["boxes"]) for theirs in read_back) > 30


def test_mmdetection_converts_mdetr_json_to_the_same_odvg(demo_set: Path, tmp_path: Path) -> None:
    """Its converter of GoldG makes the same ODVG of MDETR's JSON as the export."""
    import mmdet

    converter = Path(mmdet.__file__).parent / ".mim/tools/dataset_converters/goldg2odvg.py"
    files = export("mdetr-json", demo_set, tmp_path / "out")
    theirs: list[dict[str, Any]] = []
    for name in ("final_mixed_train", "final_flickr_separateGT_train"):
        converted = tmp_path / f"{name}.jsonl"
        run_offline(
            [sys.executable, converter, files / f"{name}.json", "--out-ann", converted], tmp_path
        )
        theirs += map(json.loads, converted.read_text().splitlines())
    lines = (
        (export("odvg", demo_set, tmp_path / "odvg") / "train_vg.jsonl").read_text().splitlines()
    )
    assert as_regions(theirs) == as_regions(map(json.loads, lines))


def as_regions(records: Any) -> Counter[tuple[object, ...]]:
    """Returns every box with its phrase; mmdetection puts the boxes of one phrase together."""
    regions: Counter[tuple[object, ...]] = Counter()
    for record in records:
        caption = record["grounding"]["caption"]
        for region in record["grounding"]["regions"]:
            boxes = np.array(region["bbox"], np.float32).reshape(-1, 4).tolist()
            phrase = region["phrase"]
            phrase = phrase if isinstance(phrase, str) else " ".join(phrase)
            for box in boxes:
                regions[record["filename"], caption, phrase, *box] += 1
    return regions


def test_swift_reads_conversations_in_the_forms_of_two_models(
    demo_set: Path, tmp_path: Path
) -> None:
    out = export("vlm", demo_set, tmp_path / "out", "--with-images")
    read_back = read("read_swift", tmp_path, out / "train_swift.jsonl", out / "images")
    expected = [sample for sample in samples(demo_set, "train") if swift_turns(sample)]
    assert len(expected) > 30
    for theirs, sample in zip(read_back, expected, strict=True):
        turns = swift_turns(sample)
        assert theirs["image"] == f"{sample.key}.jpg"
        assert theirs["roles"] == ["user", "assistant"] * len(turns)
        for form, scale in (
            ("thousandths", [1000 / sample.width, 1000 / sample.height] * 2),
            ("pixels", [1, 1, 1, 1]),
        ):
            questions, answers = theirs[form][::2], theirs[form][1::2]
            assert [text.count("<image>") for text in questions] == [1] + [0] * (len(turns) - 1)
            for question, answer, (text, boxes) in zip(questions, answers, turns, strict=True):
                assert question.endswith(text)
                stated = [
                    (phrase, tuple(map(int, box)))
                    for line in answer.splitlines()
                    for phrase in re.findall(r"<.object_ref_start.>(.*)<.object_ref_end.>", line)
                    for box in re.findall(r"\((\d+),(\d+)\),\((\d+),(\d+)\)", line)
                ]
                ours = [(phrase, np.multiply(box, scale)) for phrase, box in boxes]
                assert Counter(phrase for phrase, _ in stated) == Counter(p for p, _ in ours)
                for phrase, box in stated:
                    assert any(
                        p == phrase and np.abs(np.subtract(b, box)).max() <= 0.51 for p, b in ours
                    )


def test_swift_reads_none_for_absent_phrases(tmp_path: Path) -> None:
    out = export_absent("vlm", tmp_path)
    [theirs] = read("read_swift", tmp_path, out / "train_swift.jsonl", out / "images")
    for form, box in (("thousandths", "(16,42),(469,833)"), ("pixels", "(10,20),(300,400)")):
        question, answer = theirs[form]
        assert question.endswith(WITH_ABSENT.text)
        answer = re.sub(r"<.(object_ref|box)_(start|end).>", "", answer)
        assert answer == f"blue kite: none\na red dog: {box}\nmoon: none"


def swift_turns(sample: Sample) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Returns the captions of an image that have boxes, with phrases and boxes."""
    turns = [
        (caption.text, [(words(region, caption.text), region.box) for region in caption.regions])
        for caption in sample.captions
    ]
    return [(text, boxes) for text, boxes in turns if boxes]


def test_hugging_face_loads_every_field(demo_set: Path, tmp_path: Path) -> None:
    out = export("hf", demo_set, tmp_path / "out")
    read_back = read("read_hugging_face", tmp_path, out, tmp_path / "cache")
    assert set(read_back) == {"train", "val", "test"}
    for split, rows in read_back.items():
        for row, sample in zip(rows, samples(demo_set, split), strict=True):
            assert row["image"] == [row["width"], row["height"]] == [sample.width, sample.height]
            assert (row["key"], row["file"]) == (sample.key, sample.file)
            assert msgspec.convert(row["captions"], list[Caption]) == sample.captions
        origins = ([row["key"], row["licenses"], row["url"]] for row in rows)
        assert list(origins) == origins_of(demo_set, split)


def origins_of(shard_set: Path, split: str) -> list[list[Any]]:
    """Returns key, names of licenses, and address of each image, by the index."""
    manifest = mf.load(shard_set)
    names = [entry.name for entry in manifest.licenses]
    ids = {entry.file: entry.licenses for entry in manifest.shards}
    return [
        [row["key"], [names[ids[row["shard"]][id_]] for id_ in row["licenses"]], row["url"]]
        for row in read_indexes(shard_set, split)
    ]


def test_hugging_face_without_images(tmp_path: Path) -> None:
    made = write_shard_set(tmp_path / "shards", [[2, 1], [3]], images=False)
    out = export("hf", made, tmp_path / "out")
    [rows] = read("read_hugging_face", tmp_path, out, tmp_path / "cache").values()
    assert [row["image"] for row in rows] == [None] * 3
    assert [row["key"] for row in rows] == [sample.key for sample in samples(made, "train")]


def test_energon_loads_every_sample(demo_set: Path, tmp_path: Path) -> None:
    out = export("energon", demo_set, tmp_path / "out")
    splits = read("read_energon", tmp_path, out / "metadataset.yaml", "train", "val")
    for split, read_back in splits.items():
        expected = {sample.key: sample for sample in samples(demo_set, split)}
        assert sorted(theirs["key"] for theirs in read_back) == sorted(expected)
        for theirs in read_back:
            sample = expected[theirs["key"]]
            assert theirs["size"] == [sample.width, sample.height]
            assert [c["text"] for c in theirs["record"]["captions"]] == [
                caption.text for caption in sample.captions
            ]


def test_energon_prepare_writes_the_same_files(demo_set: Path, tmp_path: Path) -> None:
    out = export("energon", demo_set, tmp_path / "out") / "train"
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    for tar in demo_set.glob("train-*.tar"):
        shutil.copy(tar, prepared)
    options = ["--non-interactive", "--no-progress", "--num-workers", "2"]
    kind = ["--split-parts", r"train:train-.*\.tar", "--sample-type", "CrudeWebdataset"]
    run_offline(
        [Path(sys.executable).parent / "energon", "prepare", prepared, *options, *kind], tmp_path
    )
    files = sorted(path.relative_to(prepared) for path in prepared.rglob("*.idx"))
    assert len(files) == len(list(demo_set.glob("train-*.tar")))
    for name in [*files, Path(".nv-meta/.info.json"), Path(".nv-meta/dataset.yaml")]:
        assert (out / name).read_bytes() == (prepared / name).read_bytes(), name
    splits = [yaml.safe_load((f / ".nv-meta/split.yaml").read_text()) for f in (out, prepared)]
    for split in splits:
        patterns = split["split_parts"]["train"]
        split["split_parts"]["train"] = [name for pattern in patterns for name in expand(pattern)]
    assert splits[0] == splits[1]
    for table in ("samples", "sample_parts"):
        assert rows_of(out, table) == rows_of(prepared, table)
    assert len(rows_of(out, "samples")) == len(samples(demo_set, "train"))


def rows_of(folder: Path, table: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / ".nv-meta/index.sqlite") as database:
        return sorted(database.execute(f"SELECT * FROM {table}"))


def test_pycocotools_matches_all_boxes(demo_set: Path, tmp_path: Path) -> None:
    out = export("coco", demo_set, tmp_path / "out")
    coco = COCO(out / "instances_val.json")
    expected = samples(demo_set, "val")
    assert len(coco.imgs) == len(expected)
    for image, sample in zip(coco.loadImgs(sorted(coco.imgs)), expected, strict=True):
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        theirs = [
            (coco.cats[a["category_id"]]["name"], np.cumsum(np.reshape(a["bbox"], (2, 2)), 0))
            for a in annotations
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


def test_kosmos_2_decodes_the_same_captions_and_boxes(demo_set: Path, tmp_path: Path) -> None:
    out = export("grit", demo_set, tmp_path / "out")
    read_back = read("read_grit", tmp_path, out / "val.jsonl")
    expected = list(with_boxes(demo_set, "val"))
    for theirs, (sample, caption) in zip(read_back, expected, strict=True):
        # It removes spaces beside a phrase.
        assert theirs["caption"].replace(" ", "") == caption.text.replace(" ", "")
        size = np.array([sample.width, sample.height] * 2)
        ours = [
            (caption.text[start:stop], np.array(region.box) / size)
            for region in caption.regions
            for start, stop in merge_spans(region.spans, caption.text)
        ]
        decoded = [(phrase, box) for phrase, _, boxes in theirs["entities"] for box in boxes]
        assert len(decoded) == len(ours)
        for phrase, box in decoded:  # on a grid of 32 by 32
            assert any(p == phrase and np.abs(box - b).max() <= 1 / 32 for p, b in ours)
    assert sum(len(theirs["entities"]) for theirs in read_back) > 30
