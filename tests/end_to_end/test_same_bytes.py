"""The same recipe and raw files give the same bytes on any runner, and after interruptions."""

import os
import random
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipelines.build import main as build
from shards.format.placement import index_name
from tests.end_to_end.built_sets import set_digests
from tests.processes import run, started

KILLS = 4
IN_MEMORY = "--direct_running_mode=in_memory"
TWO_WORKERS = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


@pytest.fixture(scope="module")
def expected(small_set: Path) -> dict[str, str]:
    """The digests of an undisturbed build in one process."""
    return set_digests(small_set)


def build_digests(raw: Path, output: Path, *options: str) -> dict[str, str]:
    """Builds a set in this process; returns the digests of its files."""
    assert build(["demo", f"--root={raw}", f"--output={output}", "--quiet", *options]) == 0
    return set_digests(output)


def test_shard_set_has_all_its_files_and_no_others(expected: dict[str, str]) -> None:
    tables = {"excluded.parquet", "rejected.parquet", "manifest.json", "stats.json"}
    shards = {name for name in expected if name.endswith(".tar")}
    assert set(expected) == tables | shards | set(map(index_name, shards))
    assert len(shards) == 12


def command(raw: Path, output: Path) -> list[str]:
    """Returns the command of a build by a launcher and two workers."""
    build_demo = [sys.executable, "-m", "pipelines.build", "demo", "--quiet", *TWO_WORKERS]
    return [*build_demo, f"--root={raw}", f"--output={output}"]


@pytest.fixture(scope="module")
def two_workers(
    small_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[float, dict[str, str]]:
    """The seconds and the digests of an undisturbed build by a launcher and two workers."""
    output = tmp_path_factory.mktemp("two_workers") / "shards"
    begin = time.monotonic()
    run(command(small_dataset, output), check=True)
    return time.monotonic() - begin, set_digests(output)


def test_two_worker_processes_make_the_same_bytes(
    two_workers: tuple[float, dict[str, str]], expected: dict[str, str]
) -> None:
    assert two_workers[1] == expected


def test_repeated_bundles_make_the_same_bytes(
    small_dataset: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    options = [IN_MEMORY, "--direct_runner_bundle_repeat=1"]
    assert build_digests(small_dataset, tmp_path / "shards", *options) == expected


def test_moved_raw_files_make_the_same_bytes(
    small_dataset: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(small_dataset, moved)
    assert build_digests(moved, tmp_path / "shards", IN_MEMORY) == expected


def test_killed_and_restarted_build_makes_the_same_bytes(
    small_dataset: Path,
    two_workers: tuple[float, dict[str, str]],
    expected: dict[str, str],
    tmp_path: Path,
) -> None:
    output = tmp_path / "shards"
    # A build that was not killed in time has finished: the next one replaces it.
    build = [*command(small_dataset, output), "--overwrite"]
    rng = random.Random(0)
    duration, _ = two_workers
    with ExitStack() as stack:  # orphaned workers may live until the end of the test
        for i in range(KILLS):
            process = stack.enter_context(started(build))
            time.sleep(rng.uniform(0.2, 1.0) * duration)
            finished = process.poll() is not None
            if i % 2 and not finished:
                os.killpg(process.pid, signal.SIGKILL)  # the workers with it
            else:
                process.kill()  # the workers notice while the next build is running
            process.wait()
            if not finished and (output / "manifest.json").exists():
                # The manifest comes last: all other files are complete.
                assert {n: d for n, d in set_digests(output).items() if n in expected} == expected
        run(build, check=True)
    assert set_digests(output) == expected
