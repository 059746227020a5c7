"""The synthetic detection datasets: a set of all three, and counts by json and csv alone."""

import csv
import json
from collections import Counter
from pathlib import Path

from pipelines.build import main as build
from pipelines.synthetic.__main__ import main as synthetic
from shards.__main__ import main as shards
from shards.format import manifest
from shards.reading.reader import ShardReader
from shards.reading.shard_set import ShardSet

RUNNER = "--runner=tests.eager_runner.EagerRunner"
OPEN_IMAGES = {
    "train": "oidv6-train-annotations-bbox.csv",
    "val": "validation-annotations-bbox.csv",
}
Boxes = Counter[tuple[str, str, str]]  # by split, image and class


def stated_boxes(raw: Path) -> Boxes:
    boxes: Boxes = Counter()
    for split in ("train", "val"):
        for dataset, file in (("objects365", "zhiyuan_objv2"), ("v3det", "v3det_2023_v1")):
            content = json.loads((raw / dataset / f"{file}_{split}.json").read_bytes())
            names = {c["id"]: c["name"].replace("_", " ") for c in content["categories"]}
            for row in content["annotations"]:
                boxes[split, f"{dataset}/{row['image_id']}", names[row["category_id"]]] += 1
        folder = raw / "openimages"
        classes = (folder / "oidv7-class-descriptions-boxable.csv").read_text().splitlines()
        names_of_labels = dict(line.split(",") for line in classes)
        with (folder / OPEN_IMAGES[split]).open(newline="") as file_of_boxes:
            for box in csv.DictReader(file_of_boxes):
                name = names_of_labels[box["LabelName"]]
                boxes[split, f"openimages/{box['ImageID']}", name] += 1
    return boxes


def test_set_of_all_datasets_has_the_boxes_that_their_files_state(tmp_path: Path) -> None:
    raw, output = tmp_path / "raw", tmp_path / "shards"
    arguments = ["--layout", "detection", "--output", str(raw), "--num-images", "45"]
    assert synthetic(arguments) == 0
    command = ["demo_detection", f"--root={raw}", f"--output={output}", RUNNER, "--quiet"]
    assert build(command) == 0
    assert shards(["verify", str(output), "--quiet"]) == 0
    boxes: Boxes = Counter()
    absent = 0
    for split in ("train", "val"):
        for stored in ShardReader(ShardSet.open(output)).samples(split):
            for caption in stored.sample.captions:
                assert len(caption.text) < 250
                absent += len(caption.absent)
                for region in caption.regions:
                    [(start, stop)] = region.spans
                    boxes[split, stored.sample.key, caption.text[start:stop]] += 1
    assert boxes == stated_boxes(raw)
    assert {key.partition("/")[0] for _, key, _ in boxes} == {"objects365", "v3det", "openimages"}
    sources = manifest.load(output).sources
    assert sum(counts.boxes.in_shards for counts in sources.values()) == boxes.total()
    assert absent > 0
