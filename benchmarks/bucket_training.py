"""Measures how long training waits for shards in a bucket, and the download speed.

    python benchmarks/bucket_training.py wait SHARDS    # a shard set (python -m pipelines.build)
    python benchmarks/bucket_training.py fetch

The bucket is served by moto on the loopback interface, with an artificial latency per request.
``wait`` trains the model of ``demo`` from a local folder and from buckets, with a cache that is
initially empty and smaller than the set. ``fetch`` downloads one shard in parallel ranges and, for
comparison, in sequential blocks.
"""

import argparse
import hashlib
import io
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from mdetr_model.training.tokenizer import train_tokenizer
from mdetr_model.training.training_log import read_log
from shards.format.manifest import FileEntry
from shards.reading.reader import ShardReader
from shards.reading.remote import RemoteFolder, Retries
from shards.reading.shard_set import ShardSet
from tests.s3_server import requests, serve_s3

REPOSITORY = Path(__file__).parents[1]
DEMO = REPOSITORY / "mdetr_model/configs/demo.toml"
WARM_UP = 10  # first steps, which are not measured
BATCH = 16  # of the demo
BLOCK = 4 << 20


@contextmanager
def bucket(milliseconds: int, log: Path) -> Iterator[fsspec.AbstractFileSystem]:
    """Starts an S3 server for this process and its children; yields its file system."""
    with serve_s3(delay=milliseconds / 1e3, log=log) as environment:
        os.environ.update(environment)
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # of the last one
        system = fsspec.filesystem("s3")
        system.mkdir("bucket")
        yield system


# --- waiting --------------------------------------------------------------------------------------


def wait(shards: Path, steps: int, workers: int, share: float, delays: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        samples = ShardReader(ShardSet.open(shards)).samples("train")
        captions = [caption.text for stored in samples for caption in stored.sample.captions]
        train_tokenizer(captions, 800).save_pretrained(work / "tokenizer")
        size = sum(entry.bytes for entry in ShardSet.open(shards).shards)
        print(f"{size / 1e6:.0f} MB; steps {WARM_UP + 1} to {steps}; a cache of {share:.0%} of it")

        config = work / "config.toml"
        tokenizer = f'tokenizer = "{work / "tokenizer"}"'
        config.write_text(DEMO.read_text().replace("vocab_size = 800", tokenizer))

        def run(name: str, location: str) -> list[float]:
            options = settings(location, work / f"{name}-cache", workers, share * size / 1e9)
            return trained(config, options, work / name, steps)

        expected = run("folder", str(shards.absolute()))
        for delay in delays:
            log = work / f"{delay}.log"
            with bucket(delay, log) as system:
                system.put(str(shards), "bucket/shards", recursive=True)
                log.write_text("")
                losses = run(f"{delay} ms", "s3://bucket/shards")
                sent = [r.sent for r in requests(log) if r.path.endswith(".tar")]
            print(f"         {len(sent)} requests for {sum(sent) / 1e6:.0f} MB of tars")
            if losses != expected:
                raise SystemExit("the losses differ from those of the local folder")


def settings(location: str, cache: Path, workers: int, gigabytes: float) -> list[str]:
    """Returns the `--set` options of a run: one log line per step, blocks of two shards."""
    values = {
        "data.train": f'[{{ shards = "{location}", split = "train" }}]',
        "data.validation": "[]",
        "data.workers": workers,
        "data.block_shards": 2,
        "data.cache": f'"{cache}"',
        "data.cache_gigabytes": gigabytes,
        "logging.log_steps": 1,
    }
    return [option for key, value in values.items() for option in ("--set", f"{key}={value}")]


def trained(config: Path, options: list[str], output: Path, steps: int) -> list[float]:
    """Trains for ``steps`` steps, prints step and waiting times, and returns the losses."""
    command = [sys.executable, "-m", "mdetr_model", "train", str(config), "--output", str(output)]
    command += options
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    with (
        (output.parent / "output").open("w") as printed,
        subprocess.Popen(command, env=environment, stdout=printed, stderr=printed) as process,
    ):
        while process.poll() is None and len(read_log(output)) < steps:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
    lines = read_log(output)[:steps]
    if len(lines) < steps:
        raise SystemExit((output.parent / "output").read_text())
    took = [BATCH / line["samples_per_second"] for line in lines]
    waited = [line["data_wait"] * seconds for line, seconds in zip(lines, took, strict=True)]
    share = sum(waited[WARM_UP:]) / sum(took[WARM_UP:])
    print(
        f"{output.name:8} {statistics.fmean(took[WARM_UP:]):.3f} s per step   "
        f"{share:6.2%} wait, {max(waited[WARM_UP:]):.3f} s at most   "
        f"first batch {waited[0]:.2f} s, the next {WARM_UP - 1} {sum(waited[1:WARM_UP]):.2f} s"
    )
    return [line["loss"] for line in lines]


# --- fetching -------------------------------------------------------------------------------------


def fetch(megabytes: int, rounds: int, delays: list[int]) -> None:
    content = os.urandom(megabytes * 1_000_000)
    entry = FileEntry("shard.tar", len(content), hashlib.sha256(content).hexdigest())
    ways: dict[str, Callable[[], object]] = {
        "fetched": lambda: RemoteFolder("s3://bucket", {}, Retries()).download(entry, io.BytesIO()),
        "in blocks": lambda: in_blocks(entry),
    }
    with tempfile.TemporaryDirectory() as folder:
        for delay in delays:
            log = Path(folder) / f"{delay}.log"
            with bucket(delay, log) as system:
                system.pipe_file("bucket/shard.tar", content)
                for name, way in ways.items():
                    log.write_text("")
                    seconds = statistics.median(timed(way) for _ in range(rounds))
                    asked = len(requests(log)) / rounds
                    print(
                        f"{delay:3} ms   {name:10} {seconds:5.2f} s, "
                        f"{megabytes / seconds:4.0f} MB/s, {asked:.0f} requests"
                    )


def in_blocks(entry: FileEntry) -> None:
    system, folder = fsspec.url_to_fs("s3://bucket")
    digest, to = hashlib.sha256(), io.BytesIO()
    with system.open(f"{folder}/{entry.file}", "rb", block_size=BLOCK) as file:
        while chunk := file.read(BLOCK):
            digest.update(chunk)
            to.write(chunk)


def timed(way: Callable[[], object]) -> float:
    begin = time.perf_counter()
    way()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("wait")
    command.add_argument("shards", type=Path)
    command.add_argument("--steps", type=int, default=150)
    command.add_argument("--workers", type=int, default=1)
    command.add_argument("--share", type=float, default=0.15, help="of the set in the cache")
    other = commands.add_parser("fetch")
    other.add_argument("--megabytes", type=int, default=100)
    other.add_argument("--rounds", type=int, default=3)
    for subparser in (command, other):
        subparser.add_argument(
            "--delays", type=int, nargs="+", default=[0, 50, 100, 200], help="ms"
        )
    arguments = vars(parser.parse_args())
    globals()[arguments.pop("command")](**arguments)


if __name__ == "__main__":
    main()
