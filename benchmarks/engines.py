"""Measures what a build costs on each engine, and compares the files that it writes.

    python benchmarks/engines.py RAW local prism flink spark    # RAW: what `mdetr-synthetic` wrote

Each engine gets the cores of this machine. Prism has its only worker in the command; Flink and
Spark have two worker hosts (namespaces, see ``tests/clusters``) with one slot and one Python worker
each, and a shared disk. Figures are of the time from the start of the command to its end, daemons
included. Memory is that of all processes of a kind at once, and of the largest of them, without
what they share, such as mapped raw files. MB between hosts left a network card, MB in a host went
through the loopback: between the engine and its Python worker.

Files are compared with those of the first engine. Needs root, and what ``tests/clusters`` needs.
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import psutil

from benchmarks.build import SYNTHETIC
from tests.clusters.cluster import Cluster
from tests.clusters.downloads import prism
from tests.clusters.flink.cluster import FlinkCluster
from tests.clusters.hosts import Host, network
from tests.clusters.spark.cluster import SparkCluster
from tests.end_to_end.built_sets import set_digests
from tests.processes import run

ENGINES = ("local", "prism", "flink", "spark")
COLUMNS = (
    *("wall s", "Python CPU s", "engine CPU s", "Python GiB", "largest", "engine GiB", "largest"),
    *("MB between hosts", "MB in a host", "files"),
)
_INTERVAL = 0.25  # seconds between two samples


class Usage(msgspec.Struct):
    """What the processes of one kind have used: the sum, and the largest of them."""

    cpu: dict[tuple[int, float], float] = {}  # by process and its start
    peak: int = 0
    largest: int = 0

    def cpu_seconds(self) -> float:
        """Returns the CPU seconds of all processes so far."""
        return sum(self.cpu.values())


class Sampler:
    """Samples the descendants of this process in a thread, by kind: Python or engine."""

    def __init__(self) -> None:
        self.python, self.engine = Usage(), Usage()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Sampler":
        self._sample()
        self._before = {id(usage): usage.cpu_seconds() for usage in (self.python, self.engine)}
        self.python.peak = self.python.largest = self.engine.peak = self.engine.largest = 0
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._sample()

    def cpu_seconds(self, usage: Usage) -> float:
        """Returns the CPU seconds since the sampler was entered."""
        return usage.cpu_seconds() - self._before[id(usage)]

    def _run(self) -> None:
        while not self._done.wait(_INTERVAL):
            self._sample()

    def _sample(self) -> None:
        resident = Counter[int]()
        for process in psutil.Process().children(recursive=True):
            try:
                with process.oneshot():
                    usage = self._usage(process)
                    if usage is None:
                        continue
                    times, memory = process.cpu_times(), process.memory_info()
                    key = process.pid, process.create_time()
            except psutil.Error:
                continue  # it ended between the two calls
            usage.cpu[key] = times.user + times.system
            unshared = memory.rss - memory.shared
            usage.largest = max(usage.largest, unshared)
            resident[id(usage)] += unshared
        for usage in (self.python, self.engine):
            usage.peak = max(usage.peak, resident[id(usage)])

    def _usage(self, process: psutil.Process) -> Usage | None:
        """Returns to which usage a process is added; the store of the tests is not used here."""
        name = process.name()
        if name == "java" or name.startswith("prism"):
            return self.engine
        is_python = name.startswith("python") and "tests.s3_server" not in process.cmdline()
        return self.python if is_python else None


class Bytes(msgspec.Struct):
    """Bytes that the interfaces of hosts have sent: to other hosts, and in a host."""

    between: int = 0
    inside: int = 0


def sent(hosts: Sequence[Host]) -> Bytes:
    """Returns what hosts have sent so far."""
    total = Bytes()
    for host in hosts:
        for line in Path(f"/proc/{host.pid}/net/dev").read_text().splitlines():
            name, _, fields = line.strip().partition(":")
            if name == "lo":
                total.inside += int(fields.split()[8])
            elif name == "eth0":
                total.between += int(fields.split()[8])
    return total


@contextlib.contextmanager
def engine_hosts(engine: str, folder: Path) -> Iterator[tuple[list[Host], list[str]]]:
    """Starts an engine; yields its hosts, the command's host first, and the options of a build."""
    folder.mkdir()
    with network(folder) as hosts:
        if engine == "local":
            yield [hosts.add_host("first")], []
        elif engine == "prism":
            options = ["--runner=PrismRunner", f"--prism_location={prism()}"]
            yield [hosts.add_host("first")], options
        else:
            (folder / "no_raw_files").mkdir()
            kind = FlinkCluster if engine == "flink" else SparkCluster
            cluster: Cluster = kind(hosts, folder, folder / "no_raw_files")
            all_hosts = [cluster.first, *cluster.workers.values()]
            yield all_hosts, [*cluster.options, "--shared-disk"]


def build(
    engine: str, raw: Path, folder: Path, more_options: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """Builds on an engine; returns the figures of the table, and the digests of the files."""
    output, recipe = folder / "shards", folder / "synthetic.toml"
    recipe.write_text(SYNTHETIC)
    with engine_hosts(engine, folder / engine) as (hosts, options):
        command = [sys.executable, "-m", "pipelines.build", recipe, f"--root={raw}"]
        command += [f"--output={output}", *options, *more_options]
        before, started = sent(hosts), time.monotonic()
        with Sampler() as sampler:
            done = run(hosts[0].enter(command), env={"TMPDIR": str(folder / engine)}, timeout=3600)
            seconds = time.monotonic() - started
        print(done.stdout + done.stderr, file=sys.stderr)
        if done.returncode:
            raise SystemExit(f"the build on {engine} failed")
        after = sent(hosts)
    digests = set_digests(output)
    shutil.rmtree(output)
    python, java = sampler.python, sampler.engine
    figures = [
        f"{seconds:.0f}",
        f"{sampler.cpu_seconds(python):.0f}",
        f"{sampler.cpu_seconds(java):.0f}",
        *(f"{size / 2**30:.2f}" for size in (python.peak, python.largest)),
        *(f"{size / 2**30:.2f}" for size in (java.peak, java.largest)),
        f"{(after.between - before.between) / 1e6:.0f}",
        f"{(after.inside - before.inside) / 1e6:.0f}",
    ]
    return figures, digests


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("raw", type=Path)
    parser.add_argument("engines", nargs="+", choices=ENGINES)
    parser.add_argument(
        "--option", action="append", default=[], metavar="OPTION", help="a further one of the build"
    )
    arguments = parser.parse_args()
    print("| engine | " + " | ".join(COLUMNS) + " |", flush=True)
    print("|---" * (len(COLUMNS) + 1) + "|", flush=True)
    expected: dict[str, str] = {}
    for engine in arguments.engines:
        with tempfile.TemporaryDirectory() as folder:
            figures, digests = build(
                engine, arguments.raw.resolve(), Path(folder), arguments.option
            )
        expected = expected or digests
        equal = "equal" if digests == expected else "DIFFERENT"
        print(f"| {engine} | " + " | ".join([*figures, equal]) + " |", flush=True)


if __name__ == "__main__":
    main()
