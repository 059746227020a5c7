"""The same recipe and raw files make the same bytes, whatever runs them or stops them."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.synthetic.generate import generate_dataset
from pipelines.synthetic.layout import SyntheticDataset
from tests.end_to_end.made import digests
from tests.servers import server

BUILD = [sys.executable, "-m", "pipelines.build", "demo", "--quiet"]
REPOSITORY = Path(__file__).parents[2]
KILLS = 5


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "raw"
    generate_dataset(folder, SyntheticDataset(num_images=60, seed=3))
    return folder


@pytest.fixture(scope="module")
def expected(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of an undisturbed build in one process."""
    output = tmp_path_factory.mktemp("memory") / "shards"
    return build(synthetic, output, "--direct_running_mode=in_memory")


def build(synthetic: Path, output: Path, *options: str) -> dict[str, str]:
    command = [*BUILD, f"--root={synthetic}", f"--output={output}", *options]
    subprocess.run(command, check=True, cwd=REPOSITORY, timeout=300)
    return digests(output)


def test_a_shard_set_holds_what_it_should(expected: dict[str, str]) -> None:
    tables = {f"{name}.parquet" for name in ("excluded", "index", "rejected")}
    tables |= {"manifest.json", "stats.json"}
    shards = {name for name in expected if name.endswith(".tar")}
    assert set(expected) == tables | shards
    assert len(shards) == 12


@pytest.mark.parametrize(
    "options",
    [
        ["--direct_running_mode=multi_processing", "--direct_num_workers=2"],
        ["--direct_running_mode=in_memory", "--direct_runner_bundle_repeat=1"],
    ],
    ids=["two processes", "every bundle twice"],
)
def test_local_modes(
    synthetic: Path, expected: dict[str, str], tmp_path: Path, options: list[str]
) -> None:
    assert build(synthetic, tmp_path / "shards", *options) == expected


def test_at_another_place(synthetic: Path, expected: dict[str, str], tmp_path: Path) -> None:
    elsewhere = tmp_path / "moved"
    shutil.copytree(synthetic, elsewhere)
    assert build(elsewhere, tmp_path / "shards", "--direct_running_mode=in_memory") == expected


@pytest.fixture
def job_server(tmp_path: Path) -> Iterator[int]:
    """A portable job server, as Flink and Spark have one."""
    options = "--port={port}", f"--staging_dir={tmp_path / 'staging'}"
    with server("tests.portable_job_server", options, tmp_path / "job_server.log") as port:
        yield port


@pytest.fixture
def worker_pool(tmp_path: Path) -> Iterator[int]:
    """What starts a process for each worker that a job server asks for."""
    module = "apache_beam.runners.worker.worker_pool_main"
    with server(module, ["--service_port={port}"], tmp_path / "worker_pool.log") as port:
        yield port


def test_portable_job_server_with_two_worker_processes(
    synthetic: Path, expected: dict[str, str], tmp_path: Path, job_server: int, worker_pool: int
) -> None:
    options = [
        "--runner=PortableRunner",
        f"--job_endpoint=localhost:{job_server}",
        "--environment_type=EXTERNAL",
        f"--environment_config=localhost:{worker_pool}",
    ]
    assert build(synthetic, tmp_path / "shards", *options) == expected
    assert (tmp_path / "worker_pool.log").read_text().count("Starting worker with command") == 2


def test_killed_and_restarted(synthetic: Path, expected: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "shards"
    command = [*BUILD, f"--root={synthetic}", f"--output={output}"]
    moments = random.Random(0)
    started = time.monotonic()
    build(synthetic, tmp_path / "undisturbed")
    whole = time.monotonic() - started
    for i in range(KILLS):
        process = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)
        time.sleep(moments.uniform(0.2, 1.0) * whole)
        finished = process.poll() is not None
        if i % 2 and not finished:
            os.killpg(process.pid, signal.SIGKILL)  # the workers with it
        else:
            process.kill()  # the workers find out, while the next build already runs
        process.wait()
        if not finished and (output / "manifest.json").exists():
            # Killed after the commit: what is there must already be whole.
            assert {n: d for n, d in digests(output).items() if n in expected} == expected
        (output / "manifest.json").unlink(missing_ok=True)
    assert build(synthetic, output) == expected
