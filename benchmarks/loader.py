"""Compares reading pairs from shards with webdataset alone and with the published loader.

    python benchmarks/loader.py prepare SHARDS WORK   # from a shard set (python -m pipelines.build)
    python benchmarks/loader.py stream WORK           # CPU time of a pair before it is decoded
    python benchmarks/loader.py throughput WORK       # images per second of one core
    python benchmarks/loader.py scale WORK            # time to the first batch, memory of workers
    python benchmarks/loader.py disk WORK             # bytes per pair

``prepare`` writes the training images of SHARDS with noise, so that their files are as large as
those of photographs (about 90 kB), once as shards and once as a folder with the published JSON, and
both also with ten times as many shards and images. ``throughput`` measures the CPU time of one
process, in rounds that alternate between the loaders.
"""

import argparse
import io
import itertools
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import psutil
import torch
import webdataset
from PIL import Image
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from benchmarks import published_loader as published
from mdetr_model.data.samples import TrainingSampleBuilder
from mdetr_model.data.transforms import TrainTransform
from mdetr_model.training.tokenizer import train_tokenizer
from schemas import Sample
from schemas.sample import decode_caption
from shards.format.writer import shard_writer
from shards.reading.reader import Pair, ShardReader
from shards.reading.shard_set import ShardSet
from shards.sampling.dataset import GlobalBatchSampler, PairDataset
from shards.sampling.sample_order import PairOrder
from tests.shard_sets import write_samples

BATCH = 4
TIMES = 10  # of the larger set
SMALL_SHARDS = 32


# --- what is read ---------------------------------------------------------------------------------


def prepare(shards: Path, work: Path) -> None:
    samples = [(sample, with_noise(image)) for sample, image in read(ShardSet.open(shards))]
    captions = [caption.text for sample, _ in samples for caption in sample.captions]
    train_tokenizer(captions, 8000).save_pretrained(work / "tokenizer")
    for times in (1, TIMES):
        many = [(renamed(sample, i), image) for i in range(times) for sample, image in samples]
        in_shards = [many[i :: SMALL_SHARDS * times] for i in range(SMALL_SHARDS * times)]
        write_samples(work / f"shards{times}", in_shards)
        published.write(work / f"folder{times}", many)
    pairs = sum(len(sample.captions) for sample, _ in samples)
    size = statistics.mean(len(image) for _, image in samples)
    print(f"{len(samples)} images of {size / 1e3:.0f} kB, {pairs} pairs; and {TIMES} times that")


def read(shards: ShardSet) -> Iterator[tuple[Sample, bytes]]:
    """Yields the training samples of a shard set with their images."""
    reader = ShardReader(shards)
    for stored in reader.samples("train"):
        yield stored.sample, bytes(reader.image(stored.shard, stored.row).content)


def renamed(sample: Sample, copy: int) -> Sample:
    return msgspec.structs.replace(sample, key=f"{sample.key}-{copy}")


def with_noise(image: bytes) -> bytes:
    with Image.open(io.BytesIO(image)) as opened:
        pixels = np.asarray(opened.convert("RGB"), np.float32)
    noise = np.random.default_rng(0).normal(0, 10, pixels.shape)
    content = io.BytesIO()
    Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(
        content, "JPEG", quality=85
    )
    return content.getvalue()


# --- three loaders --------------------------------------------------------------------------------


def ours(
    work: Path, tokenizer: PreTrainedTokenizerBase, times: int = 1, workers: int = 0
) -> Iterator[Any]:
    shards = ShardSet.open(work / f"shards{times}")
    sampler = GlobalBatchSampler(PairOrder(shards, "train", seed=0), BATCH)
    builder = TrainingSampleBuilder(tokenizer, TrainTransform())
    loader = DataLoader(
        PairDataset([shards], builder, seed=0),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=builder.collate,
    )
    return iter(loader)


def plain_webdataset(
    work: Path, tokenizer: PreTrainedTokenizerBase, times: int = 1, workers: int = 0
) -> Iterator[Any]:
    builder, rng = TrainingSampleBuilder(tokenizer, TrainTransform()), np.random.default_rng(0)

    def pairs(samples: Iterator[dict[str, Any]]) -> Iterator[Pair]:
        for sample in samples:
            content = orjson.loads(sample["json"])
            for i in range(len(content["captions"])):
                key, caption = decode_caption(sample["json"], i)
                yield Pair(
                    key=key,
                    caption_index=i,
                    width=content["width"],
                    height=content["height"],
                    image=sample["jpg"],
                    caption=caption,
                )

    urls = sorted(str(path) for path in (work / f"shards{times}").glob("*.tar"))
    dataset = (
        webdataset.WebDataset(urls, shardshuffle=100, seed=0, empty_check=False)
        .compose(pairs)
        .shuffle(1000, rng=random.Random(0))
        .map(lambda pair: builder(pair, rng))
        .batched(BATCH, collation_fn=builder.collate)
    )
    return iter(webdataset.WebLoader(dataset, batch_size=None, num_workers=workers))


def published_way(
    work: Path, tokenizer: PreTrainedTokenizerBase, times: int = 1, workers: int = 0
) -> Iterator[Any]:
    dataset = published.PublishedDataset(work / f"folder{times}", tokenizer)
    loader = DataLoader(
        dataset,
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        collate_fn=published.collate,
        drop_last=True,
    )
    return iter(loader)


