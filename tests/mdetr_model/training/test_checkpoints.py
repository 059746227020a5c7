"""Checkpoints: whole or not there, and nothing in them is executed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mdetr_model.training import checkpoints


class _Attack:
    """Leaves a mark if it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state = {
        "model": {"a": torch.arange(3)},
        "settings": {"seed": 1, "shards": [["x", "train", None]]},
    }
    path = checkpoints.write(tmp_path, 7, state, max_checkpoints=2)
    found = checkpoints.read(path)
    assert found["step"] == 7
    assert found["settings"] == state["settings"]
    assert torch.equal(found["model"]["a"], torch.arange(3))


def test_the_latest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100, 1000):
        checkpoints.write(tmp_path, step, {}, max_checkpoints=2)
    found = checkpoints.list_checkpoints(tmp_path)
    assert found == [
        checkpoints.checkpoint_path(tmp_path, 100),
        checkpoints.checkpoint_path(tmp_path, 1000),
    ]


def test_what_a_run_goes_on_from(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "step-000000007.pt"
    for resume in ("auto", "never"):
        assert checkpoints.find_resume_point(own, resume) is None
    assert checkpoints.find_resume_point(own, str(other)) == other
    for step in (5, 10):
        checkpoints.write(own, step, {}, max_checkpoints=2)
    assert checkpoints.find_resume_point(own, "auto") == checkpoints.checkpoint_path(own, 10)
    with pytest.raises(ValueError, match=r"step-000000010.pt: resume with --resume auto"):
        checkpoints.find_resume_point(own, "never")
    with pytest.raises(ValueError, match=r"later checkpoints, step-000000010.pt"):
        checkpoints.find_resume_point(own, str(other))
    last = checkpoints.checkpoint_path(own, 10)
    assert checkpoints.find_resume_point(own, str(last)) == last
    with pytest.raises(ValueError, match=r"last.pt is not named like a checkpoint"):
        checkpoints.find_resume_point(own, "last.pt")


def test_what_was_cut_short_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".step-000000009.pt.tmp").write_bytes(b"half")
    (tmp_path / "step-9.pt").write_bytes(b"of another program")
    assert checkpoints.list_checkpoints(tmp_path) == []
    assert checkpoints.list_checkpoints(tmp_path / "nowhere") == []


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x02."])
def test_files_that_are_none_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "step-000000001.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"step-000000001.pt is not a checkpoint"):
        checkpoints.read(path)


def test_other_files_of_torch_are_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a checkpoint of a training run of this version"):
        checkpoints.read(path)
    with pytest.raises(OSError):
        checkpoints.read(tmp_path / "missing.pt")


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    path, mark = tmp_path / "step-000000001.pt", tmp_path / "executed"
    torch.save({"format": checkpoints.FORMAT, "step": 1, "model": _Attack(mark)}, path)
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoints.read(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the attack is one
    assert mark.exists()
