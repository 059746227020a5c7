"""Measures how fast each export format is written, and in how much memory.

    PYTHONPATH=. .venv/bin/python benchmarks/export.py SHARDS [SHARDS ...] [--formats ...]

Prints, for each format and shard set: seconds of the whole command, regions per second, its peak
memory and the size of its output.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shards.export.formats import FORMATS
from shards.format import manifest


def main() -> None:
    """Parses the arguments and prints a line per measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shards", nargs="+", type=Path, metavar="SHARDS")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    arguments = parser.parse_args()
    print(f"{'format':12} {'regions':>10} {'s':>8} {'regions/s':>10} {'peak MiB':>9} {'MB':>8}")
    for name in arguments.formats:
        for shard_set in arguments.shards:
            measure(name, shard_set)


def measure(name: str, shard_set: Path) -> None:
    """Exports a shard set in a separate process and prints the measurements."""
    totals = manifest.load(shard_set).totals.values()
    regions = sum(split_totals["regions"] for split_totals in totals)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "shards", "export", name, shard_set, "--output", folder]
        started = time.monotonic()
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        if status:
            raise SystemExit(f"{name} of {shard_set} failed")
        size = sum(p.stat().st_size for p in Path(folder).rglob("*") if not p.is_symlink())
    print(
        f"{name:12} {regions:10,} {seconds:8.1f} {regions / seconds:10,.0f} "
        f"{usage.ru_maxrss / 1024:9.0f} {size / 1e6:8.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
