"""Compares this stream with other loaders on the same images and captions.

    python benchmarks/peers.py prepare SHARDS WORK      # from a shard set, such as that of `demo`
    python benchmarks/peers.py figures WORK             # five rounds, to WORK/results.jsonl
    python benchmarks/peers.py layouts WORK             # what a restart repeats and loses
    python benchmarks/peers.py table WORK               # the medians

``prepare`` writes the training images of SHARDS with noise, so that their files are as large as
those of photographs, in the format of each loader (`benchmarks/peer_loaders.py`). A loader whose
library conflicts with the others' is run by WORK/environments/MODULE/bin/python, if that exists;
one that cannot be imported is named with the error.

A round has each loader in turn, in a new process:

* the first batch, after imports, with two workers and decoded images;
* images per second with two, one and no workers, the CPU time of an image in all processes, and
  the memory of each of two workers;
* CPU time of a pair that is not decoded, in a process without workers;
* the first batch after a restart at half an epoch, with two workers.

Then ranks, which are processes, read half an epoch, stop, and start again in other layouts of ranks
and workers. Pairs that come twice in an epoch, or not at all, are counted.
"""

import argparse
import itertools
import json
import os
import pickle
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec
import psutil
import torch
from transformers import AutoTokenizer

from benchmarks.loader import read as training_samples
from benchmarks.loader import with_noise
from benchmarks.peer_loaders import (
    LOADERS,
    Decode,
    Layout,
    Loader,
    Sources,
    Transform,
    identify,
    undecoded,
)
from mdetr_model.training.tokenizer import train_tokenizer
from schemas import Sample
from shards.reading.shard_set import ShardSet
from tests.shard_sets import write_samples

BATCH = 4
GLOBAL_BATCH = 32  # of the layouts
SHARDS = 32
WARM_UP, BATCHES = 5, 30  # of decoded images
RESULTS = "results.jsonl"

#: Ranks and workers of each, before and after the restart.
LAYOUTS = {
    "the same": ((2, 2), (2, 2)),
    "2 to 3 workers": ((2, 2), (2, 3)),
    "2 to 4 ranks": ((2, 2), (4, 1)),
    "2 ranks to 1": ((2, 2), (1, 4)),
}


# --- what is read ---------------------------------------------------------------------------------


