r"""Times training steps on a GPU, beside those of the published code, and shows where time goes.

    PYTHONPATH=. python benchmarks/gpu.py OUTPUT --clone CLONE --tokenizer TOKENIZER

A machine without a network installs what is needed from a folder of wheels, made by ``pip wheel``:

    python -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install --no-index --find-links FOLDER \
        "grounded-text[train]" timm torchvision

Writes OUTPUT/gpu.json and OUTPUT/gpu.md: steps of both codes in turn by precision and batch, with
samples per second, peak memory and, on known GPUs, the MFU; the operators of a step by their time;
and the loader by itself. Steps are those of `mdetr train` on one rank, from a batch in memory of
the host to new weights and averages; the published ones are those of its engine. Weights, images
and captions are random. CLONE is https://github.com/ashkamath/mdetr, TOKENIZER a folder of
RoBERTa's tokenizer; without them, only this code runs. What does not fit into ``--minutes`` is
listed as not run.
"""

import argparse
import contextlib
import copy
import gc
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.criterion import random_labels
from mdetr_model.data.samples import Batch
from mdetr_model.distributed import DistributedContext
from mdetr_model.precision import Precision, autocast, tf32
from mdetr_model.training.config import load_config
from mdetr_model.training.trainer import Trainer, peak_memory
from schemas import Caption, Provenance, Region, Sample
from schemas.toml_config import Override
from shards.atomic import atomic_write
from tests.shard_sets import write_samples

TOKENS, BOXES = 40, 10
WARMUP_STEPS, STEPS, STEP_SECONDS = 3, 10, 6.0
PROFILED_STEPS, LISTED_OPERATORS = 3, 15
# Of the shard set that the loader reads, and how many of its batches are timed.
IMAGES, LOADED_BATCHES = 32, 40
PREFETCHED_BATCHES = 2  # of each worker: the default of torch
CAPTION = "a red bus behind the tall tree and a small white dog"
OURS, PUBLISHED = "here", "published"

Step = Callable[[], None]


class Timing(NamedTuple):
    """One measurement; ``error`` states why there is none."""

    code: str
    precision: str
    batch: int
    milliseconds: float | None = None
    samples_per_second: float | None = None
    memory_gigabytes: float | None = None
    mfu: float | None = None
    error: str = ""


# --- steps ----------------------------------------------------------------------------------------


def random_batch(trainer: Trainer, size: int, height: int, width: int) -> Batch:
    """Returns a batch of random images without padding, in the memory of the host."""
    words = torch.randint(3, trainer.model.config.text_config.vocab_size, (size, TOKENS))
    pixels = torch.randint(0, 256, (size, 3, height, width), dtype=torch.uint8)
    batch = Batch(
        pixels=pixels.contiguous(memory_format=torch.channels_last),
        pixel_mask=torch.ones(size, height, width, dtype=torch.bool),
        image_index=torch.arange(size),
        input_ids=words,
        attention_mask=torch.ones_like(words),
        labels=random_labels(size, BOXES),
        answers={},
        keys=[str(item) for item in range(size)],
        caption_indices=[0] * size,
        questions=[None] * size,
        ground_truths=[None] * size,
        dropped_spans=0,
        unknown_answers=0,
        padding=0.0,
        caption_padding=0.0,
    )
    return batch.pin_memory() if trainer.context.device.type == "cuda" else batch


def our_step(trainer: Trainer, batch: Batch) -> Step:
    """Returns a step as ``mdetr train`` takes it, which reads the values of the step before."""
    taken = [trainer.start_step([batch])]

    def step() -> None:
        taken.append(trainer.start_step([batch]))
        trainer.read_step(taken.pop(0))

    return step