WAYS: dict[str, Callable[..., Iterator[Any]]] = {
    "this stream": ours,
    "webdataset, same transforms": plain_webdataset,
    "published loader": published_way,
}


def throughput(work: Path, rounds: int, batches: int) -> None:
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
    running = {name: way(work, tokenizer) for name, way in WAYS.items()}
    for batch in running.values():
        next(batch)
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, loader in running.items():
            begin = time.process_time()
            for _ in range(batches):
                next(loader)
            rates[name].append(batches * BATCH / (time.process_time() - begin))
    slowest = rates["published loader"]
    for name, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(values, slowest, strict=True))
        print(f"{name:30} {statistics.median(values):6.1f} images/s   {ratio:.2f}x published")


def stream(work: Path, rounds: int, pairs: int) -> None:
    """Measures what is spent on a pair, in any order, until its image can be decoded."""

    def as_it_is(pair: Pair, rng: np.random.Generator) -> Pair:
        return pair

    def of_this_stream() -> Iterator[Any]:
        shards = ShardSet.open(work / "shards1")
        sampler = GlobalBatchSampler(PairOrder(shards, "train", seed=0), BATCH)
        dataset = PairDataset([shards], as_it_is, seed=0)
        for epoch in itertools.count():
            sampler.set_position(epoch, 0)
            for batch in sampler:
                yield from (dataset[index] for index in batch)

    def of_webdataset() -> Iterator[Any]:
        def split(samples: Iterator[dict[str, Any]]) -> Iterator[tuple[bytes, Any]]:
            for sample in samples:
                for caption in orjson.loads(sample["json"])["captions"]:
                    yield sample["jpg"], caption

        urls = sorted(str(path) for path in (work / "shards1").glob("*.tar"))
        dataset = webdataset.WebDataset(urls, shardshuffle=100, seed=0, empty_check=False)
        return iter(dataset.compose(split).shuffle(1000, rng=random.Random(0)).repeat())

    running = {"this stream": of_this_stream(), "webdataset": of_webdataset()}
    costs: dict[str, list[float]] = {name: [] for name in running}
    for number in range(rounds + 1):
        for name, iterator in running.items():
            begin = time.process_time()
            for _ in range(pairs):
                next(iterator)
            if number:  # the first round opens shards and fills the buffer
                costs[name].append((time.process_time() - begin) / pairs)
    for name, values in costs.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{name:30} {middle * 1e6:5.1f} us of CPU ({low * 1e6:.1f} to {high * 1e6:.1f})")


def scale(work: Path) -> None:
    """Measures each loader in a separate process, because memory of one would count for all."""
    for name in WAYS:
        for times in (1, TIMES):
            command = [sys.executable, __file__, "one", str(work), name, str(times)]
            result = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"{name:30} {times:3}x   {result.stdout.strip()}")


def one(work: Path, name: str, times: int, batches: int = 60, workers: int = 2) -> None:
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
    begin, begin_cpu = time.perf_counter(), time.process_time()
    running = WAYS[name](work, tokenizer, times, workers)
    next(running)
    first, first_cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    for _ in range(batches):
        next(running)
    main = psutil.Process()
    memory = [child.memory_full_info() for child in main.children()]
    print(
        f"first batch {first:5.2f} s ({first_cpu:5.2f} s CPU of the main process)   "
        f"worker USS {statistics.mean(m.uss for m in memory) / 2**20:4.0f} MiB, "
        f"PSS {statistics.mean(m.pss for m in memory) / 2**20:4.0f} MiB   "
        f"main process USS {main.memory_full_info().uss / 2**20:4.0f} MiB"
    )


def disk(work: Path) -> None:
    """Compares tars with a sample per image, as they are, with tars with a sample per pair."""
    shards = ShardSet.open(work / "shards1")
    pairs = shards.pairs("train")
    size = sum(path.stat().st_size for path in (work / "shards1").iterdir())
    stream = io.BytesIO()
    with shard_writer(stream, "pairs.tar") as writer:
        for sample, image in read(shards):
            for number, caption in enumerate(sample.captions):
                single = msgspec.structs.replace(
                    sample, key=f"{sample.key}-{number}", captions=[caption]
                )
                writer.write(single, "jpg", image)
    print(f"a sample per image, with the index{size / pairs / 1e3:6.1f} kB per pair")
    print(f"a sample per pair                 {writer.size / pairs / 1e3:6.1f} kB per pair")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("prepare", "stream", "throughput", "scale", "disk", "one"):
        command = commands.add_parser(name)
        if name == "prepare":
            command.add_argument("shards", type=Path)
        command.add_argument("work", type=Path)
        if name in ("stream", "throughput"):
            command.add_argument("--rounds", type=int, default=9)
        if name == "stream":
            command.add_argument("--pairs", type=int, default=4000, help="a round")
        if name == "throughput":
            command.add_argument("--batches", type=int, default=10, help="a round")
        if name == "one":
            command.add_argument("name", choices=WAYS)
            command.add_argument("times", type=int)
    arguments = vars(parser.parse_args())
    globals()[arguments.pop("command")](**arguments)


if __name__ == "__main__":
    main()
