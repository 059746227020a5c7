"""Measures speed and memory of builds, compared with the published scripts.

    python benchmarks/build.py golden            # the reference raw files, end to end
    python benchmarks/build.py flickr30k         # Flickr30k Entities, the real excerpt repeated
    python benchmarks/build.py combine           # combining alone, per CPU second
    python benchmarks/build.py vg                # Visual Genome with parsing
    python benchmarks/build.py coloring          # captions and fill of both colorings
    python benchmarks/build.py synthetic RAW     # what `mdetr-synthetic` wrote
    python benchmarks/build.py mdetr_json FOLDER # what `mdetr-shards export mdetr-json` wrote

``golden``, ``flickr30k``, ``combine``, ``vg`` and ``coloring`` read ``MDETR_REFERENCE`` (default
``../shared``). Times are medians of ``--runs``; peak memory is the sum of the resident sizes of all
processes, of which pages that processes share are counted in each. ``--before CLONE`` builds
``golden``, ``flickr30k`` and ``synthetic`` in another clone of the repository as well, in turn.
"""

import argparse
import ctypes
import itertools
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
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


FLICKR30K = """
name = "flickr30k"
images = "none"

[splits]
train = { shards = 8 }
val = { shards = 1 }

[sources.flickr30k]
annotations = "annotations.zip"
split_files = { train = "train.txt", val = "val.txt" }

[exclude.flickr30k]
ids = ["val.txt"]
of = "flickr30k"
"""
FLICKR30K_IMAGES = 31_783

_PR_SET_CHILD_SUBREAPER = 36


class Run(msgspec.Struct):
    seconds: float
    cpu_seconds: float
    peak_gib: float
    manifest: mf.Manifest


def build(
    recipe: Path, root: Path, output: Path, *options: str, repository: Path = REPOSITORY
) -> Run:
    """Runs a build in its own processes, and samples their memory five times a second."""
    # Orphans become children of this process, so that the time of all workers is counted.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    command = [sys.executable, "-m", "pipelines.build", str(recipe)]
    command += [f"--root={root}", f"--output={output}", *options]
    cpu_before, started = _cpu_seconds_of_children(), time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    process = subprocess.Popen(command, cwd=repository, env=environment, stdout=sys.stderr)
    peak, done = [0], threading.Event()
    sampler = threading.Thread(target=_sample, args=(process.pid, peak, done))
    sampler.start()
    status = process.wait()
    seconds = time.monotonic() - started
    done.set()
    sampler.join()
    if status:
        raise SystemExit(f"the build failed with status {status}")
    cpu_seconds = _cpu_seconds_of_children() - cpu_before
    return Run(seconds, cpu_seconds, peak[0] / 2**30, mf.load(output))


def _cpu_seconds_of_children() -> float:
    """Waits for all children of this process; returns the CPU seconds of all there have been."""
    while psutil.Process().children():
        os.wait()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


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
    return _median(results)


def _median(results: list[Run]) -> Run:
    return Run(
        seconds=statistics.median(run.seconds for run in results),
        cpu_seconds=statistics.median(run.cpu_seconds for run in results),
        peak_gib=max(run.peak_gib for run in results),
        manifest=results[0].manifest,
    )


def side_by_side(
    name: str, recipe: Path, root: Path, runs: int, before: Path | None
) -> dict[str, Run]:
    """Builds in turn in another clone, if there is one, and here; returns the medians."""
    clones = {"here": REPOSITORY} if before is None else {"before": before, "after": REPOSITORY}
    results: dict[str, list[Run]] = {clone: [] for clone in clones}
    digests = set()
    for _, (clone, repository) in itertools.product(range(runs), clones.items()):
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "shards"
            run = build(recipe, root, output, "--quiet", repository=repository)
        results[clone].append(run)
        digests.add(tuple(shard.sha256 for shard in run.manifest.shards))
    if len(digests) > 1:
        raise SystemExit(f"{name}: the shards of two builds differ")
    medians_of_clones = {clone: _median(runs_of_clone) for clone, runs_of_clone in results.items()}
    for clone, median in medians_of_clones.items():
        each = " ".join(f"{run.seconds:.1f}" for run in results[clone])
        row(f"{name}, {clone}", f"{median.seconds:.1f} s", f"CPU {median.cpu_seconds:.1f} s")
        row(f"  each: {each}", f"{median.peak_gib:.2f} GiB")
    return medians_of_clones


