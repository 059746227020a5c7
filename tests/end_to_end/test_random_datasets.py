"""Random synthetic datasets through the demo recipe: rules hold, and no held-out image leaks."""

import json
import pickle
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.build import main as build
from pipelines.synthetic.generate import generate_dataset
from pipelines.synthetic.layout import SyntheticDataset
from shards.format import manifest
from shards.format.source_counts import total
from tests.end_to_end.invariants import check_sample
from tests.end_to_end.test_golden import samples


@settings(max_examples=3, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**31), num_images=st.integers(20, 60))
def test_demo_recipe_follows_the_rules_and_leaks_no_held_out_image(
    seed: int, num_images: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        raw, output = Path(folder) / "raw", Path(folder) / "shards"
        generate_dataset(raw, SyntheticDataset(num_images, seed))
        options = [f"--root={raw}", f"--output={output}", "--direct_running_mode=in_memory"]
        assert build(["demo", *options, "--quiet"]) == 0
        held_out = held_out_images(raw)
        records: Counter[tuple[str, str]] = Counter()
        for sample in samples(output, "train"):
            check_sample(sample)
            assert sample["key"] not in held_out
            for caption in sample["captions"]:
                records.update((p["dataset"], p["record"]) for p in caption["provenance"])
        assert set(records.values()) <= {1}
        built = manifest.load(output)
        counts = total(built.sources.values())
        totals = built.totals.values()
        assert counts.in_shards == sum(of_split["sentences"] for of_split in totals)
        assert counts.boxes.in_shards == sum(of_split["regions"] for of_split in totals)
        for each in built.sources.values():
            assert each.unaccounted() == each.boxes.unaccounted() == 0 < each.boxes.read


def held_out_images(raw: Path) -> set[str]:
    """Returns all images of the evaluation sets and their duplicates, looked up in raw files."""
    held_out = set()
    coco = []
    for split in ("train", "val"):
        images = load(raw / f"coco/annotations/instances_{split}2014.json")["images"]
        coco += images
        held_out |= {f"coco/{image['id']}" for image in images if split == "val"}
    for name in ("refcoco/refs(unc).p", "refcoco+/refs(unc).p", "refcocog/refs(umd).p"):
        refs = pickle.loads((raw / "refcoco" / name).read_bytes())
        held_out |= {f"coco/{ref['image_id']}" for ref in refs if ref["split"] != "train"}
    for split in ("val", "testdev"):
        questions = load(raw / f"gqa/{split}_balanced_questions.json").values()
        ids = {question["imageId"] for question in questions}
        held_out |= {f"coco/{id_[1:]}" if id_[0] == "n" else f"vg/{id_}" for id_ in ids}
    phrasecut = (raw / "ids/phrasecut_val_test.txt").read_text().split()
    held_out |= {f"vg/{id_}" for id_ in phrasecut}
    minival = load(raw / "lvis/lvis_v1_minival.json")["images"]
    held_out |= {f"coco/{image['id']}" for image in minival}
    for split in ("val", "test"):
        ids = (raw / f"flickr30k/{split}.txt").read_text().split()
        held_out |= {f"flickr30k/{id_}" for id_ in ids}
    return with_linked_keys(held_out, links(raw, coco))


def links(raw: Path, coco: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Returns the pairs of keys that ids of the raw files state to be one image."""
    pairs = []
    for row in load(raw / "vg/image_data.json"):
        if row["coco_id"] is not None:
            pairs.append((f"vg/{row['image_id']}", f"coco/{row['coco_id']}"))
        if row["flickr_id"] is not None:
            pairs.append((f"vg/{row['image_id']}", f"flickr30k/{row['flickr_id']}"))
    for image in coco:
        photo = re.search(r"/(\d+)_[0-9a-f]+_z\.jpg$", image["flickr_url"])
        if photo:
            pairs.append((f"coco/{image['id']}", f"flickr30k/{photo[1]}"))
    return pairs


def with_linked_keys(keys: set[str], pairs: list[tuple[str, str]]) -> set[str]:
    """Returns the keys and all that pairs link with them, directly or not."""
    while True:
        linked = {b for a, b in pairs if a in keys} | {a for a, b in pairs if b in keys}
        if linked <= keys:
            return keys
        keys = keys | linked


def load(path: Path) -> Any:
    return json.loads(path.read_text())
