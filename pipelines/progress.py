"""What a run is doing, for the person who watches it.

Steps run in several processes, which append a line for each slice or shard that is done to one
file; the launcher follows it. Other runners than the local one have their own pages for that.
"""

import os
import threading
from collections import defaultdict
from pathlib import Path


def tick(path: str, stage: str, seconds: float) -> None:
    """Says that a stage has done one more element; a short line is appended in one piece."""
    if path:
        line = f"{stage}\t{seconds:.3f}\n".encode()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


class Stage:
    """How often a stage ran, and for how many seconds of all workers together."""

    def __init__(self) -> None:
        self.done = 0
        self.seconds = 0.0


def read(path: Path) -> dict[str, Stage]:
    """The stages so far, in the order in which they began."""
    stages: dict[str, Stage] = defaultdict(Stage)
    if path.exists():
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                stage, seconds = line.rstrip("\n").split("\t")
                stages[stage].done += 1
                stages[stage].seconds += float(seconds)
    return stages


class Bar(threading.Thread):
    """A tqdm bar a stage, redrawn from the file until `stop`."""

    def __init__(self, path: Path, totals: dict[str, int]) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._totals = totals
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        from tqdm import tqdm

        bars: dict[str, tqdm] = {}
        stopped = False
        while not stopped:
            stopped = self._stopped.wait(0.5)
            for name, stage in read(self._path).items():
                if name not in bars:
                    unit = "shards" if name == "write shards" else "slices"
                    bars[name] = tqdm(desc=name, unit=f" {unit}", total=self._totals.get(name))
                bars[name].update(stage.done - bars[name].n)
        for bar in bars.values():
            bar.close()