def published_step(
    models: tuple[Any, Any, dict[str, float]],
    precision: Precision,
    device: torch.device,
    size: tuple[int, int, int],
) -> Step:
    """Returns a step as the published engine takes it; in 16 bits under autocast."""
    from util.misc import NestedTensor  # of the clone, as the next
    from util.optim import update_ema

    from benchmarks.published_step import random_targets

    model, criterion, weights = models
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-5)
    batch, height, width = size
    pixels = torch.randn(batch, 3, height, width)
    mask = torch.zeros(batch, height, width, dtype=torch.bool)
    targets, tokens = random_targets(batch)
    captions = ["the" + " man" * (TOKENS - 3)] * batch

    def step() -> None:
        samples = NestedTensor(pixels, mask).to(device)
        moved = [
            {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in each.items()}
            for each in targets
        ]
        with autocast(precision, device):
            memory = model(samples, captions, encode_and_save=True)
            outputs = model(samples, captions, encode_and_save=False, memory_cache=memory)
        outputs = in_float32(outputs)
        losses = criterion(outputs, moved, tokens.to(device))
        loss = sum(losses[name] * weight for name, weight in weights.items() if name in losses)
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        update_ema(model, average, 0.9998)

    return step


def in_float32(outputs: Any) -> Any:
    """Returns nested outputs with 16-bit tensors in float32, as losses need them."""
    match outputs:
        case torch.Tensor() if outputs.dtype in (torch.bfloat16, torch.float16):
            return outputs.float()
        case dict():
            return type(outputs)({name: in_float32(value) for name, value in outputs.items()})
        case list():
            return [in_float32(value) for value in outputs]
    return outputs


# --- measurements ---------------------------------------------------------------------------------


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(step: Step, device: torch.device, steps: int) -> float:
    """Returns the time of a step after a warm-up: the mean or the median, whichever is longer.

    It is of fewer steps if they are slow.

    Steps follow each other as in training: the times are those at which the host has started one,
    which it cannot do before the GPU has finished the one before.
    """
    for _ in range(WARMUP_STEPS):
        step()
    synchronize(device)
    times = [time.perf_counter()]
    while len(times) <= steps and times[-1] - times[0] < STEP_SECONDS:
        step()
        times.append(time.perf_counter())
    synchronize(device)
    whole = 1000 * (time.perf_counter() - times[0]) / (len(times) - 1)
    return max(whole, statistics.median(1000 * np.diff(times)))


def measure(
    timing: Timing, make_step: Callable[[], Step], device: torch.device, end: float
) -> Timing:
    """Returns a timing with its figures, or with the reason why there are none; prints it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        if time.monotonic() > end:
            raise TimeoutError("not run: out of time")
        time_of_step = milliseconds(make_step(), device, STEPS)
        timing = timing._replace(
            milliseconds=time_of_step,
            samples_per_second=1000 * timing.batch / time_of_step,
            memory_gigabytes=peak_memory(device),
        )
    except (torch.OutOfMemoryError, TimeoutError) as error:
        timing = timing._replace(error=str(error).splitlines()[0])
    except (RuntimeError, TypeError, AssertionError) as error:
        if timing.code == OURS:
            raise
        # The published code was not written for autocast.
        timing = timing._replace(error=f"{type(error).__name__}: {error}".splitlines()[0])
    print(row(timing), flush=True)
    return timing


def operators(step: Step, device: torch.device) -> dict[str, Any]:
    """Returns the operators of a step by their own time, in milliseconds, and how busy a GPU is."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    step()
    synchronize(device)
    begin = time.perf_counter()
    with profile(activities=activities) as profiler:
        for _ in range(PROFILED_STEPS):
            step()
        synchronize(device)
    wall = 1000 * (time.perf_counter() - begin) / PROFILED_STEPS
    averages = profiler.key_averages()
    kind = "device" if device.type == "cuda" else "cpu"
    if kind == "device":
        # Kernels alone: rows of operators have the time of their kernels a second time.
        averages = [
            row
            for row in averages
            if row.device_type == DeviceType.CUDA and not row.is_user_annotation
        ]
    rows = [
        (row.key, getattr(row, f"self_{kind}_time_total") / 1000 / PROFILED_STEPS, row.count)
        for row in averages
    ]
    rows.sort(key=lambda row: -row[1])
    return {
        "milliseconds_with_profiler": wall,
        "busy": sum(row[1] for row in rows) / wall,
        "operators": [
            {"name": name, "milliseconds": ms, "calls": count / PROFILED_STEPS}
            for name, ms, count in rows[:LISTED_OPERATORS]
        ],
    }


