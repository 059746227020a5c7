"""Measures audits of annotation files of the published sizes, and the size of the identities.

    PYTHONPATH=. .venv/bin/python benchmarks/audit.py FOLDER [--captions 1700000]

Writes synthetic annotations to FOLDER: image tables with the numbers of images of COCO and Visual
Genome, the ids of an evaluation set, and captions as MDETR JSON and as ODVG. Prints seconds and
peak memory of each command.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random

COCO_IMAGES, VG_IMAGES, VG_IMAGES_OF_COCO = 123_287, 108_077, 51_208
HELD_OUT = 5_000
BOXES = 4  # of a caption
WORDS = ["the", "a", "man", "woman", "dog", "in", "on", "with", "red", "shirt", "near", "standing"]


def main() -> None:
    """Parses the arguments, writes the files and prints a line per measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--captions", type=int, default=1_700_000)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = Random(0)
    coco = rng.sample(range(1, 600_000), COCO_IMAGES)
    vg = rng.sample(range(1, 2_420_000), VG_IMAGES)
    instances, image_data = write_tables(folder, rng, coco, vg)
    held_out = folder / "held_out.txt"
    held_out.write_text("".join(f"{id_}\n" for id_ in rng.sample(coco, HELD_OUT)))
    images = [("coco", id_) for id_ in coco] + [("vg", id_) for id_ in vg]
    mdetr = write_mdetr_json(folder / "mdetr.json", rng, images, arguments.captions)
    odvg = write_odvg(folder / "odvg.jsonl", rng, images, arguments.captions)

    identities = folder / "identities.parquet"
    measure("identities", ["identities", instances, image_data, "--output", identities])
    print(f"{identities.stat().st_size / 1e6:.1f} MB for {COCO_IMAGES + VG_IMAGES:,} images")
    options = ["--against", f"held_out=coco:{held_out}", "--identities", identities]
    for path in (mdetr, odvg):
        size = f"{path.name}, {path.stat().st_size / 1e9:.2f} GB"
        clean = folder / f"clean_{path.name}"
        measure(size, ["audit", path, *options])
        measure(f"{size}, --write", ["audit", path, *options, "--write", clean])
        clean.unlink()


def measure(label: str, arguments: list[str | Path]) -> None:
    """Runs ``mdetr-shards`` and prints its seconds and peak memory."""
    command = [sys.executable, "-m", "shards", *map(str, arguments)]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise SystemExit(f"{label} failed")
    cpu = usage.ru_utime + usage.ru_stime
    peak = usage.ru_maxrss / 1024
    print(f"{label:32} {seconds:6.1f} s  {cpu:6.1f} CPU s  {peak:6.0f} MiB peak", flush=True)


def write_tables(folder: Path, rng: Random, coco: list[int], vg: list[int]) -> tuple[Path, Path]:
    """Writes image tables in the layouts of COCO and Visual Genome."""
    instances = folder / "instances.json"
    rows = [
        {
            "id": id_,
            "file_name": f"COCO_train2014_{id_:012d}.jpg",
            "width": 640,
            "height": 480,
            "flickr_url": f"http://farm6.staticflickr.com/5062/{rng.randrange(10**10)}_a3_z.jpg",
        }
        for id_ in coco
    ]
    instances.write_text(json.dumps({"images": rows, "annotations": [], "categories": []}))
    of_coco = [*rng.sample(coco, VG_IMAGES_OF_COCO), *[None] * (VG_IMAGES - VG_IMAGES_OF_COCO)]
    image_data = folder / "image_data.json"
    table = [
        {
            "image_id": id_,
            "width": 800,
            "height": 600,
            "url": f"https://cs.stanford.edu/people/rak248/VG_100K_2/{id_}.jpg",
            "coco_id": coco_id,
            "flickr_id": None if coco_id else rng.randrange(10**10),
        }
        for id_, coco_id in zip(vg, of_coco, strict=True)
    ]
    image_data.write_text(json.dumps(table))
    return instances, image_data


def _caption(rng: Random) -> str:
    return " ".join(rng.choices(WORDS, k=25))


def _file_name(dataset: str, id_: int) -> str:
    return f"COCO_train2014_{id_:012d}.jpg" if dataset == "coco" else f"VG_100K/{id_}.jpg"


def write_mdetr_json(path: Path, rng: Random, images: list[tuple[str, int]], captions: int) -> Path:
    """Writes captions of random images, each with `BOXES` annotations."""
    with path.open("w") as file:
        file.write('{"info": [], "licenses": [], "images": [')
        for number in range(captions):
            dataset, id_ = rng.choice(images)
            record = {
                "file_name": _file_name(dataset, id_).rpartition("/")[2],
                "height": 480,
                "width": 640,
                "id": number,
                "original_id": id_,
                "caption": _caption(rng),
                "tokens_negative": [[0, 20], [21, 60]],
                "data_source": dataset,
                "dataset_name": "mixed",
            }
            file.write(", " * (number > 0) + json.dumps(record))
        file.write('], "annotations": [')
        for number in range(captions * BOXES):
            file.write(
                ", "
                * (number > 0)
                + f'{{"area": 27342.5, "iscrowd": 0, "image_id": {number // BOXES}, '
                f'"category_id": 1, "id": {number}, "bbox": [105.0, 342.25, 217.0, 126.5], '
                '"tokens_positive": [[14, 18]]}'
            )
        file.write('], "categories": []}')
    return path


def write_odvg(path: Path, rng: Random, images: list[tuple[str, int]], captions: int) -> Path:
    """Writes captions of random images, each with `BOXES` regions."""
    region = {"bbox": [105.0, 342.25, 322.0, 468.75], "phrase": "the dog"}
    regions = [region | {"tokens_positive": [[i, i + 7]]} for i in range(BOXES)]
    with path.open("w") as file:
        for _ in range(captions):
            record = {
                "filename": _file_name(*rng.choice(images)),
                "height": 480,
                "width": 640,
                "grounding": {"caption": _caption(rng), "regions": regions},
            }
            file.write(json.dumps(record) + "\n")
    return path


if __name__ == "__main__":
    main()
