"""The learning curve of a run."""

import json
from pathlib import Path

import pytest

from mdetr_model.training.learning_curve import LossPoint, ValidationPoint, learning_curve


def write(folder: Path, lines: list[dict[str, object]]) -> Path:
    config = {"optimizer": {"epochs": 2, "global_batch_size": 32}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def train_line(step: int, loss: float | None, rate: float) -> dict[str, object]:
    return {"kind": "train", "step": step, "loss": loss, "samples_per_second": rate}


def test_samples_and_minutes_are_counted_over_lines_of_any_distance(tmp_path: Path) -> None:
    lines = [
        train_line(10, 4.0, rate=32),
        train_line(40, None, rate=16),
        {"kind": "validation", "step": 45, "val recall@1": 0.25},
        train_line(45, 2.0, rate=8),
    ]
    curve = learning_curve(write(tmp_path, lines))
    assert curve.epochs == 2
    assert curve.losses == [
        LossPoint(10, 320, pytest.approx(10 / 60), 4.0),
        LossPoint(40, 1280, pytest.approx(70 / 60), None),
        LossPoint(45, 1440, pytest.approx(90 / 60), 2.0),
    ]
    assert curve.validations == [
        ValidationPoint(45, 1440, pytest.approx(70 / 60), {"val recall@1": 0.25})
    ]
    assert (curve.samples, curve.minutes) == (1440, pytest.approx(1.5))


def test_folder_that_is_not_of_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        learning_curve(tmp_path)
    with pytest.raises(ValueError, match=r"log\.jsonl has no steps"):
        learning_curve(write(tmp_path, []))
    for line in ("text", "[1]", '{"step": 1}'):
        write(tmp_path, [train_line(1, 1.0, rate=1)])
        with (tmp_path / "log.jsonl").open("a") as file:
            file.write(f"{line}\n")
        with pytest.raises(ValueError, match=r"log\.jsonl, line 2: not "):
            learning_curve(tmp_path)
    (tmp_path / "config.json").write_text('{"seed": 1}')
    with pytest.raises(ValueError, match="is not the configuration of a training run"):
        learning_curve(tmp_path)
