"""Measures speed and memory of builds, compared with the published scripts.

    python benchmarks/build.py golden            # the reference raw files, end to end
    python benchmarks/build.py combine           # combining alone, per CPU second
    python benchmarks/build.py vg                # Visual Genome with parsing
    python benchmarks/build.py coloring          # captions and fill of both colorings
    python benchmarks/build.py synthetic RAW     # what `mdetr-synthetic` wrote
    python benchmarks/build.py mdetr_json FOLDER # what `mdetr-shards export mdetr-json` wrote

``golden``, ``combine``, ``vg`` and ``coloring`` read ``MDETR_REFERENCE`` (default ``../shared``).
Times are medians of ``--runs``; peak memory is the sum of the resident sizes of all processes.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil

from pipelines.captions.combine import combine
from pipelines.captions.conflicts import conflict_graph
from pipelines.captions.graph_coloring import best, first_fit
from pipelines.captions.merge import MergedImage, merge
from pipelines.captions.parsing import SpacyParser
from pipelines.captions.rules import MDETR, PAPER, CaptionRules
from pipelines.captions.stop_words import parse_stop_words
from pipelines.dedup.image_registry import ImageRegistry
from pipelines.io.slices import SliceRange, find_slices, read_slice
from pipelines.recipe import Recipe, load, with_root
from pipelines.sources.base import Context
from schemas import Caption, ImageInfo, ImageRecord
from schemas.sentences import as_sentence
from shards.format import manifest as mf
from tests.end_to_end import recipes

REPOSITORY = Path(__file__).resolve().parent.parent
REFERENCE = Path(os.environ.get("MDETR_REFERENCE", REPOSITORY.parent / "shared"))

# Measured with the published programs on these files, 2 cores: see the reference data's README.
PUBLISHED_SECONDS = 290
PUBLISHED_COMBINED = 690
PUBLISHED_REGIONS = 242

MDETR_JSON = """
name = "mdetr_json"
rules = "mdetr"
images = "none"

[splits]
train = { shards = 32, combine = false }

[sources.mdetr_json]
files.train = ["final_mixed_train.json", "final_flickr_separateGT_train.json"]
"""

SYNTHETIC = """
name = "synthetic"
images = "none"
rules = "paper"

[splits]
train = { shards = 128 }

[sources.coco]
instances = ["coco/annotations/instances_train2014.json"]

[sources.coco.refs]
refcoco = "refcoco/refcoco/refs(unc).p"
"refcoco+" = "refcoco/refcoco+/refs(unc).p"
refcocog = "refcoco/refcocog/refs(umd).p"

[sources.gqa]
questions.train = ["gqa/train_balanced_questions.json"]
scene_graphs.train = "gqa/train_sceneGraphs.json"

[sources.vg]
image_data = "vg/image_data.json"
region_graphs = "vg/region_graphs.json"

[sources.flickr30k]
annotations = "flickr30k"
split_files.train = "flickr30k/train.txt"

[exclude.refcoco]
refs = ["refcoco/refcoco/refs(unc).p"]

[exclude.gqa]
questions = ["gqa/val_balanced_questions.json", "gqa/testdev_balanced_questions.json"]

