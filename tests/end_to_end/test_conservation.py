"""Whatever is wrong with raw files, each caption and each box that they state has one outcome."""

import contextlib
import io
import json
import math
import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import launch
from pipelines.synthetic.clevr import generate_clevr
from pipelines.synthetic.generate import generate_dataset
from pipelines.synthetic.layout import SyntheticDataset
from shards.format import manifest as mf
from shards.format.manifest import Manifest
from shards.reading.shard_set import ShardSet
from shards.verification.verify import verify
from tests import tiny
from tests.shared_folder import shared_folder

RUNNER = ["--runner=tests.eager_runner.EagerRunner"]

MAY_BE_EMPTY = {"allow_empty": True}
SOURCES: dict[str, dict[str, Any]] = {
    "coco": {
        "instances": ["coco/annotations/instances_train2014.json"],
        "refs": {
            "refcoco": "refcoco/refcoco/refs(unc).p",
            "refcocog": "refcoco/refcocog/refs(umd).p",
        },
    },
    "gqa": {
        "questions": {"train": ["gqa/train_balanced_questions.json"]},
        "scene_graphs": {"train": "gqa/train_sceneGraphs.json"},
    },
    "vg": {"image_data": "vg/image_data.json", "region_graphs": "vg/region_graphs.json"},
    "flickr30k": {
        "annotations": "flickr30k",
        "split_files": {"train": "flickr30k/train.txt"},
        "ground_truth": "merged",
    },
    "lvis": {"annotations": {"train": "lvis/lvis_v1_train.json"}, "percent": {"train": 80}},
    "clevr": {
        "questions": {"train": ["clevr/questions/CLEVR_train_questions.json"]},
        "scenes": {"train": "clevr/scenes/CLEVR_train_scenes.json"},
        "medium": True,
    },
    "mdetr_json": {"files": {"train": ["mdetr/mixed.json"]}},
}
DATASETS = {
    "refcoco": "coco",
    "refcocog": "coco",
    "mixed": "mdetr_json",
    **{name: name for name in ("gqa", "vg", "flickr30k", "lvis", "clevr")},
}
RECIPE: dict[str, Any] = {
    "images": "none",
    "reject_limit": 1.0,
    "splits": {
        "train": {"shards": 2, "combine": False, **MAY_BE_EMPTY},
        "val": {"shards": 1, **MAY_BE_EMPTY},
    },
    "sources": {name: source | MAY_BE_EMPTY for name, source in SOURCES.items()},
    "exclude": {
        "refcocog": {"refs": ["refcoco/refcocog/refs(umd).p"], **MAY_BE_EMPTY},
        "phrasecut": {"ids": ["ids/phrasecut_val_test.txt"], "of": "vg", **MAY_BE_EMPTY},
    },
}

#: What a value of a raw file becomes. JSON gets NaN, lone surrogates and integers of any length.
VALUES = [None, True, -1, 0, 7.0, 1e300, math.nan, -math.inf, 10**40, "", "x", "\ud83d", [], {}]

Mutation = tuple[str, list[float], Any]