def loader_rate(trainer: Trainer) -> float:
    """Returns the samples per second that the loader yields by itself, in its steady state.

    The first batches are left out: workers prepare them while the first of all is awaited.
    """
    batches = iter(trainer.loader)
    for _ in range(untimed_batches(trainer.config.data.workers)):
        next(batches)
    begin = time.perf_counter()
    timed = sum(1 for _ in batches)
    seconds = time.perf_counter() - begin
    return timed * trainer.config.optimizer.global_batch_size / seconds


def untimed_batches(workers: int) -> int:
    """Returns how many batches a loader has prepared when it yields the first, and that one."""
    return 1 + workers * PREFETCHED_BATCHES


# --- a trainer with random data -------------------------------------------------------------------


def write_random_shards(folder: Path, height: int, width: int, pairs: int) -> None:
    """Writes a shard set of smooth random images, with the size of a photograph's file.

    It has at least so many pairs of an image and a caption.
    """
    captions_per_image = -(-pairs // IMAGES)
    random = np.random.default_rng(0)
    text = CAPTION
    samples = []
    for number in range(IMAGES):
        low = random.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
        content = io.BytesIO()
        Image.fromarray(low).resize((width, height), Image.Resampling.BICUBIC).save(content, "JPEG")
        captions = [
            Caption(
                text,
                [Region([(2, 9)], (1.0, 1.0, width / 2, height / 2), 1.0)],
                [],
                [Provenance("synthetic", f"{number}-{copy}", (0, len(text)))],
            )
            for copy in range(captions_per_image)
        ]
        key = f"synthetic/{number}"
        sample = Sample(key, width, height, f"{number}.jpg", captions)
        samples.append((sample, content.getvalue()))
    write_samples(folder, [samples], "train")


@contextlib.contextmanager
def trainers(arguments: argparse.Namespace) -> Iterator[Callable[[Precision], Trainer]]:
    """Yields a function that makes the trainer of a precision."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        batches = untimed_batches(load_config(arguments.config).data.workers) + LOADED_BATCHES
        pairs = batches * max(arguments.batches)
        write_random_shards(folder / "shards", arguments.height, arguments.width, pairs)

        def trainer(precision: Precision) -> Trainer:
            init: dict[str, Any] = {"config": {"token_targets": "binary"}, "vocab_size": 300}
            if arguments.tokenizer is not None:
                init = {"config": init["config"], "tokenizer": str(arguments.tokenizer)}
            overrides = [
                Override(("data", "validation"), []),
                Override(("optimizer", "precision"), precision),
                Override(("optimizer", "global_batch_size"), max(arguments.batches)),
                Override(("optimizer", "micro_batch_size"), max(arguments.batches)),
            ]
            if arguments.config == "pretrain_r101":
                overrides.append(Override(("init",), init))
            config = load_config(arguments.config, overrides).resolve_paths(folder)
            return Trainer(config, folder / precision, DistributedContext(0, 1, device))

        yield trainer


# --- the whole ------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns all measurements."""
    end = time.monotonic() + 60 * arguments.minutes
    timings: list[Timing] = []
    details: dict[str, Any] = {}
    loader: dict[str, Any] = {}
    with trainers(arguments) as make_trainer:
        for precision in arguments.precisions:
            with tf32(precision):
                trainer = make_trainer(precision)
                timings += our_timings(trainer, arguments, end)
                if time.monotonic() < end:
                    details[precision] = details_of(trainer, arguments)
                if not loader and time.monotonic() < end:
                    workers = trainer.config.data.workers
                    loader = {"workers": workers, "samples_per_second": loader_rate(trainer)}
                # Of two models in memory, the peak would be that of both.
                del trainer
                gc.collect()
                if arguments.clone is not None:
                    timings += published_timings(precision, arguments, end)
                    gc.collect()
    place = [(each, size) for each in arguments.precisions for size in arguments.batches]
    timings.sort(key=lambda timing: place.index((timing.precision, timing.batch)))
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "image": [arguments.height, arguments.width],
        "timings": [timing._asdict() for timing in timings],
        "loader": loader,
        "steps": details,
    }