[exclude.coco_val2014]
instances = ["coco/annotations/instances_val2014.json"]
"""


class Run(msgspec.Struct):
    seconds: float
    peak_gib: float
    manifest: mf.Manifest


def build(recipe: Path, root: Path, output: Path, *options: str) -> Run:
    """Runs a build in its own processes, and samples their memory five times a second."""
    command = [sys.executable, "-m", "pipelines.build", str(recipe)]
    command += [f"--root={root}", f"--output={output}", *options]
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=sys.stderr)
    peak, done = [0], threading.Event()
    sampler = threading.Thread(target=_sample, args=(process.pid, peak, done))
    sampler.start()
    status = process.wait()
    seconds = time.monotonic() - started
    done.set()
    sampler.join()
    if status:
        raise SystemExit(f"the build failed with status {status}")
    return Run(seconds, peak[0] / 2**30, mf.load(output))


def _sample(pid: int, peak: list[int], done: threading.Event) -> None:
    while not done.wait(0.2):
        resident = 0
        try:
            parent = psutil.Process(pid)
            tree = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in tree:
            try:
                resident += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue  # a worker that ended between the two calls
        peak[0] = max(peak[0], resident)


def medians(runs: int, build_once: Callable[[Path], Run]) -> Run:
    results = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            results.append(build_once(Path(folder) / "shards"))
    seconds = statistics.median(run.seconds for run in results)
    return Run(seconds, max(run.peak_gib for run in results), results[0].manifest)


def row(name: str, figure: str, published: str = "", ratio: str = "") -> None:
    print(f"{name:<44}{figure:>22}{published:>16}{ratio:>10}", flush=True)


def golden(raw: Path, scratch: Path, runs: int) -> None:
    for rules in ("mdetr", "paper"):
        recipe = recipes.golden_mixed(scratch, rules, REFERENCE / "golden/mixed/stopwords.txt")
        run = medians(runs, lambda output, recipe=recipe: build(recipe, raw, output, "--quiet"))
        row(
            f"golden mixed set, rules {rules}, end to end",
            f"{run.seconds:.1f} s",
            f"{PUBLISHED_SECONDS} s",
            f"{PUBLISHED_SECONDS / run.seconds:.0f}x",
        )
        row("  peak memory of all processes", f"{run.peak_gib:.2f} GiB")


def vg(raw: Path, scratch: Path, runs: int) -> None:
    recipe = scratch / "vg.toml"
    recipe.write_text(
        'name = "vg"\nimages = "none"\nrules = "paper"\n[splits]\ntrain = { shards = 4 }\n'
        '[sources.vg]\nimage_data = "vg/image_data.json"\nregion_graphs = "vg/region_graphs.json"\n'
    )
    run = medians(runs, lambda output: build(recipe, raw, output, "--quiet"))
    rate = run.manifest.sources["vg"].read / run.seconds
    row(
        "Visual Genome with parsing, end to end",
        f"{rate:,.0f} regions/s",
        f"{PUBLISHED_REGIONS}/s",
        f"{rate / PUBLISHED_REGIONS:.0f}x",
    )


def images(raw: Path, scratch: Path, rules: CaptionRules) -> Iterator[list[Caption]]:
    """Yields the sentences of each image of the golden raw files, merged, to be combined."""
    name = "mdetr" if rules == MDETR else "paper"
    path = recipes.golden_mixed(scratch, name, REFERENCE / "golden/mixed/stopwords.txt")
    recipe = with_root(load(str(path)), str(raw))
    stop_words = parse_stop_words((REFERENCE / "golden/mixed/stopwords.txt").read_text())
    context = Context(recipe.rules, ("train",), SpacyParser(), stop_words)
    rows = [row for row in records(recipe, scratch, None) if isinstance(row, ImageInfo)]
    image_registry = ImageRegistry(rows, [], recipe.rules.same_photo)
    records_of_image: dict[str, list[ImageRecord]] = {}
    for record in records(recipe, scratch, context):
        if isinstance(record, ImageRecord):
            records_of_image.setdefault(image_registry.canonical(record.image), []).append(record)
    for image_records in records_of_image.values():
        for merged in merge(image_records, image_registry, recipe.rules):
            if isinstance(merged, MergedImage):
                limit = recipe.rules.max_length
                yield [c for c in merged.captions if len(as_sentence(c.text)) < limit]


def records(recipe: Recipe, scratch: Path, context: Context | None) -> Iterator[object]:
    """Yields all rows of the image tables, or with a context all records of the annotations."""
    for rank, (name, source) in enumerate(recipe.sources.items()):
        inputs = source.inputs(("train",)) if context else source.image_tables()
        for number, input in enumerate(inputs):
            for slice_range in find_slices(name, number, input, str(scratch)):
                assert isinstance(slice_range, SliceRange)
                raw_slice = read_slice(slice_range)
                if context is None:
                    yield from source.read_image_table(raw_slice)
                    continue
                for record in source.read(raw_slice, context):
                    if isinstance(record, ImageRecord):
                        record.source, record.rank = name, (rank, number, slice_range.start)
                    yield record


def combining(raw: Path, scratch: Path, runs: int) -> None:
    for name, rules in (("mdetr", MDETR), ("paper", PAPER)):
        sentences = list(images(raw, scratch, rules))
        total = sum(map(len, sentences))
        seconds = []
        for _ in range(runs):
            started = time.process_time()
            for captions in sentences:
                combine(captions, rules)
            seconds.append(time.process_time() - started)
        rate = total / statistics.median(seconds)
        row(
            f"combining alone, rules {name}",
            f"{rate:,.0f} sentences/CPU s",
            f"{PUBLISHED_COMBINED}/s",
            f"{rate / PUBLISHED_COMBINED:.0f}x",
        )


def coloring(raw: Path, scratch: Path, runs: int) -> None:
    sentences = list(images(raw, scratch, PAPER))
    for color in (first_fit, best):
        captions = characters = 0
        for image_captions in sentences:
            sizes = [len(as_sentence(c.text)) + 1 for c in image_captions]
            groups = color(sizes, conflict_graph(image_captions, PAPER), PAPER.max_length)
            captions += len(groups)
            characters += sum(sizes) - len(groups)
        fill = characters / (PAPER.max_length * captions)
        row(f"captions, {color.__name__}", f"{captions:,} fill {fill:.2%}")


def synthetic(root: Path, scratch: Path) -> None:
    recipe = scratch / "synthetic.toml"
    recipe.write_text(SYNTHETIC)
    run = build(recipe, root, scratch / "shards")
    for name, counts in run.manifest.sources.items():
        row(f"{name} records", f"{counts.read:,}")
    row(f"synthetic dataset {root.name}, end to end", f"{run.seconds:.0f} s")
    row("  peak memory of all processes", f"{run.peak_gib:.2f} GiB")
    row("  captions", f"{run.manifest.totals['train']['captions']:,}")


def mdetr_json(root: Path, scratch: Path) -> None:
    recipe = scratch / "mdetr_json.toml"
    recipe.write_text(MDETR_JSON)
    run = build(recipe, root, scratch / "shards")
    totals = run.manifest.totals["train"]
    row(f"{totals['captions']:,} captions, {totals['regions']:,} boxes", f"{run.seconds:.0f} s")
    row("  peak memory of all processes", f"{run.peak_gib:.2f} GiB")


FIGURES = {"golden": golden, "combine": combining, "vg": vg, "coloring": coloring}
OF_FOLDERS = {"synthetic": synthetic, "mdetr_json": mdetr_json}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figure", choices=[*FIGURES, *OF_FOLDERS])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    row("figure", "here", "published", "ratio")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if arguments.figure in OF_FOLDERS:
            OF_FOLDERS[arguments.figure](arguments.folder.resolve(), scratch)
            return
        shutil.unpack_archive(REFERENCE / "golden/mixed/raw.tar.xz", scratch / "raw")
        FIGURES[arguments.figure](scratch / "raw", scratch, arguments.runs)


if __name__ == "__main__":
    main()