@pytest.fixture(scope="module")
def raw_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw files of all sources."""

    def write(folder: Path) -> None:
        generate_dataset(folder, SyntheticDataset(num_images=24, seed=2))
        generate_clevr(folder, num_images=8, seed=0)
        images = [_mdetr_image(number) for number in range(8)]
        boxes = [_mdetr_box(number, number // 2) for number in range(16)]
        content = {"images": images, "annotations": boxes, "categories": []}
        tiny.write_json(folder / "mdetr/mixed.json", content)
        for path in folder.rglob("*.jpg"):
            path.unlink()

    return shared_folder(tmp_path_factory, "raw_files_to_damage", write)


def _mdetr_image(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": f"{number}.jpg",
        "width": tiny.WIDTH,
        "height": tiny.HEIGHT,
        "caption": f"a cat beside the door {number}",
        "dataset_name": "mixed",
        "data_source": "vg",
        "original_id": 1 + number // 2,
        "tokens_negative": [[0, 5]],
    }


def _mdetr_box(number: int, image: int) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "bbox": [1 + number, 2, 30, 40],
        "area": 1200,
        "iscrowd": 0,
        "tokens_positive": [[2, 5]],
    }


@pytest.mark.parametrize("rules", ["paper", "mdetr"])
def test_captions_and_boxes_are_conserved(raw_files: Path, tmp_path: Path, rules: str) -> None:
    files = sorted(
        str(path.relative_to(raw_files))
        for path in raw_files.rglob("*")
        if path.is_file() and _is_read(str(path.relative_to(raw_files)))
    )
    mutations = st.lists(
        st.tuples(
            st.sampled_from(files),
            st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=7),
            st.sampled_from(VALUES),
        ),
        max_size=12,
    )
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=12,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutations)
    def check(mutations: list[Mutation]) -> None:
        root = tmp_path / "raw"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(raw_files, root)
        for file, path, value in mutations:
            _mutate(root / file, path, value)
        tiny.write_recipe(root / "recipe.toml", rules=rules, **RECIPE)
        recipe, output = str(root / "recipe.toml"), str(root / "shards")
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # warnings
                launch.run(recipe, output, str(root), RUNNER, quiet=True)
        except launch.BuildFailedError as error:
            assert "internal error" not in str(error)
            outcomes["refused"] += 1
        else:
            _check_set(root)
            outcomes["built"] += 1

    check()
    assert outcomes["built"] >= 3, outcomes


def _is_read(file: str) -> bool:
    recipe = json.dumps(RECIPE)
    return file in recipe or file.startswith(("flickr30k/Annotations/", "flickr30k/Sentences/"))


def _mutate(path: Path, where: list[float], value: Any) -> None:
    """Replaces or deletes a value of a file: the one that ``where`` leads to, from the top."""
    match path.suffix:
        case ".json":
            content = json.loads(path.read_text())
            _replace(content, where, value)
            path.write_text(json.dumps(content))
        case ".p":
            content = pickle.loads(path.read_bytes())
            _replace(content, where, value)
            path.write_bytes(pickle.dumps(content, protocol=2))
        case _:
            text = path.read_text()
            at = int(where[0] * len(text))
            new = "" if value is None else ascii(value)
            path.write_text(text[:at] + new + text[at + len(where) :])


def _replace(content: Any, where: list[float], value: Any) -> None:
    for depth, fraction in enumerate(where):
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        if not keys:
            return
        key = keys[int(fraction * len(keys))]
        inner = content[key]
        if depth == len(where) - 1 or not isinstance(inner, list | dict) or not inner:
            if value is None and isinstance(content, dict):
                del content[key]
            else:
                content[key] = value
            return
        content = inner


def _check_set(root: Path) -> None:
    """Compares the counts of a shard set with its samples, its tables and its raw files."""
    manifest = mf.load(root / "shards")
    in_shards: dict[str, Counter[str]] = {"captions": Counter(), "boxes": Counter()}
    for sample in tiny.samples(root).values():
        for caption in sample["captions"]:
            [origin] = caption["provenance"]
            source = DATASETS[origin["dataset"]]
            in_shards["captions"][source] += 1
            in_shards["boxes"][source] += len(caption["regions"])
    rejected: dict[str, Counter[str]] = {"captions": Counter(), "boxes": Counter()}
    for row in pq.read_table(root / "shards/rejected.parquet").to_pylist():
        rejected["captions"][row["source"]] += row["records"]
        rejected["boxes"][row["source"]] += row["boxes"]
    for source, counts in manifest.sources.items():
        for noun, each in (("captions", counts), ("boxes", counts.boxes)):
            assert each.unaccounted() == 0
            assert each.in_shards == in_shards[noun][source]
            assert each.rejected == rejected[noun][source]
    for source, count_captions in CAPTIONS_OF_FILES.items():
        assert count_captions(root) in (None, manifest.sources[source].read), source
    _check_left_out(manifest)
    assert verify(ShardSet.open(root / "shards")).errors.listed == []


def _check_left_out(manifest: Manifest) -> None:
    captions: Counter[str] = Counter()
    boxes: Counter[str] = Counter()
    for part in manifest.not_asked_for:
        captions[part.source] += part.captions
        boxes[part.source] += part.boxes
    for source, counts in manifest.sources.items():
        assert counts.not_asked_for == captions[source]
        assert counts.boxes.not_asked_for == boxes[source]


def _captions_of_gqa(root: Path) -> int:
    return len(json.loads((root / "gqa/train_balanced_questions.json").read_text()))


def _captions_of_clevr(root: Path) -> int:
    path = root / "clevr/questions/CLEVR_train_questions.json"
    return len(json.loads(path.read_text())["questions"])


def _captions_of_mdetr_json(root: Path) -> int:
    return len(json.loads((root / "mdetr/mixed.json").read_text())["images"])


def _captions_of_coco(root: Path) -> int | None:
    """Returns the number of sentences; None if a reference has none, which may be malformed."""
    references: list[Any] = []
    for path in SOURCES["coco"]["refs"].values():
        references += pickle.loads((root / path).read_bytes())
    sentences = [r.get("sentences") if isinstance(r, dict) else None for r in references]
    if not all(isinstance(each, list) and each for each in sentences):
        return None
    return sum(map(len, sentences))


CAPTIONS_OF_FILES: dict[str, Callable[[Path], int | None]] = {
    "gqa": _captions_of_gqa,
    "clevr": _captions_of_clevr,
    "mdetr_json": _captions_of_mdetr_json,
    "coco": _captions_of_coco,
}