def row(name: str, figure: str, published: str = "", ratio: str = "") -> None:
    print(f"{name:<44}{figure:>22}{published:>16}{ratio:>10}", flush=True)


def golden(raw: Path, scratch: Path, runs: int, before: Path | None) -> None:
    for rules in ("mdetr", "paper"):
        recipe = recipes.golden_mixed(scratch, rules, REFERENCE / "golden/mixed/stopwords.txt")
        results = side_by_side(f"golden mixed set, {rules}", recipe, raw, runs, before)
        for clone, run in results.items():
            ratio = f"{PUBLISHED_SECONDS / run.seconds:.0f}x"
            row(f"  {clone}, published", f"{run.seconds:.1f} s", f"{PUBLISHED_SECONDS} s", ratio)


def flickr30k(raw: Path, scratch: Path, runs: int, before: Path | None) -> None:
    root = scratch / "flickr30k"
    _repeat_flickr30k(root)
    recipe = scratch / "flickr30k.toml"
    recipe.write_text(FLICKR30K)
    [*_, run] = side_by_side("Flickr30k Entities", recipe, root, runs, before).values()
    row("  captions", f"{run.manifest.sources['flickr30k'].read:,}")


def _repeat_flickr30k(root: Path) -> None:
    """Writes the files of the excerpt again and again, as those of other images."""
    excerpt = REFERENCE / "real/flickr30k_entities"
    root.mkdir()
    ids = {name: (excerpt / f"{name}.txt").read_text().split() for name in ("train", "val")}
    images = [(name, id_) for name, of_split in ids.items() for id_ in of_split]
    written: dict[str, list[str]] = {name: [] for name in ids}
    with (
        zipfile.ZipFile(excerpt / "annotations.zip") as source,
        zipfile.ZipFile(root / "annotations.zip", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        members = {Path(name).name: name for name in source.namelist()}
        numbered = enumerate(itertools.cycle(images))
        for number, (split, id_) in itertools.islice(numbered, FLICKR30K_IMAGES):
            new = f"{100 + number // len(images)}{id_}"
            written[split].append(new)
            for folder, suffix in (("Annotations", "xml"), ("Sentences", "txt")):
                content = source.read(members[f"{id_}.{suffix}"])
                packed.writestr(f"{folder}/{new}.{suffix}", content)
    for name, of_split in written.items():
        (root / f"{name}.txt").write_text("".join(f"{new}\n" for new in of_split))


def vg(raw: Path, scratch: Path, runs: int, before: Path | None) -> None:
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


def combining(raw: Path, scratch: Path, runs: int, before: Path | None) -> None:
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


def coloring(raw: Path, scratch: Path, runs: int, before: Path | None) -> None:
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


def synthetic(root: Path, scratch: Path, runs: int, before: Path | None) -> None:
    recipe = scratch / "synthetic.toml"
    recipe.write_text(SYNTHETIC)
    results = side_by_side(f"synthetic dataset {root.name}", recipe, root, runs, before)
    [*_, run] = results.values()
    for name, counts in run.manifest.sources.items():
        row(f"{name} records", f"{counts.read:,}")
    row("  captions", f"{run.manifest.totals['train']['captions']:,}")


def mdetr_json(root: Path, scratch: Path, runs: int, before: Path | None) -> None:
    recipe = scratch / "mdetr_json.toml"
    recipe.write_text(MDETR_JSON)
    run = build(recipe, root, scratch / "shards")
    totals = run.manifest.totals["train"]
    row(f"{totals['captions']:,} captions, {totals['regions']:,} boxes", f"{run.seconds:.0f} s")
    row("  peak memory of all processes", f"{run.peak_gib:.2f} GiB")


FIGURES = {
    "golden": golden,
    "flickr30k": flickr30k,
    "combine": combining,
    "vg": vg,
    "coloring": coloring,
}
OF_FOLDERS = {"synthetic": synthetic, "mdetr_json": mdetr_json}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figure", choices=[*FIGURES, *OF_FOLDERS])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--before", type=Path, help="another clone, to be built with in turn")
    arguments = parser.parse_args()
    row("figure", "here", "published", "ratio")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if arguments.figure in OF_FOLDERS:
            figure, raw = OF_FOLDERS[arguments.figure], arguments.folder.resolve()
        else:
            figure, raw = FIGURES[arguments.figure], scratch / "raw"
            shutil.unpack_archive(REFERENCE / "golden/mixed/raw.tar.xz", raw)
        figure(raw, scratch, arguments.runs, arguments.before)


if __name__ == "__main__":
    main()
