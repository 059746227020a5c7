"""The benchmark of training steps runs on a CPU, with a small model and small images."""

import json
from pathlib import Path

import pytest

from benchmarks import gpu
from tests.end_to_end import small_training as small


def test_steps_operators_and_loader_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "STEPS", 2)
    monkeypatch.setattr(gpu, "LOADED_BATCHES", 5)
    train = '{ shards = "shards", split = "train" }'
    config = small.write_config(tmp_path, train=train)
    sizes = ["--height", "64", "--width", "96", "--batches", "2", "4"]
    options = ["--config", str(config), "--precisions", "float32", "bfloat16"]
    assert gpu.main([str(tmp_path / "results"), *options, *sizes]) == 0

    results = json.loads((tmp_path / "results/gpu.json").read_text())
    timings = [
        (timing["code"], timing["precision"], timing["batch"]) for timing in results["timings"]
    ]
    assert timings == [("here", kind, size) for kind in ("float32", "bfloat16") for size in (2, 4)]
    assert all(timing["milliseconds"] > 0 and not timing["error"] for timing in results["timings"])
    assert results["loader"]["samples_per_second"] > 0
    for step in results["steps"].values():
        times = [each["milliseconds"] for each in step["operators"]]
        assert len(times) == gpu.LISTED_OPERATORS
        assert times == sorted(times, reverse=True)
        assert 0 < step["busy"] <= 1
    table = (tmp_path / "results/gpu.md").read_text()
    assert table.count("| here |") == 4


def test_steps_beyond_the_time_are_listed_as_not_run(tmp_path: Path) -> None:
    config = small.write_config(tmp_path, train='{ shards = "shards", split = "train" }')
    options = ["--config", str(config), "--precisions", "float32", "--minutes", "0"]
    sizes = ["--height", "64", "--width", "96", "--batches", "2"]
    assert gpu.main([str(tmp_path / "results"), *options, *sizes]) == 0
    table = (tmp_path / "results/gpu.md").read_text()
    assert "| float32 | 2 | here | not run: out of time |" in table
