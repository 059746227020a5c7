"""Checkpoints are written atomically, and reading them executes no code."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mdetr_model.training import checkpoints


class _Attack:
    """Creates a file if it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_checkpoint_round_trips(tmp_path: Path) -> None:
    state = {
        "model": {"a": torch.arange(3)},
        "settings": {"seed": 1, "shards": [["x", "train", None]]},
    }
    path = checkpoints.write(tmp_path, 7, state, max_checkpoints=2)
    stored = checkpoints.read(path)
    assert stored["step"] == 7
    assert stored["settings"] == state["settings"]
    assert torch.equal(stored["model"]["a"], torch.arange(3))


def test_only_the_latest_checkpoints_remain(tmp_path: Path) -> None:
    for step in (5, 10, 100, 1000):
        checkpoints.write(tmp_path, step, {}, max_checkpoints=2)
    stored = checkpoints.list_checkpoints(tmp_path)
    assert stored == [
        checkpoints.checkpoint_path(tmp_path, 100),
        checkpoints.checkpoint_path(tmp_path, 1000),
    ]


def test_resume_point(tmp_path: Path) -> None:
    folder, other = tmp_path / "own", tmp_path / "step-000000007.pt"
    for resume in ("auto", "never"):
        assert checkpoints.find_resume_point(folder, resume) is None
    assert checkpoints.find_resume_point(folder, str(other)) == other
    for step in (5, 10):
        checkpoints.write(folder, step, {}, max_checkpoints=2)
    assert checkpoints.find_resume_point(folder, "auto") == checkpoints.checkpoint_path(folder, 10)
    with pytest.raises(ValueError, match=r"step-000000010.pt: resume with --resume auto"):
        checkpoints.find_resume_point(folder, "never")
    with pytest.raises(ValueError, match=r"later checkpoints, step-000000010.pt"):
        checkpoints.find_resume_point(folder, str(other))
    last = checkpoints.checkpoint_path(folder, 10)
    assert checkpoints.find_resume_point(folder, str(last)) == last
    with pytest.raises(ValueError, match=r"last.pt is not named like a checkpoint"):
        checkpoints.find_resume_point(folder, "last.pt")


def test_incomplete_files_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / ".step-000000009.pt.tmp").write_bytes(b"half")
    (tmp_path / "step-9.pt").write_bytes(b"of another program")
    assert checkpoints.list_checkpoints(tmp_path) == []
    assert checkpoints.list_checkpoints(tmp_path / "nowhere") == []


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x02."])
def test_files_that_are_no_checkpoints_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "step-000000001.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"step-000000001.pt is not a checkpoint"):
        checkpoints.read(path)


def test_other_torch_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a checkpoint of a training run"):
        checkpoints.read(path)
    with pytest.raises(OSError):
        checkpoints.read(tmp_path / "missing.pt")


def test_checkpoints_of_another_version_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "step-000000001.pt"
    torch.save({"format": checkpoints.FORMAT - 1, "step": 1}, path)
    with pytest.raises(ValueError, match=r"step-000000001.pt has format 3, .* resume with the"):
        checkpoints.read(path)


def test_reading_a_checkpoint_executes_nothing(tmp_path: Path) -> None:
    path, mark = tmp_path / "step-000000001.pt", tmp_path / "executed"
    torch.save({"format": checkpoints.FORMAT, "step": 1, "model": _Attack(mark)}, path)
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoints.read(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the attack is one
    assert mark.exists()
