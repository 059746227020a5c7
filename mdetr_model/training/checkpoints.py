"""Checkpoints of a training run: written atomically, and read without executing code."""

import re
from pathlib import Path
from typing import Any

import torch

from shards import written_files
from shards.atomic import atomic_write

FORMAT = 4
_NAME = re.compile(r"step-(\d{9})\.pt")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Returns the path of a step's checkpoint."""
    return folder / f"step-{step:09d}.pt"


def step_of(path: Path) -> int:
    """Returns the step of a checkpoint, which its name states.

    Raises:
        ValueError: it is not the name of a checkpoint.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is not named like a checkpoint, such as step-000001000.pt")
    return int(match[1])


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints of a folder, the oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def find_resume_point(folder: Path, resume: str) -> Path | None:
    """Returns the checkpoint to resume from, or None for a run that starts from scratch.

    Args:
        folder: the run's own checkpoints.
        resume: "auto", "never" or a checkpoint's path, as of ``trainer.train``.

    Raises:
        ValueError: the folder has checkpoints, or later ones, that would mix with this run's; or
            the path is not that of a checkpoint.
    """
    existing = list_checkpoints(folder)
    if resume == "auto":
        return existing[-1] if existing else None
    if resume == "never":
        if existing:
            raise ValueError(f"{folder} has {existing[-1].name}: resume with --resume auto")
        return None
    step = step_of(Path(resume))
    later = [path.name for path in existing if step_of(path) > step]
    if later:
        raise ValueError(f"{folder} has later checkpoints, {', '.join(later)}: use another output")
    return Path(resume)


def write(folder: Path, step: int, state: dict[str, Any], max_checkpoints: int) -> Path:
    """Writes a checkpoint, then removes all but the latest ``max_checkpoints`` of this run.

    Checkpoints that other programs or people put into the folder stay.

    Raises:
        OSError: it cannot be written, for example because the disk is full, or would replace a file
            of others; names the file. No part of it is left, and the earlier checkpoints are
            unchanged.
    """
    path = checkpoint_path(folder, step)
    written_files.add(folder, [path.name])
    try:
        with atomic_write(path) as file:
            torch.save({"format": FORMAT, "step": step, **state}, file)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
        raise OSError(f"cannot write the checkpoint {path}: {error}") from error
    recorded = written_files.read(folder)
    names = [old.name for old in list_checkpoints(folder) if old.name in recorded]
    written_files.delete(folder, names[:-max_checkpoints])
    return path


def read(path: Path) -> dict[str, Any]:
    """Reads the state of a checkpoint to the CPU.

    Raises:
        ValueError: the file is not a checkpoint of this version.
        OSError: it cannot be read.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # any exception is possible for bytes that are not a pickle
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is not a checkpoint: {reason}") from error
    if not isinstance(state, dict) or not isinstance(state.get("format"), int):
        raise ValueError(f"{path} is not a checkpoint of a training run")
    if state["format"] != FORMAT:
        raise ValueError(
            f"{path} has format {state['format']}, this version resumes format {FORMAT}: its "
            "training differs, so resume with the version that began the run, or train again"
        )
    return state
