"""Builds from a dataset in folders and from the same one packed as published: time and requests.

    python benchmarks/packed.py [--num-images 300] [--delay 0.02]
    python benchmarks/packed.py --index 1000000    # the index of a tar with so many members

Both are built from local files and from a bucket, which moto serves on the loopback interface with
an artificial latency for each request. The shard sets must have the same bytes.
"""

import argparse
import os
import resource
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import fsspec
import psutil

from pipelines.io.archives import prepared_path
from pipelines.io.file_roots import open_root
from pipelines.synthetic.__main__ import main as generate
from tests.file_digests import file_digests
from tests.processes import run
from tests.s3_server import Request, options_of, requests, serve_s3

BUILD = [sys.executable, "-m", "pipelines.build", "demo", "--quiet"]
BUILD += ["--direct_running_mode=in_memory"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-images", type=int, default=300)
    parser.add_argument("--delay", type=float, default=0.02, help="seconds of each request")
    parser.add_argument("--index", type=int, metavar="MEMBERS")
    arguments = parser.parse_args()
    if arguments.index:
        measure_index(arguments.index)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for layout, options in (("folders", []), ("packed", ["--packed"])):
            output = f"--output={folder / layout}"
            assert generate([output, f"--num-images={arguments.num_images}", *options]) == 0
        print("raw files   store     build       CPU    requests for raw files   MB of raw files")
        for layout in ("folders", "packed"):
            times = build(str(folder / layout), folder / f"{layout} local", dict(os.environ))
            print(f"{layout:<12}local {times}")
        for layout in ("folders", "packed"):
            log = folder / f"{layout}.log"
            with serve_s3(delay=arguments.delay, log=log) as environment:
                system = fsspec.filesystem("s3", **options_of(environment))
                system.mkdir("raw")
                system.put(str(folder / layout), "raw/dataset", recursive=True)
                log.write_text("")
                times = build("s3://raw/dataset", folder / f"{layout} s3", environment)
            of_raw_files = [r for r in requests(log) if r.path.startswith("/raw")]
            counts = f"{len(of_raw_files):12,}{megabytes(of_raw_files):26.1f}"
            print(f"{layout:<12}s3    {times}{counts}")
        sets = [file_digests(path) for path in sorted(folder.glob("* *"))]
        assert len(sets) == 4 and all(digests == sets[0] for digests in sets)
        print("all four shard sets have the same bytes")


def build(root: str, output: Path, environment: dict[str, str]) -> str:
    """Builds a shard set; returns seconds and CPU seconds."""
    start, cpu = time.monotonic(), cpu_of_children()
    run([*BUILD, f"--root={root}", f"--output={output}"], env=environment, check=True)
    return f"{time.monotonic() - start:7.1f} s{cpu_of_children() - cpu:8.1f} s"


def cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def megabytes(of_raw_files: list[Request]) -> float:
    return sum(request.sent for request in of_raw_files if request.method == "GET") / 1e6


def measure_index(members: int) -> None:
    """Prints time and memory of the index of a tar, and of reads by it."""
    names = [f"open-images/train/{n % 1000:03d}/{n:016d}.jpg" for n in range(members)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.tar"
        with path.open("wb") as file:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = 3
                file.write(member.tobuf(tarfile.GNU_FORMAT) + b"abc".ljust(512, b"\0"))
            file.write(bytes(1024))
        some = names[:: max(members // 10_000, 1)]
        del names
        before, cpu = resident_mb(), time.process_time()
        prepared = prepared_path(str(path), folder)
        print(f"indexed in {time.process_time() - cpu:.1f} CPU s, {resident_mb() - before} MB more")
        print(f"{Path(prepared).stat().st_size / 1e6:.1f} MB on disk")
        before, cpu = resident_mb(), time.process_time()
        root = open_root(prepared)
        print(f"opened in {time.process_time() - cpu:.1f} CPU s, {resident_mb() - before} MB more")
        cpu = time.process_time()
        assert all(root.read(name, 10) == b"abc" for name in some)
        print(f"{(time.process_time() - cpu) / len(some) * 1e6:.0f} us a read")


def resident_mb() -> int:
    return psutil.Process().memory_info().rss // 10**6


if __name__ == "__main__":
    main()
