"""Progress of a run: bars on the local runner, log messages of Dataflow.

Steps that run on this machine, in several processes, append a line to one file for each slice or
shard that is done; the launcher reads the file. All steps count the same in counters of the job,
which other runners report. See `pipelines.beam.job_progress` for those of a job server.
"""

import contextlib
import logging
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

# What follows the name of a stage in the names of its counters.
DONE, TOTAL, WORKER_MS = ": done", ": total", ": worker ms"


def tick(path: str, stage: str, seconds: float = 0.0, *, done: int = 1, more: int = 0) -> None:
    """Reports that a stage finished an element, or has ``more`` to do; no-op without path.

    A short line is appended atomically, whichever process appends it.
    """
    if path:
        line = f"{stage}\t{done}\t{more}\t{seconds:.3f}\n".encode()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


class Stage:
    """The finished and total elements of a stage, and seconds summed over workers."""

    def __init__(self) -> None:
        self.done = 0
        self.total = 0
        self.seconds = 0.0


def read(path: Path) -> dict[str, Stage]:
    """Returns the stages so far, in the order in which they began."""
    stages: dict[str, Stage] = defaultdict(Stage)
    if path.exists():
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                name, done, more, seconds = line.rstrip("\n").split("\t")
                stage = stages[name]
                stage.done += int(done)
                stage.total += int(more)
                stage.seconds += float(seconds)
    return stages


def of_counters(counters: Mapping[str, int]) -> dict[str, Stage]:
    """Returns the stages that counters of a job state, as `read` does those of a file.

    >>> stages = of_counters({"read vg: total": 5, "read vg: done": 2, "val: images": 7})
    >>> [(name, stage.done, stage.total) for name, stage in stages.items()]
    [('read vg', 2, 5)]
    """
    stages: dict[str, Stage] = defaultdict(Stage)
    for counter, value in sorted(counters.items()):
        if counter.endswith(DONE):
            stages[counter.removesuffix(DONE)].done = value
        elif counter.endswith(TOTAL):
            stages[counter.removesuffix(TOTAL)].total = value
        elif counter.endswith(WORKER_MS):
            stages[counter.removesuffix(WORKER_MS)].seconds = value / 1000
    return stages


@contextlib.contextmanager
def show_bars(path: Path, quiet: bool) -> Iterator[None]:
    """Shows a progress bar per stage on stderr; redirects Beam's messages to a log beside ``path``.

    Beam's workers log dozens of lines to the same stderr.
    """
    with stderr_to_log(path.with_suffix(".log")) as screen:
        stopped = threading.Event()
        bars = threading.Thread(target=_draw, args=(path, screen, stopped), daemon=True)
        if not quiet:
            bars.start()
        try:
            yield
        finally:
            stopped.set()
            if not quiet:
                bars.join()


@contextlib.contextmanager
def stderr_to_log(path: Path) -> Iterator[TextIO]:
    """Appends what this process and its children write to stderr to a file; yields the real stderr.

    They write to a pipe: a worker that cannot write to stderr, because the disk is full, does not
    report its error, and Beam waits for it forever.
    """
    log, to_log = os.pipe()
    copy = threading.Thread(target=_copy, args=(log, path), daemon=True)
    copy.start()
    sys.stderr.flush()
    stderr = os.dup(2)
    os.dup2(to_log, 2)
    try:
        with os.fdopen(os.dup(stderr), "w") as screen:
            yield screen
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(to_log)
        copy.join(timeout=5)  # workers that are still ending have it open, too


def _copy(pipe: int, path: Path) -> None:
    """Copies a pipe to a file until its end; what the disk has no space for is dropped."""
    with os.fdopen(pipe, "rb", buffering=0) as messages, path.open("ab", buffering=0) as log:
        while content := messages.read(1 << 16):
            with contextlib.suppress(OSError):
                log.write(content)


@contextlib.contextmanager
def show_messages(quiet: bool) -> Iterator[None]:
    """Logs the messages of a remote runner about its job: its page, its states, its errors."""
    if not quiet:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("apache_beam.runners").setLevel(logging.INFO)
        # The job itself is logged as well, in hundreds of lines.
        client = logging.getLogger("apache_beam.runners.dataflow.internal.apiclient")
        client.addFilter(
            lambda record: record.levelno > logging.INFO or len(record.getMessage()) < 500
        )
    yield


def _draw(path: Path, screen: TextIO, stopped: threading.Event) -> None:
    """Redraws a tqdm bar per stage from the file, twice a second, until ``stopped`` is set."""
    from tqdm import tqdm

    bars: dict[str, tqdm] = {}
    last = False
    while not last:
        last = stopped.wait(0.5)
        for name, stage in read(path).items():
            if name not in bars:
                unit = " shards" if name == "write shards" else " slices"
                bars[name] = tqdm(desc=f"{name:<16}", unit=unit, file=screen)
            bars[name].total = stage.total or None
            bars[name].update(stage.done - bars[name].n)
    for bar in bars.values():
        bar.close()
