"""Builds every shipped recipe from synthetic data, and verifies it: there must be no errors.

    python -m benchmarks.verify_recipes FOLDER [RECIPE ...]

The synthetic datasets have the layouts that the recipes read; what a recipe reads from elsewhere
(GQA's images and submission, CLEVR-CoGenT, CLEVR-Humans, MDETR's JSON) is derived from them.
"""

import json
import os
import shutil
import sys
import time
import zlib
from pathlib import Path

from pipelines.build import main as build
from pipelines.recipe import PACKAGE
from pipelines.synthetic.clevr import generate_clevr
from pipelines.synthetic.generate import generate_dataset
from pipelines.synthetic.layout import SyntheticDataset
from schemas.toml_config import shipped_names
from shards.__main__ import main as shards_command
from shards.reading.shard_set import ShardSet
from shards.verification.verify import verify

NUM_IMAGES = 300


def write_raw_files(root: Path) -> None:
    """Writes all that the shipped recipes read, except MDETR's JSON."""
    generate_dataset(root, SyntheticDataset(num_images=NUM_IMAGES))
    for folder in ("VG_100K", "VG_100K_2"):
        for image in (root / "vg" / folder).iterdir():
            link = root / "gqa/images" / image.name
            if not link.exists():
                os.link(image, link)
    for split in ("train", "val"):
        (root / f"coco/{split}2017").symlink_to(f"{split}2014")
    questions = json.loads((root / "gqa/testdev_all_questions.json").read_text())
    for question in questions.values():
        question.pop("answer", None)
    (root / "gqa/submission_all_questions.json").write_text(json.dumps(questions))
    generated = root / "clevr-generated"
    generate_clevr(generated, num_images=60, seed=1)
    (generated / "clevr").rename(root / "clevr")
    write_cogent(root / "clevr", root / "clevr_cogent")
    write_humans(root / "clevr", root / "clevr-humans")


def write_cogent(clevr: Path, cogent: Path) -> None:
    """Writes CLEVR under the names of its conditions; B has the images of val."""
    for split, condition in (("train", "trainA"), ("val", "valA"), ("val", "valB")):
        for kind in ("questions", "scenes"):
            text = (clevr / kind / f"CLEVR_{split}_{kind}.json").read_text()
            path = cogent / kind / f"CLEVR_{condition}_{kind}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace(f"CLEVR_{split}_", f"CLEVR_{condition}_"))
        folder = cogent / "images" / condition
        folder.mkdir(parents=True)
        for image in (clevr / "images" / split).iterdir():
            target = folder / image.name.replace(f"CLEVR_{split}_", f"CLEVR_{condition}_")
            # Other images in B: a PNG may have other chunks.
            content = image.read_bytes()
            target.write_bytes(_with_text(content) if condition == "valB" else content)


def _with_text(png: bytes) -> bytes:
    """Returns a PNG with a text chunk before its end."""
    chunk = b"tEXtcondition\0B"
    crc32 = zlib.crc32(chunk).to_bytes(4, "big")
    return png[:-12] + (len(chunk) - 4).to_bytes(4, "big") + chunk + crc32 + png[-12:]


def write_humans(clevr: Path, humans: Path) -> None:
    """Writes CLEVR's questions as those of people, without ids, programs and scenes."""
    humans.mkdir()
    for split in ("train", "val"):
        content = json.loads((clevr / f"questions/CLEVR_{split}_questions.json").read_text())
        seen: set[tuple[str, str]] = set()
        questions = []
        for question in content["questions"]:
            name, text = question["image_filename"], question["question"]
            if (name, text) not in seen:
                seen.add((name, text))
                questions.append(
                    {"image_filename": name, "question": text, "answer": question["answer"]}
                )
        path = humans / f"CLEVR-Humans-{split}.json"
        path.write_text(json.dumps({"questions": questions}))


def write_mdetr_json(root: Path, demo: Path) -> None:
    """Exports the demo as MDETR's files."""
    arguments = ["export", "mdetr-json", str(demo), "--output", str(root / "mdetr")]
    assert shards_command([*arguments, "--split", "train", "--split", "val"]) == 0


def main(folder: Path, recipes: list[str]) -> int:
    """Prints a line for each recipe; returns 1 if any verification has errors."""
    root = folder / "raw"
    if not root.exists():
        write_raw_files(root)
    failed = False
    for name in recipes:
        output = folder / name
        shutil.rmtree(output, ignore_errors=True)
        arguments = [name, f"--root={root}", f"--output={output}", "--quiet"]
        status = build([*arguments, "--direct_running_mode=in_memory"])
        if status:
            print(f"{name:26} build failed", flush=True)
            failed = True
            continue
        row = []
        for raw in (None, root):
            started = time.monotonic()
            result = verify(ShardSet.open(output), raw=raw)
            seconds = time.monotonic() - started
            errors = result.errors.counts.total()
            failed |= errors > 0
            row.append(f"{errors:3} errors {seconds:5.1f} s")
            for error in result.errors.listed[:3]:
                print(f"    {error}")
        counts = f"{result.checked['images']:4} images {result.checked['captions']:6} captions"
        print(f"{name:26} {counts}  plain {row[0]}  raw {row[1]}", flush=True)
        if name == "demo" and not (root / "mdetr").exists():
            write_mdetr_json(root, output)
    return int(failed)


if __name__ == "__main__":
    names = sys.argv[2:] or sorted(shipped_names(PACKAGE), key=lambda name: name != "demo")
    sys.exit(main(Path(sys.argv[1]), names))
