"""Measures the time of each stage of a build, and the sizes of shuffled elements.

    python benchmarks/stages.py RAW    # what `mdetr-synthetic` wrote

Seconds are summed over workers, sizes are of packed records.
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

from benchmarks.build import SYNTHETIC, records
from pipelines.beam import runners
from pipelines.beam.dofns import METRICS, Build
from pipelines.beam.pipeline import add_steps
from pipelines.dedup.eval_exclusion import read_held_out
from pipelines.dedup.image_registry import ImageRegistry
from pipelines.io.beam_files import scratch_folder
from pipelines.io.slices import SliceRange, find_slices, read_slice
from pipelines.recipe import Recipe, load, with_root
from schemas import EvalImage, ImageInfo
from schemas.toml_config import parse_override
from shards.format import manifest as mf

TWO_WORKERS = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


def row(name: str, *figures: str) -> None:
    print(f"{name:<44}" + "".join(f"{figure:>14}" for figure in figures), flush=True)


def build(recipe: Recipe, as_written: Recipe, output: Path) -> None:
    """Builds the set, and prints the metrics of its stages."""
    largest = {"launcher": 0, "a worker": 0}
    done = threading.Event()
    sampler = threading.Thread(target=_sample, args=(largest, done))
    sampler.start()
    started = time.monotonic()
    pipeline = runners.create_pipeline(runners.select_runner(TWO_WORKERS))
    shuffle = str(output.with_name("shuffle"))
    add_steps(pipeline, Build(recipe, as_written, str(output), shuffle=shuffle))
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
    row("total, two workers", f"{seconds:,.0f}")
    row("elements", "number", "MB", "largest, MB")
    for distribution in query["distributions"]:
        size = distribution.committed
        name = distribution.key.metric.name.removesuffix(": bytes")
        step = distribution.key.step.partition("/")[0]
        megabytes = f"{size.sum / 1e6:,.1f}", f"{size.max / 1e6:,.3f}"
        row(f"{name}, {step}", f"{size.count:,}", *megabytes)
    for name, size in largest.items():
        row(f"peak memory, {name}", f"{size / 2**30:.2f} GiB")
    for name, counts in mf.load(output).sources.items():
        row(f"records of {name}", f"{counts.read:,}")
    index_bytes = sum(entry.index.bytes for entry in mf.load(output).shards)
    row("indexes of all shards", f"{index_bytes / 1e6:,.1f} MB")


def _sample(largest: dict[str, int], done: threading.Event) -> None:
    """Samples the peak memory of each kind of process, without mapped raw files."""
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
    """Returns the rows of all image tables, and of all evaluation sets."""
    images = [image for image in records(recipe, scratch, None) if isinstance(image, ImageInfo)]
    held_out: list[EvalImage] = []
    for name, exclusion in recipe.exclude.items():
        for rank, input in enumerate(exclusion.inputs()):
            for slice_range in find_slices(name, rank, input, str(scratch)):
                assert isinstance(slice_range, SliceRange)
                held_out += read_held_out(name, exclusion.dataset, read_slice(slice_range))
    return images, held_out


def image_registry(recipe: Recipe, scratch: Path) -> None:
    """Prints time and memory of the image registry, which every worker holds."""
    images, held_out = tables(recipe, scratch)
    row("image registry: images, held out", f"{len(images):,}", f"{len(held_out):,}")
    started = time.monotonic()
    ImageRegistry(images, held_out, recipe.rules.same_photo)
    seconds = time.monotonic() - started
    del images, held_out
    tracemalloc.start()  # slows it down, so it is built again
    registry = ImageRegistry(*tables(recipe, scratch), recipe.rules.same_photo)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del registry
    row("  joined, held by every worker", f"{seconds:.1f} s", f"{held / 2**20:,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("raw", type=Path)
    parser.add_argument("--shards", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        (scratch / "synthetic.toml").write_text(SYNTHETIC)
        overrides = [parse_override(f"splits.train.shards={arguments.shards}")]
        as_written = load(str(scratch / "synthetic.toml"), overrides=overrides)
        recipe = with_root(as_written, str(arguments.raw.resolve()))
        output = scratch / "shards"
        Path(scratch_folder(str(output))).mkdir(parents=True)
        # Beam's workers log many lines at the end of a run.
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        # In its own process, whose memory is measured.
        process = multiprocessing.get_context("spawn").Process(
            target=image_registry, args=(recipe, scratch)
        )
        process.start()
        process.join()
        build(recipe, as_written, output)


if __name__ == "__main__":
    main()