def prepare(shards: Path, work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    samples = [
        (sample, with_noise(image)) for sample, image in training_samples(ShardSet.open(shards))
    ]
    surplus = sum(len(sample.captions) for sample, _ in samples) % (2 * GLOBAL_BATCH)
    samples = list(without_captions(samples, surplus))
    captions = [caption.text for sample, _ in samples for caption in sample.captions]
    train_tokenizer(captions, 8000).save_pretrained(work / "tokenizer")
    sources = Sources(work / "images", work / "pairs")
    write_samples(sources.images, [samples[i::SHARDS] for i in range(SHARDS)])
    write_samples(sources.pairs, [pairs_of(samples[i::SHARDS]) for i in range(SHARDS)])
    size = statistics.mean(len(image) for _, image in samples)
    print(f"{len(samples)} images of {size / 1e3:.0f} kB, {len(captions)} pairs")
    for name in LOADERS:
        run_child(name, work, "write")


def without_captions(
    samples: list[tuple[Sample, bytes]], surplus: int
) -> Iterator[tuple[Sample, bytes]]:
    """Leaves out the last captions of a few images, so that an epoch has whole batches."""
    for sample, image in samples:
        removed = min(surplus, len(sample.captions) - 1)
        surplus -= removed
        captions = sample.captions[: len(sample.captions) - removed]
        yield msgspec.structs.replace(sample, captions=captions), image


def pairs_of(samples: list[tuple[Sample, bytes]]) -> Iterator[tuple[Sample, bytes]]:
    for sample, image in samples:
        for i, caption in enumerate(sample.captions):
            key = f"{sample.key}-{i}"
            yield msgspec.structs.replace(sample, key=key, captions=[caption]), image


# --- one loader, in a process of its own ----------------------------------------------------------


def folder_of(name: str, work: Path) -> Path:
    return work / "formats" / LOADERS[name].__name__


def write(name: str, work: Path) -> dict[str, Any]:
    folder = folder_of(name, work)
    folder.mkdir(parents=True)
    LOADERS[name].write(folder, Sources(work / "images", work / "pairs"))
    files = (Path(at, file) for at, _, names in os.walk(folder, followlinks=True) for file in names)
    return {"bytes": sum(path.stat().st_size for path in files)}


def figures(name: str, work: Path) -> dict[str, Any]:
    """Measures everything but layouts."""
    torch.set_num_threads(1)
    decode = Decode(AutoTokenizer.from_pretrained(work / "tokenizer"))
    results: dict[str, Any] = {}

    def opened(workers: int, transform: Transform, start: int = 0) -> Loader:
        return LOADERS[name](folder_of(name, work), Layout(workers, BATCH), transform, start)

    batches = opened(2, decode).batches()
    begin, begin_cpu = time.perf_counter(), cpu_seconds()
    next(batches)
    results["first batch, s"] = time.perf_counter() - begin
    results["first batch, CPU s"] = cpu_seconds() - begin_cpu
    for workers in (2, 1, 0):
        if workers < 2:
            batches = opened(workers, decode).batches()
        cpu, wall = costs(batches, BATCHES, WARM_UP)
        results[f"{workers} workers, images/s"] = 1 / wall
        results[f"{workers} workers, CPU ms"] = 1e3 * cpu
        if workers == 2:
            results["worker, MiB"] = memory_of_workers()
    results["undecoded, us"] = 1e6 * costs(opened(0, undecoded).batches(), 500, 100)[0]

    pairs = ShardSet.open(work / "pairs").pairs("train")
    loader = opened(2, identify)
    if loader.keeps_position:
        for _ in itertools.islice(loader.batches(), pairs // BATCH // 2):
            pass
        state = pickle.dumps(loader.state())
        begin, begin_cpu = time.perf_counter(), cpu_seconds()
        loader = opened(2, decode)
        loader.restore(pickle.loads(state))
        next(loader.batches())
        results["resumed, s"] = time.perf_counter() - begin
        results["resumed, CPU s"] = cpu_seconds() - begin_cpu
    return results


def costs(batches: Iterator[Any], count: int, warm_up: int) -> tuple[float, float]:
    """Returns the CPU time and the elapsed time of a pair, in seconds."""
    for _ in range(warm_up):
        next(batches)
    begin, begin_cpu = time.perf_counter(), cpu_seconds()
    pairs = sum(len(next(batches)) for _ in range(count))
    return (cpu_seconds() - begin_cpu) / pairs, (time.perf_counter() - begin) / pairs


def cpu_seconds() -> float:
    """Returns the CPU time of all threads of this process and of those that it started."""
    total = time.process_time()
    ended = os.times()
    total += ended.children_user + ended.children_system
    for child in psutil.Process().children(recursive=True):
        total += sum(child.cpu_times()[:4])
    return total


def memory_of_workers() -> float:
    """Returns the mean memory in MiB that a worker has written, so without files that it maps."""
    helpers = "resource_tracker", "forkserver"
    sizes = []
    for child in psutil.Process().children(recursive=True):
        if not any(helper in " ".join(child.cmdline()) for helper in helpers):
            summary = Path(f"/proc/{child.pid}/smaps_rollup").read_text()
            [kilobytes] = re.findall(r"Private_Dirty: +(\d+) kB", summary)
            sizes.append(int(kilobytes) / 2**10)
    return statistics.mean(sizes)


# --- ranks that stop and start again --------------------------------------------------------------


def rank(name: str, work: Path, workers: int, steps: int, start: int, states: Path) -> None:
    """Reads as a rank of a job: ``steps`` batches, and then writes its state and what it read."""
    number, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if ranks > 1:
        torch.distributed.init_process_group("gloo")
    layout = Layout(workers, GLOBAL_BATCH // ranks, number, ranks)
    loader = LOADERS[name](folder_of(name, work), layout, identify, start)
    before = states / f"{number}.before"
    if before.exists():
        loader.restore(pickle.loads(before.read_bytes()))
    seen = [key for batch in itertools.islice(loader.batches(), steps) for key in batch]
    (states / f"{number}.seen").write_text(json.dumps(seen))
    (states / f"{number}.after").write_bytes(pickle.dumps(loader.state()))
    os._exit(0)  # at once, whatever its workers do


def job(
    name: str, work: Path, states: Path, layout: tuple[int, int], steps: int, start: int
) -> None:
    """Runs all ranks of a job."""
    ranks, workers = layout
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    running = []
    for number in range(ranks):
        environment = {
            "RANK": str(number),
            "LOCAL_RANK": str(number),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        arguments = ["rank", name, str(work), str(workers), str(steps), str(start), str(states)]
        running.append(Child(name, work, arguments, environment))
    for child in running:
        child.result()


def layouts(name: str, work: Path) -> dict[str, Any]:
    """Counts what is repeated and lost in the epoch of a job that restarts in its middle."""
    pairs = ShardSet.open(work / "pairs").pairs("train")
    steps = pairs // GLOBAL_BATCH // 2
    results: dict[str, Any] = {}
    for change, (before, after) in LAYOUTS.items():
        try:
            seen = seen_twice_over(name, work, before, after, steps)
        except RuntimeError as error:
            results[change] = {"error": str(error)}
            continue
        counts = Counter(itertools.chain.from_iterable(seen))
        results[change] = {
            "read": counts.total(),
            "repeated": counts.total() - len(counts),
            "lost": pairs - len(counts),
        }
    return results


def seen_twice_over(
    name: str, work: Path, before: tuple[int, int], after: tuple[int, int], steps: int
) -> list[list[str]]:
    """Returns the pairs that each rank read, of half an epoch and of what follows a restart.

    Raises:
        RuntimeError: a rank failed; with the last line of its error.
    """
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first"), Path(folder, "second")
        first.mkdir()
        second.mkdir()
        job(name, work, first, before, steps, 0)
        saved = [pickle.loads((first / f"{i}.after").read_bytes()) for i in range(before[0])]
        if LOADERS[name].keeps_position:
            layout = Layout(after[1], GLOBAL_BATCH // after[0], 0, after[0])
            for i, state in enumerate(LOADERS[name].redistribute(saved, layout)):
                (second / f"{i}.before").write_bytes(pickle.dumps(state))
        job(name, work, second, after, 3 * steps, 1)
        files = [*sorted(first.glob("*.seen")), *sorted(second.glob("*.seen"))]
        return [json.loads(path.read_text()) for path in files]


# --- all loaders ----------------------------------------------------------------------------------


class Child:
    """This script in the environment of a loader, as the leader of its own group of processes."""

    def __init__(
        self,
        name: str,
        work: Path,
        arguments: list[str],
        environment: dict[str, str] | None = None,
    ) -> None:
        python = work / "environments" / LOADERS[name].__name__ / "bin" / "python"
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [str(python) if python.exists() else sys.executable, __file__, *arguments],
            env=os.environ | (environment or {}),
            stdout=self._output,
            stderr=self._errors,
            start_new_session=True,
        )

    def result(self) -> str:
        """Waits for its end, and ends the workers that it has left; returns its last line.

        Raises:
            RuntimeError: it failed; with the last line of its error.
        """
        status = self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if status:
            raise RuntimeError(last_line(self._errors))
        return last_line(self._output)


def run_child(name: str, work: Path, measurement: str) -> None:
    """Measures a loader, and appends the result, or its error, to the results."""
    try:
        result = json.loads(Child(name, work, ["one", measurement, name, str(work)]).result())
    except RuntimeError as error:
        result = {"error": str(error)}
    with (work / RESULTS).open("a") as file:
        file.write(json.dumps({"loader": name, "measurement": measurement, **result}) + "\n")
    print(name, measurement, result, flush=True)


def last_line(file: IO[str]) -> str:
    file.seek(0)
    lines = [line.strip() for line in file if line.strip()]
    return lines[-1] if lines else ""


def one(measurement: str, name: str, work: Path) -> None:
    result = {"write": write, "figures": figures, "layouts": layouts}[measurement](name, work)
    print(json.dumps(result), flush=True)
    os._exit(0)  # at once, whatever its workers do


def run(measurement: str, work: Path, rounds: int, only: list[str]) -> None:
    for _ in range(rounds):
        for name in only:
            run_child(name, work, measurement)


def table(work: Path) -> None:
    """Prints the medians, and the range of those that other work changes most."""
    rows = [json.loads(line) for line in (work / RESULTS).read_text().splitlines()]
    for measurement in ("figures", "layouts", "write"):
        print(f"\n{measurement}\n")
        for name in LOADERS:
            mine = [
                row for row in rows if (row["loader"], row["measurement"]) == (name, measurement)
            ]
            if not mine:
                continue
            if measurement != "figures" or any("error" in row for row in mine):
                print(f"| {name} | {mine[-1]} |")
                continue
            keys = [key for key in mine[0] if key not in ("loader", "measurement")]
            medians = {key: statistics.median(row[key] for row in mine) for key in keys}
            columns = " | ".join(f"{key} {value:.4g}" for key, value in medians.items())
            print(f"| {name} ({len(mine)}) | {columns} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("prepare")
    command.add_argument("shards", type=Path)
    command.add_argument("work", type=Path)
    for name, rounds in (("figures", 5), ("layouts", 1)):
        command = commands.add_parser(name)
        command.set_defaults(measurement=name)
        command.add_argument("work", type=Path)
        command.add_argument("--rounds", type=int, default=rounds)
        command.add_argument("--only", nargs="+", choices=LOADERS, default=list(LOADERS))
    commands.add_parser("table").add_argument("work", type=Path)
    command = commands.add_parser("one")
    command.add_argument("measurement", choices=("write", "figures", "layouts"))
    command.add_argument("name", choices=LOADERS)
    command.add_argument("work", type=Path)
    command = commands.add_parser("rank")
    command.add_argument("name", choices=LOADERS)
    command.add_argument("work", type=Path)
    for number in ("workers", "steps", "start"):
        command.add_argument(number, type=int)
    command.add_argument("states", type=Path)
    arguments = vars(parser.parse_args())
    command = arguments.pop("command")
    {"prepare": prepare, "table": table, "one": one, "rank": rank}.get(command, run)(**arguments)


if __name__ == "__main__":
    main()
