"""Worlds of random seeds through the demo recipe: the rules hold, and nothing held out leaks."""

import json
import pickle
import re
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.build import main as build
from pipelines.synthetic.generate import generate_dataset
from pipelines.synthetic.layout import SyntheticDataset
from shards.format import manifest
from tests.end_to_end.invariants import check_sample
from tests.end_to_end.test_golden import samples


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**31), images=st.integers(20, 60))
def test_demo_recipe(seed: int, images: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        synthetic, output = Path(folder) / "raw", Path(folder) / "shards"
        generate_dataset(synthetic, SyntheticDataset(images, seed))
        options = [f"--root={synthetic}", f"--output={output}", "--direct_running_mode=in_memory"]
        assert build(["demo", *options, "--quiet"]) == 0
        held_out = held_out_images(synthetic)
        records = defaultdict(int)
        for sample in samples(output, "train"):
            check_sample(sample)
            assert sample["key"] not in held_out
            for caption in sample["captions"]:
                for part in caption["provenance"]:
                    records[part["dataset"], part["record"]] += 1
        assert set(records.values()) <= {1}
        made = manifest.load(output)
        kept = sum(totals["sentences"] for totals in made.totals.values())
        lost = sum(of.rejected + of.merged + of.excluded for of in made.sources.values())
        assert sum(of.read for of in made.sources.values()) == kept + lost


def held_out_images(synthetic: Path) -> set[str]:
    """All copies of all images of the evaluation sets, by plain look-ups in the raw files."""
    held = set()
    coco = []
    for split in ("train", "val"):
        images = load(synthetic / f"coco/annotations/instances_{split}2014.json")["images"]
        coco += images
        held |= {f"coco/{image['id']}" for image in images if split == "val"}
    for name in ("refcoco/refs(unc).p", "refcoco+/refs(unc).p", "refcocog/refs(umd).p"):
        refs = pickle.loads((synthetic / "refcoco" / name).read_bytes())
        held |= {f"coco/{ref['image_id']}" for ref in refs if ref["split"] != "train"}
    for split in ("val", "testdev"):
        questions = load(synthetic / f"gqa/{split}_balanced_questions.json").values()
        ids = {question["imageId"] for question in questions}
        held |= {f"coco/{id_[1:]}" if id_[0] == "n" else f"vg/{id_}" for id_ in ids}
    held |= {f"vg/{id_}" for id_ in (synthetic / "ids/phrasecut_val_test.txt").read_text().split()}
    held |= {
        f"coco/{image['id']}" for image in load(synthetic / "lvis/lvis_v1_minival.json")["images"]
    }
    for split in ("val", "test"):
        ids = (synthetic / f"flickr30k/{split}.txt").read_text().split()
        held |= {f"flickr30k/{id_}" for id_ in ids}
    return everything_tied_to(held, ties(synthetic, coco))


def ties(synthetic: Path, coco: list[dict[str, Any]]) -> list[tuple[str, str]]:
    pairs = []
    for row in load(synthetic / "vg/image_data.json"):
        if row["coco_id"] is not None:
            pairs.append((f"vg/{row['image_id']}", f"coco/{row['coco_id']}"))
        if row["flickr_id"] is not None:
            pairs.append((f"vg/{row['image_id']}", f"flickr30k/{row['flickr_id']}"))
    for image in coco:
        photo = re.search(r"/(\d+)_[0-9a-f]+_z\.jpg$", image["flickr_url"])
        if photo:
            pairs.append((f"coco/{image['id']}", f"flickr30k/{photo[1]}"))
    return pairs


def everything_tied_to(keys: set[str], pairs: list[tuple[str, str]]) -> set[str]:
    while True:
        more = {b for a, b in pairs if a in keys} | {a for a, b in pairs if b in keys}
        if more <= keys:
            return keys
        keys = keys | more


def load(path: Path) -> Any:
    return json.loads(path.read_text())
