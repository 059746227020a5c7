"""From a bucket into a bucket: the bytes of a local build, or nothing that is a shard set."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from pipelines.build import main as build
from pipelines.world.__main__ import main as make_world
from tests.s3_server import serve_s3

REPOSITORY = Path(__file__).parents[2]
BUILD = [sys.executable, "-m", "pipelines.build", "demo", "--quiet"]
INTO_BUCKET = ["--root=s3://raw/world", "--output=s3://made/shards"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "world"
    assert make_world([str(folder), "--images", "40", "--seed", "3"]) == 0
    return folder


@pytest.fixture(scope="module")
def expected(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    output = tmp_path_factory.mktemp("local") / "shards"
    arguments = [f"--root={world}", f"--output={output}", "--quiet"]
    assert build(["demo", *arguments, "--direct_running_mode=in_memory"]) == 0
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in output.iterdir()}


def uploaded(world: Path, environment: dict[str, str]) -> fsspec.AbstractFileSystem:
    """A store with the world in one bucket, and an empty one."""
    system = fsspec.filesystem(
        "s3",
        key=environment["AWS_ACCESS_KEY_ID"],
        secret=environment["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    for bucket in ("raw", "made"):
        system.mkdir(bucket)
    system.put(str(world), "raw/world", recursive=True)
    return system


def digests(system: fsspec.AbstractFileSystem) -> dict[str, str]:
    return {
        path.removeprefix("made/shards/"): hashlib.sha256(system.cat_file(path)).hexdigest()
        for path in system.find("made")
    }


def test_a_store_that_is_slow_and_fails_every_tenth_request(
    world: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    with serve_s3(fail_every=10, delay=0.01) as environment:
        system = uploaded(world, environment)
        subprocess.run(
            [*BUILD, *INTO_BUCKET],
            check=True,
            cwd=REPOSITORY,
            env=os.environ | environment,
            timeout=300,
        )
        assert digests(system) == expected
        looked_at = subprocess.run(
            [sys.executable, "-m", "shards", "verify", "s3://made/shards", "--quiet"],
            cwd=REPOSITORY,
            env=os.environ | environment | {"HOME": str(tmp_path)},  # where the cache is
            capture_output=True,
            text=True,
        )
        assert looked_at.returncode == 0, looked_at.stdout + looked_at.stderr


def test_a_file_that_was_cut_off_on_its_way_leaves_no_manifest(world: Path) -> None:
    with serve_s3() as environment:
        system = uploaded(world, environment)
        system.rm("raw/world/gqa/train_sceneGraphs.json")
        system.pipe_file("raw/world/gqa/train_sceneGraphs.json", b"{")
        done = subprocess.run(
            [*BUILD, *INTO_BUCKET],
            cwd=REPOSITORY,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 1
        assert "train_sceneGraphs.json" in done.stderr.splitlines()[-1]
        assert "manifest.json" not in digests(system)
