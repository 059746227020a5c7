"""How fast a shard set is exported, and in how much memory.

    PYTHONPATH=. .venv/bin/python benchmarks/export.py SHARD_SET [SHARD_SET ...] [--formats ...]

For each set and format: seconds of the whole command, regions a second, its peak memory.
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shard_sets", nargs="+", type=Path)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    arguments = parser.parse_args()
    print(f"{'format':12} {'regions':>10} {'s':>8} {'regions/s':>10} {'peak MiB':>9} {'MB':>8}")
    for name in arguments.formats:
        for shard_set in arguments.shard_sets:
            measure(name, shard_set)


def measure(name: str, shard_set: Path) -> None:
    regions = sum(of["regions"] for of in manifest.load(shard_set).totals.values())
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "shards", "export", name, str(shard_set), folder]
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
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
