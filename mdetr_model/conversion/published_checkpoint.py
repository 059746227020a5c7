"""Published MDETR checkpoints: the tensors of a model and the options of its training."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAX_LISTED_NAMES = 8


class CheckpointError(ValueError):
    """A file is not a published MDETR checkpoint, or is of a variant that cannot be converted."""


def read_checkpoint(
    path: Path, weights: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads the tensors of a checkpoint, and the options that it was trained with if it has them.

    Nothing in the file is executed: besides tensors and plain containers only the ``Namespace``
    of the options is accepted.

    Args:
        path: a ``.pth`` file.
        weights: "model" or "model_ema"; default: "model_ema" if the file has it.

    Raises:
        CheckpointError: the file is not such a checkpoint.
        OSError: the file cannot be read.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # any exception is possible for bytes that are not a pickle
        # Before the cause, torch advises to load the file without its protection.
        message = str(error).rpartition("WeightsUnpickler error:")[2].strip()
        reason = message.splitlines()[0] if message else type(error).__name__
        raise CheckpointError(f"{path}: not a PyTorch checkpoint of tensors: {reason}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a dictionary, found {type(content).__name__}")
    if weights is None:
        weights = "model" if content.get("model_ema") is None else "model_ema"
    state = content.get(weights)
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        entries = ", ".join(map(repr, list(content)[:MAX_LISTED_NAMES])) or "nothing"
        raise CheckpointError(
            f"{path}: expected tensors by name under {weights!r}, found {entries}"
        )
    args = content.get("args")
    return dict(state), vars(args) if isinstance(args, argparse.Namespace) else {}


def listed(names: Sequence[str]) -> str:
    """Lists names for an error message, the first ones and how many more there are."""
    rest = len(names) - MAX_LISTED_NAMES
    return ", ".join(names[:MAX_LISTED_NAMES]) + (f" and {rest} more" if rest > 0 else "")
