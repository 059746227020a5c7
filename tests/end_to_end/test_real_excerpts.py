"""Builds from real excerpts of the datasets, in their published layouts."""

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.build import main as build
from shards.format import manifest
from tests.end_to_end import recipes
from tests.end_to_end.test_golden import samples

REFCOCO = """
name = "refcoco_excerpt"
images = "none"

[splits]
train = { shards = 1 }

[sources.coco]
instances = ["instances.json"]
refs.refcoco = "refs(unc).p"
"""

GQA = """
name = "gqa_excerpt"

[splits]
val = { shards = 1 }

[sources.gqa]
questions.val = ["val_balanced_questions.json"]
images = ["images"]
"""


def run(recipe: Path, root: Path, output: Path, *options: str) -> manifest.Manifest:
    arguments = [str(recipe), f"--root={root}", f"--output={output}", "--quiet", *options]
    assert build([*arguments, "--direct_running_mode=in_memory"]) == 0
    return manifest.load(output)


def rejected(shard_set: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(shard_set / "rejected.parquet").to_pylist()
    return rows


def test_flickr30k_excerpt(reference: Path, tmp_path: Path) -> None:
    """1,503 images of train, combined, and all of val, not combined."""
    recipe = recipes.flickr30k(tmp_path, "separate")
    made = run(recipe, reference / "real/flickr30k_entities", tmp_path / "shards")
    assert made.totals["train"]["images"] == 1_503
    assert made.totals["val"]["images"] == 1_000
    assert made.totals["val"]["captions"] == 5_000
    assert made.sources["flickr30k"].read == 2_503 * 5
    lost = [row["reason"] for row in rejected(tmp_path / "shards") if row["records"]]
    assert lost == ["caption too long"] * made.sources["flickr30k"].rejected
    assert len(lost) <= 6  # sentences of 250 characters and more
    train = made.totals["train"]
    assert train["sentences"] == 1_503 * 5 - made.sources["flickr30k"].rejected
    assert train["captions"] < train["sentences"]


def test_missing_images_reject_all_their_sentences_in_one_row(
    reference: Path, tmp_path: Path
) -> None:
    """The excerpt has five of the images."""
    recipe = recipes.flickr30k(tmp_path, "separate")
    text = recipe.read_text().replace('images = "none"', "reject_limit = 1.0")
    text = re.sub(r"(shards = [0-9]+)", r"\1, allow_empty = true", text)  # val may lose all images
    recipe.write_text(text.replace("[exclude", 'images = ["images"]\n\n[exclude', 1))
    root = reference / "real/flickr30k_entities"
    made = run(recipe, root, tmp_path / "shards")
    assert sum(totals["images"] for totals in made.totals.values()) == 5
    missing = [row for row in rejected(tmp_path / "shards") if row["reason"] == "image missing"]
    assert len(missing) == 2_503 - 5
    assert {row["records"] for row in missing} == {5}


def test_refcoco_excerpt(reference: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(REFCOCO)
    made = run(recipe, reference / "real/refcoco_excerpt", tmp_path / "shards")
    assert made.totals["train"]["sentences"] == 3
    [sample] = samples(tmp_path / "shards", "train")
    assert sample["key"] == "coco/581857"
    [box] = {tuple(r["box"]) for c in sample["captions"] for r in c["regions"]}
    assert [round(v, 2) for v in box] == [103.93, 299.99, 238.15, 477.41]


def test_gqa_excerpt_without_scene_graphs(reference: Path, tmp_path: Path) -> None:
    """Questions of val have no boxes, but their answers and images."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(GQA)
    made = run(recipe, reference / "real/gqa_excerpt", tmp_path / "shards")
    totals = made.totals["val"]
    assert (totals["questions"], totals["regions"]) == (5, 0)
    by_id = {
        caption["question"]["id"]: caption
        for sample in samples(tmp_path / "shards", "val")
        for caption in sample["captions"]
    }
    assert by_id["00137872"]["question"] == {
        "id": "00137872",
        "answer": "camera",
        "semantic_type": "rel",
        "structural_type": "query",
        "balanced": True,
    }
