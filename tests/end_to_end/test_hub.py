"""Shard sets and models of the Hugging Face Hub, from a stand-in for it."""

import os
import subprocess
from pathlib import Path

import pytest

from shards.reading.remote import is_transient
from tests.end_to_end import small_training as small
from tests.hub_server import serve_hub


def run(command: list[str], endpoint: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_training_reads_a_shard_set_of_the_hub(tmp_path: Path) -> None:
    """The run has the losses of one that reads the same set from a folder."""
    small.write_shards(tmp_path)
    local = small.write_config(tmp_path, epochs=1)
    small.train(local, tmp_path / "local")
    entry = '{ shards = "hf://datasets/someone/boxes", split = "train" }'
    cache = f"cache = '{tmp_path / 'cache'}'"
    config = small.write_config(tmp_path, "hub", epochs=1, train=entry, cache=cache)
    with serve_hub(tmp_path / "train", "datasets/someone/boxes") as endpoint:
        arguments = small.arguments(config, tmp_path / "run")
        result = run(small.command(arguments), endpoint, tmp_path)
    assert result.returncode == 0, result.stderr
    assert small.losses(tmp_path / "run") == small.losses(tmp_path / "local")


def test_initial_model_of_the_hub(tmp_path: Path) -> None:
    small.write_shards(tmp_path)
    small.train(small.write_config(tmp_path, epochs=1), tmp_path / "first")
    config = small.write_config(tmp_path, "hub", init='model = "hf://someone/mdetr"')
    with serve_hub(tmp_path / "first/model", "models/someone/mdetr") as endpoint:
        arguments = small.arguments(config, tmp_path / "run", "--set", "optimizer.epochs=1")
        result = run(small.command(arguments), endpoint, tmp_path)
    assert result.returncode == 0, result.stderr
    config = small.write_config(tmp_path, "local", epochs=1, init='model = "first/model"')
    small.train(config, tmp_path / "local")
    assert small.losses(tmp_path / "run") == small.losses(tmp_path / "local")


def test_missing_repository_of_the_hub_is_named(tmp_path: Path) -> None:
    small.write_shards(tmp_path)
    entry = '{ shards = "hf://datasets/someone/other", split = "train" }'
    config = small.write_config(tmp_path, train=entry)
    with serve_hub(tmp_path / "train", "datasets/someone/boxes") as endpoint:
        result = run(small.command(small.arguments(config, tmp_path / "run")), endpoint, tmp_path)
    assert result.returncode == 1
    assert "hf://datasets/someone/other" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(("status", "transient"), [(503, True), (429, True), (401, False)])
def test_status_of_the_hub_decides_whether_a_request_is_repeated(
    status: int, transient: bool
) -> None:
    class Response:
        status_code = status

    error = OSError("of the hub")
    error.response = Response()  # type: ignore[attr-defined]
    assert is_transient(error) == transient
