"""Compares shard sets with the output of the published scripts for the same raw files."""

import json
import lzma
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from pipelines.build import main as build
from pipelines.captions.rules import MDETR, PAPER
from pipelines.captions.stop_words import parse_stop_words
from pipelines.captions.text_cleanup import clean
from schemas import Region
from shards.__main__ import main as shards
from tests.end_to_end import recipes
from tests.end_to_end.invariants import check_sample
from tests.pipelines.sources import test_visual_genome as visual_genome

Row = tuple[Any, ...]

GOLDEN_MIXED = "golden/mixed/final_mixed_train.json.xz"


def samples(shard_set: Path, split: str) -> Iterator[dict[str, Any]]:
    tars = sorted(str(path) for path in shard_set.glob(f"{split}-*.tar"))
    for sample in webdataset.WebDataset(tars, shardshuffle=False, empty_check=False):
        yield json.loads(sample["json"])


def published(path: Path) -> tuple[list[dict[str, Any]], dict[int, list[dict[str, Any]]]]:
    content = json.loads(lzma.decompress(path.read_bytes()))
    annotations = defaultdict(list)
    for annotation in content["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    return content["images"], annotations


def spans(values: list[list[int]]) -> Row:
    return tuple(tuple(span) for span in values)


def corners(bbox: list[float]) -> Row:
    """Returns x, y, w, h as float32 corners: the form of a shard."""
    x, y, w, h = bbox
    return tuple(np.array([x, y, x + w, y + h], np.float32).tolist())


def boxes(regions: list[dict[str, Any]]) -> np.ndarray:
    return np.array([region["box"] for region in regions], np.float32).reshape(-1, 4)


@pytest.fixture(scope="module")
def mixed(
    reference: Path, golden_raw: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Shard sets of the golden raw files, by rules."""
    shard_sets = {}
    for rules in ("mdetr", "paper"):
        folder = tmp_path_factory.mktemp(rules)
        recipe = recipes.golden_mixed(folder, rules, reference / "golden/mixed/stopwords.txt")
        shard_sets[rules] = build_in_memory(recipe, golden_raw, folder / "shards")
    return shard_sets


def build_in_memory(recipe: Path, root: Path, output: Path) -> Path:
    """Builds a shard set in this process, where all builds share the cache of the parser."""
    arguments = [str(recipe), f"--root={root}", f"--output={output}", "--quiet"]
    assert build([*arguments, "--direct_running_mode=in_memory"]) == 0
    return output


def test_mdetr_rules_equal_the_published_mixed_file(
    reference: Path, mixed: dict[str, Path]
) -> None:
    images, annotations = published(reference / GOLDEN_MIXED)
    expected: dict[Row, list[np.ndarray]] = defaultdict(list)
    for image in images:
        assert image["dataset_name"] == "mixed"
        boxed = annotations[image["id"]]
        row = (
            f"{image['data_source']}/{image['original_id']}",
            image["file_name"],
            image["width"],
            image["height"],
            image["caption"],
            spans(image["tokens_negative"]),
            tuple(
                (a["area"], a["iscrowd"], a["category_id"], spans(a["tokens_positive"]))
                for a in boxed
            ),
        )
        expected[row].append(boxes([{"box": corners(a["bbox"])} for a in boxed]))
    actual: dict[Row, list[np.ndarray]] = defaultdict(list)
    for sample in samples(mixed["mdetr"], "train"):
        for caption in sample["captions"]:
            row = (
                sample["key"],
                sample["file"],
                sample["width"],
                sample["height"],
                caption["text"],
                spans(caption["tokens_negative"]),
                tuple(
                    (
                        r["area"],
                        int(r.get("crowd", False)),
                        r.get("category", 1),
                        spans(r["tokens_positive"]),
                    )
                    for r in caption["regions"]
                ),
            )
            actual[row].append(boxes(caption["regions"]))
    assert Counter({row: len(b) for row, b in actual.items()}) == Counter(
        {row: len(b) for row, b in expected.items()}
    )
    assert sum(len(b) for b in expected.values()) == 7133
    # Published boxes are float64 x, y, w, h; corners computed from them may round another way.
    largest = max(
        np.abs(a - b).max(initial=0.0)
        for row in expected
        for a, b in zip(sorted(actual[row], key=str), sorted(expected[row], key=str), strict=True)
    )
    assert largest <= 2**-14  # one float32 step for pixels of 512 to 1024


def test_mixed_export_equals_the_published_file(
    reference: Path, mixed: dict[str, Path], tmp_path: Path
) -> None:
    assert shards(["export", "mdetr-json", str(mixed["mdetr"]), f"--output={tmp_path}"]) == 0
    [path] = tmp_path.iterdir()
    assert path.name == "final_mixed_train.json"
    exported = json.loads(path.read_bytes())
    expected = json.loads(lzma.decompress((reference / GOLDEN_MIXED).read_bytes()))
    for image in expected["images"]:
        image["original_id"] = int(image["original_id"])
    assert assert_same_captions(exported, expected) == (7_133, 69_589)
    assert {c["id"] for c in exported["categories"]} == {
        a["category_id"] for a in exported["annotations"]
    }


def test_export_without_coco_has_the_captions_of_visual_genome(
    reference: Path, mixed: dict[str, Path], tmp_path: Path
) -> None:
    arguments = ["export", "mdetr-json", str(mixed["mdetr"]), f"--output={tmp_path}", "--no-coco"]
    assert shards(arguments) == 0
    [path] = tmp_path.iterdir()
    assert path.name == "final_mixed_train_no_coco.json"
    images = json.loads(path.read_bytes())["images"]
    published_images, _ = published(reference / GOLDEN_MIXED)
    vg_captions = [image["caption"] for image in published_images if image["data_source"] == "vg"]
    assert Counter(image["caption"] for image in images) == Counter(vg_captions)
    assert len(vg_captions) == 4_080


def assert_same_captions(exported: dict[str, Any], expected: dict[str, Any]) -> tuple[int, int]:
    """Asserts that two files of MDETR have the same captions, ignoring ids and order.

    Fields are equal, and boxes as float32 corners to one step. Returns captions and boxes.
    """
    records, boxes_of = zip(*(as_records(content) for content in (exported, expected)), strict=True)
    assert records[0] == records[1]
    largest = max(
        np.abs(a - b).max(initial=0.0)
        for record in boxes_of[0]
        for a, b in zip(
            sorted(boxes_of[0][record], key=str), sorted(boxes_of[1][record], key=str), strict=True
        )
    )
    assert largest <= 2**-14
    for kind in ("images", "annotations"):
        assert len({record["id"] for record in exported[kind]}) == len(exported[kind])
    return len(exported["images"]), len(exported["annotations"])


def as_records(content: dict[str, Any]) -> tuple[Counter[str], dict[str, list[np.ndarray]]]:
    """Returns each caption with its annotations as JSON without ids and boxes, and its boxes."""
    annotations = defaultdict(list)
    for annotation in content["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    records: Counter[str] = Counter()
    boxes_of: dict[str, list[np.ndarray]] = defaultdict(list)
    for image in content["images"]:
        boxed = sorted(annotations[image["id"]], key=lambda a: (corners(a["bbox"]), str(a)))
        image["tokens_positive"] = [
            {k: v for k, v in a.items() if k not in ("id", "image_id", "bbox")} for a in boxed
        ]
        record = json.dumps({k: v for k, v in image.items() if k != "id"}, sort_keys=True)
        records[record] += 1
        boxes_of[record].append(boxes([{"box": corners(a["bbox"])} for a in boxed]))
    return records, boxes_of


def test_paper_rules_keep_the_invariants_of_samples(
    golden_raw: Path, mixed: dict[str, Path]
) -> None:
    captions = 0
    for sample in samples(mixed["paper"], "train"):
        check_sample(sample)
        captions += len(sample["captions"])
    assert 6_000 < captions < 7_133  # more sentences than published, in fewer captions
    assert held_out_keys(golden_raw).isdisjoint(s["key"] for s in samples(mixed["paper"], "train"))


def held_out_keys(raw: Path) -> set[str]:
    """Returns the keys that must not be in train, computed from the side files."""
    import pickle

    table = json.loads((raw / "vg/image_data.json").read_text())
    coco_of = {row["image_id"]: row["coco_id"] for row in table}
    val = json.loads((raw / "coco/annotations/instances_val2014.json").read_text())
    keys = {f"coco/{image['id']}" for image in val["images"]}
    keys |= {
        f"coco/{id_}" for id_ in pickle.loads((raw / "side/refexp_all_unsafe_ids.pkl").read_bytes())
    }
    for name in ("gqa_unsafe_ids.pkl", "phrase_cut_unsafe_ids.pkl"):
        for id_ in pickle.loads((raw / "side" / name).read_bytes()):
            if not str(id_).startswith("n"):
                coco = coco_of[int(id_)]
                keys.add(f"vg/{id_}" if coco is None else f"coco/{coco}")
    return keys


@pytest.mark.parametrize("ground_truth", ["separate", "merged"])
def test_flickr30k_val_equals_the_published_file(
    reference: Path, tmp_path: Path, ground_truth: str
) -> None:
    recipe = recipes.flickr30k(tmp_path, ground_truth, train=False)
    root = reference / "real/flickr30k_entities"
    output = build_in_memory(recipe, root, tmp_path / "shards")
    images, annotations = published(
        reference / f"golden/flickr/final_flickr_{ground_truth}GT_val.json.xz"
    )
    expected = Counter(
        (
            image["file_name"],
            int(image["width"]),
            int(image["height"]),
            f"{image['original_img_id']}#{image['sentence_id']}",
            image["caption"],
            spans(image["tokens_negative"]),
            tuple(spans(phrase) for phrase in image["tokens_positive_eval"]),
            region_set((corners(a["bbox"]), a["area"], a["tokens_positive"]) for a in boxed),
        )
        for image in images
        for boxed in [annotations[image["id"]]]
    )
    actual = Counter(
        (
            sample["file"],
            sample["width"],
            sample["height"],
            caption["provenance"][0]["record"],
            caption["text"],
            spans(caption["tokens_negative"]),
            tuple(spans(phrase["tokens_positive"]) for phrase in caption.get("phrases", [])),
            region_set(
                (tuple(r["box"]), r["area"], r["tokens_positive"]) for r in caption["regions"]
            ),
        )
        for sample in samples(output, "val")
        for caption in sample["captions"]
    )
    assert expected == actual
    assert actual.total() == 5_000
    same_when_exported(output, reference, f"final_flickr_{ground_truth}GT_val.json", tmp_path)


def same_when_exported(shard_set: Path, reference: Path, name: str, folder: Path) -> None:
    """Asserts that the export equals the file, but for numbers as sizes and the order of spans."""
    arguments = ["export", "mdetr-json", str(shard_set), "--output", str(folder / "exported")]
    assert shards([*arguments, "--split", "val"]) == 0
    exported = json.loads((folder / "exported" / name).read_bytes())
    expected = json.loads(lzma.decompress((reference / f"golden/flickr/{name}.xz").read_bytes()))
    for image in expected["images"]:
        image |= {side: int(image[side]) for side in ("width", "height")}
    for content in (exported, expected):
        for annotation in content["annotations"]:
            annotation["tokens_positive"].sort()
    assert_same_captions(exported, expected)
    assert exported["categories"] == expected["categories"]


def region_set(regions: Iterator[tuple[Row, float, list[list[int]]]]) -> Row:
    """Returns regions in sorted order: the published order is that of Python sets."""
    return tuple(sorted((box, area, tuple(sorted(spans(words)))) for box, area, words in regions))


# --- Visual Genome before exclusion and combination -----------------------------------------------
# These tests are in this file because they use the parses of the builds above.


@pytest.fixture(scope="module")
def region_graphs(golden_raw: Path) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = json.loads(
        (golden_raw / "vg" / "region_graphs.json").read_bytes()
    )
    return images


def annotation_fields(annotation: dict[str, Any]) -> tuple[Any, ...]:
    box = np.array(annotation["bbox"], np.float32)
    box[2:] += box[:2]
    fields = [annotation[name] for name in ("area", "category_id", "iscrowd", "tokens_positive")]
    return (tuple(box.tolist()), *fields)


def region_fields(region: Region) -> tuple[Any, ...]:
    spans = visual_genome.as_lists(region.spans)
    return (region.box, region.area, region.category, int(region.crowd), spans)


def test_visual_genome_equals_the_published_datapoints(
    reference: Path, region_graphs: list[dict[str, Any]]
) -> None:
    """Every field of all 44,309 is equal, boxes and areas to the last bit of a float32."""
    path = reference / "golden" / "mixed" / "vg_datapoints.json.xz"
    expected = Counter(
        (
            f"vg/{datapoint['image_id']}",
            str(datapoint["original_id"]),
            datapoint["caption"],
            str(datapoint["tokens_negative"]),
            str([annotation_fields(annotation) for annotation in datapoint["annotations"]]),
        )
        for datapoint in json.loads(lzma.decompress(path.read_bytes()))
    )
    stop_words = parse_stop_words((reference / "golden/mixed/stopwords.txt").read_text())
    records, rejected = visual_genome.read(region_graphs, MDETR, stop_words)

    actual = Counter(
        (
            record.image,
            caption.record,
            caption.text,
            str(visual_genome.as_lists(caption.tokens_negative)),
            str([region_fields(region) for region in caption.regions]),
        )
        for record in records
        for caption in record.captions
    )
    assert actual.total() == 44309
    assert actual == expected
    assert Counter(rejection.reason for rejection in rejected) == {
        "clean-up not followed": 695,
        "uninformative": 161,
        "caption too short": 81,
    }
    visual_genome.assert_nothing_lost(region_graphs, records, rejected)


def test_paper_rules_lose_no_region_of_visual_genome(region_graphs: list[dict[str, Any]]) -> None:
    records, rejected = visual_genome.read(region_graphs, PAPER)
    visual_genome.assert_nothing_lost(region_graphs, records, rejected)
    assert {rejection.reason for rejection in rejected} == {"uninformative", "caption too short"}
    by_id = {region["region_id"]: region for image in region_graphs for region in image["regions"]}
    for record in records:
        for caption in record.captions:
            assert caption.text == clean(by_id[int(caption.record)]["phrase"])
            assert caption.regions and all(region.spans for region in caption.regions)
            for start, stop in (span for region in caption.regions for span in region.spans):
                assert caption.text[start].isalnum() and caption.text[stop - 1].isalnum()
