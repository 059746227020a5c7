"""What each stage of a build costs, and the largest objects that it moves.

    python benchmarks/stages.py WORLD    # a generated world: python -m pipelines.synthetic

Seconds are those of all workers together, sizes those of packed records.
"""

import argparse
import gc
import multiprocessing
import os
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import psutil
from apache_beam.metrics import MetricsFilter

from benchmarks.build import WORLD, records
from pipelines.beam import runners
from pipelines.beam.dofns import METRICS, Build
from pipelines.beam.pipeline import add_steps
from pipelines.dedup.eval_exclusion import read_held_out
from pipelines.dedup.image_registry import ImageRegistry
from pipelines.io.slices import SliceRange, find_slices, read_slice
from pipelines.recipe import Recipe, load, with_root
from schemas import EvalImage, ImageInfo
from shards.format import manifest as mf

TWO_WORKERS = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


def row(name: str, *figures: str) -> None:
    print(f"{name:<44}" + "".join(f"{figure:>14}" for figure in figures), flush=True)


def build(recipe: Recipe, as_written: Recipe, output: Path) -> None:
    """Builds the set, and prints what its stages tell as metrics."""
    largest = {"launcher": 0, "a worker": 0}
    done = threading.Event()
    sampler = threading.Thread(target=_sample, args=(largest, done))
    sampler.start()
    started = time.monotonic()
    pipeline = runners.create_pipeline(runners.select_runner(TWO_WORKERS))
    add_steps(pipeline, Build(recipe, as_written, str(output)))
    result = pipeline.run()
    result.wait_until_finish()
    seconds = time.monotonic() - started
    done.set()
    sampler.join()
    query = result.metrics().query(MetricsFilter().with_namespace(METRICS))
    stages: Counter[str] = Counter()
    for counter in query["counters"]:
        name, _, unit = counter.key.metric.name.partition(": ")
        if unit == "worker ms":
            stages[name] += counter.committed
    row("stage", "worker s")
    for name, milliseconds in stages.most_common():
        row(name, f"{milliseconds / 1000:,.1f}")
    row("in all, of two workers", f"{seconds:,.0f}")
    row("moved", "number", "MB", "largest, MB")
    for found in query["distributions"]:
        of = found.committed
        name = found.key.metric.name.removesuffix(": bytes")
        step = found.key.step.partition("/")[0]
        row(f"{name}, {step}", f"{of.count:,}", f"{of.sum / 1e6:,.1f}", f"{of.max / 1e6:,.3f}")
    for name, size in largest.items():
        row(f"peak memory, {name}", f"{size / 2**30:.2f} GiB")
    made = mf.load(output)
    for name, of in made.sources.items():
        row(f"records of {name}", f"{of['read']:,}")
    row("index.parquet", f"{(output / 'index.parquet').stat().st_size / 1e6:,.1f} MB")


def _sample(largest: dict[str, int], done: threading.Event) -> None:
    """The most memory of each kind of process, without what it has mapped of raw files."""
    launcher = psutil.Process()
    while not done.wait(0.2):
        processes = [("launcher", launcher)]
        processes += [("a worker", child) for child in launcher.children(recursive=True)]
        for name, process in processes:
            try:
                memory = process.memory_info()
            except psutil.NoSuchProcess:
                continue  # a worker that ended between the two calls
            largest[name] = max(largest[name], memory.rss - memory.shared)


def tables(recipe: Recipe, scratch: Path) -> tuple[list[ImageInfo], list[EvalImage]]:
    """The rows of all tables of images, and of all evaluation sets."""
    found = records(recipe, scratch, None)
    images = [image for image in found if isinstance(image, ImageInfo)]
    held_out: list[EvalImage] = []
    for name, exclusion in recipe.exclude.items():
        for rank, input in enumerate(exclusion.inputs()):
            for slice_range in find_slices(name, rank, input, str(scratch)):
                assert isinstance(slice_range, SliceRange)
                held_out += read_held_out(name, exclusion.dataset, read_slice(slice_range))
    return images, held_out


def image_registry(recipe: Recipe, scratch: Path) -> None:
    """What every worker holds: the tables of images, joined."""
    images, held_out = tables(recipe, scratch)
    row("catalogue: images, held out", f"{len(images):,}", f"{len(held_out):,}")
    started = time.monotonic()
    ImageRegistry(images, held_out, recipe.rules.same_photo)
    seconds = time.monotonic() - started
    del images, held_out
    tracemalloc.start()  # makes it slow, so it is done again
    kept = ImageRegistry(*tables(recipe, scratch), recipe.rules.same_photo)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    row("  joined, held by every worker", f"{seconds:.1f} s", f"{held / 2**20:,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", type=Path)
    parser.add_argument("--shards", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        recipe_text = WORLD.replace("shards = 128", f"shards = {arguments.shards}")
        (scratch / "world.toml").write_text(recipe_text)
        as_written = load(str(scratch / "world.toml"))
        recipe = with_root(as_written, str(arguments.synthetic.resolve()))
        output = scratch / "shards"
        (output / ".scratch").mkdir(parents=True)
        # Beam's workers say a great deal at the end of a run.
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        # In a process of its own: its memory is measured.
        alone = multiprocessing.get_context("spawn").Process(
            target=image_registry, args=(recipe, scratch)
        )
        alone.start()
        alone.join()
        build(recipe, as_written, output)


if __name__ == "__main__":
    main()