def our_timings(trainer: Trainer, arguments: argparse.Namespace, end: float) -> list[Timing]:
    """Returns the measurements of this code in a precision."""
    precision, device = trainer.config.optimizer.precision, trainer.context.device
    timings = []
    for size in arguments.batches:
        batch = random_batch(trainer, size, arguments.height, arguments.width)
        timing = Timing(OURS, precision, size)
        timing = measure(timing, partial(our_step, trainer, batch), device, end)
        timings.append(timing._replace(mfu=mfu(trainer, batch, timing)))
    return timings


def published_timings(
    precision: Precision, arguments: argparse.Namespace, end: float
) -> list[Timing]:
    """Returns the measurements of the published code in a precision."""
    from benchmarks.published_step import published  # needs torchvision

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    models = published(arguments.clone, arguments.tokenizer, str(device))
    timings = []
    for size in arguments.batches:
        shape = (size, arguments.height, arguments.width)
        make_step = partial(published_step, models, precision, device, shape)
        timings.append(measure(Timing(PUBLISHED, precision, size), make_step, device, end))
    return timings


def details_of(trainer: Trainer, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns where the time of a step goes, for the second batch size."""
    size = arguments.batches[:2][-1]
    batch = random_batch(trainer, size, arguments.height, arguments.width)
    return {"batch": size, **operators(our_step(trainer, batch), trainer.context.device)}


def mfu(trainer: Trainer, batch: Batch, timing: Timing) -> float | None:
    """Returns the share of the GPU's peak rate that the model's own operations reach."""
    if trainer.peak_flops is None or trainer.flops is None or timing.milliseconds is None:
        return None
    return trainer.flops(batch) / (timing.milliseconds / 1000) / trainer.peak_flops


def row(timing: Timing) -> str:
    """Returns a measurement as a row of a Markdown table."""
    columns = [timing.precision, str(timing.batch), timing.code]
    if timing.error:
        columns += [timing.error, "", "", ""]
    else:
        columns += [
            f"{timing.milliseconds:.0f}",
            f"{timing.samples_per_second:.1f}",
            f"{timing.memory_gigabytes:.1f}",
            "" if timing.mfu is None else f"{timing.mfu:.0%}",
        ]
    return f"| {' | '.join(columns)} |"


def table(results: dict[str, Any]) -> str:
    """Returns the measurements as Markdown."""
    height, width = results["image"]
    lines = [
        f"{results['device']}, torch {results['torch']}, images of {width} x {height}, {TOKENS} "
        f"tokens, {BOXES} boxes:",
        "",
        "| precision | batch | code | ms a step | samples/s | GB | MFU |",
        "|---|---|---|---|---|---|---|",
        *(row(Timing(**timing)) for timing in results["timings"]),
    ]
    if loader := results["loader"]:
        rate = f"{loader['samples_per_second']:.1f} samples/s"
        lines += ["", f"Loader, {loader['workers']} workers: {rate}."]
    for precision, step in results["steps"].items():
        lines += [
            "",
            f"A step here in {precision}, batch {step['batch']}: operators take {step['busy']:.0%} "
            "of the time.",
            "",
            "| operator | ms a step | calls |",
            "|---|---|---|",
            *(
                f"| {each['name'].replace('|', ' ')[:80]} | {each['milliseconds']:.2f} | "
                f"{each['calls']:.0f} |"
                for each in step["operators"]
            ),
        ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--clone", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--config", default="pretrain_r101")
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1066)
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--precisions", nargs="+", default=["tf32", "bfloat16", "float32"])
    parser.add_argument("--minutes", type=float, default=7.0)
    arguments = parser.parse_args(argv)
    torch.manual_seed(0)
    results = run(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for file_name, text in (
        ("gpu.json", json.dumps(results, indent=1)),
        ("gpu.md", table(results)),
    ):
        with atomic_write(arguments.output / file_name) as file:
            file.write(text.encode())
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
