"""The state of a training run on disk: complete files only, and nothing in them is executed."""

import os
import re
from pathlib import Path
from typing import Any

import torch

FORMAT = 2
_NAME = re.compile(r"step-(\d{9})\.pt")


def path_of(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}.pt"


def step_of(path: Path) -> int:
    """The step of a checkpoint, from its name.

    Raises:
        ValueError: it is not the name of one.
    """
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise ValueError(f"{path} is not named like a checkpoint, step-000001000.pt for example")
    return int(found[1])


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def to_go_on_from(folder: Path, resume: str) -> Path | None:
    """The checkpoint that a run goes on from, if it is not to begin.

    Args:
        folder: of the run's own checkpoints.
        resume: "auto", "never" or a checkpoint's path, as of ``training.train``.

    Raises:
        ValueError: the folder has checkpoints, or later ones, which this run would mix with its
            own; or the path is not that of a checkpoint.
    """
    found = checkpoints(folder)
    if resume == "auto":
        return found[-1] if found else None
    if resume == "never":
        if found:
            raise ValueError(f"{folder} has {found[-1].name}: --resume auto goes on from it")
        return None
    step = step_of(Path(resume))
    later = [path.name for path in found if step_of(path) > step]
    if later:
        raise ValueError(f"{folder} has later checkpoints, {', '.join(later)}: use another output")
    return Path(resume)


def write(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Writes a checkpoint, then removes all but the latest ``keep``.

    It has its name only once it is complete on disk: one that was cut short is never taken for
    one, and the one before is still there.

    Raises:
        OSError: it cannot be written, for example for want of space; names the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, step)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, "step": step, **state}, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
        temporary.unlink(missing_ok=True)
        raise OSError(f"cannot write the checkpoint {path}: {error}") from error
    temporary.replace(path)
    for old in checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def read(path: Path) -> dict[str, Any]:
    """The state in a checkpoint, on the CPU.

    Raises:
        ValueError: the file is not a checkpoint of this version.
        OSError: it cannot be read.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # bytes that are no pickle make the unpickler raise nearly anything
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is not a checkpoint: {why}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of a training run")
    return state
