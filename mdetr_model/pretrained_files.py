"""Files of pretrained models: whether they can be used, and which of them cannot."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig

from mdetr_model.modeling import MdetrConfig


@contextmanager
def pretrained_files(source: str | Path) -> Iterator[None]:
    """Turns any error of what is loaded within the block into one that names the file.

    Args:
        source: a folder, or the name of a model in the hub.

    Raises:
        OSError: a file is missing or cannot be opened.
        ValueError: one is damaged, or of another model.
    """
    try:
        yield
    except Exception as error:  # transformers raises many kinds for a damaged file
        damaged = _damaged_file(Path(source))
        if isinstance(error, OSError) and damaged is None:
            raise
        reason = f"{type(error).__name__}: {error}"
        if damaged is not None:
            reason = f"{damaged.name} is damaged or incomplete ({reason})"
        raise ValueError(f"the model in {source} cannot be read: {reason}") from error


def check_is_mdetr(source: str | Path) -> None:
    """Checks that a folder or hub name has a model of ours.

    transformers would take the weights of any model that have the right names, none of them too,
    and random weights for the others.

    Raises:
        OSError: there is no such model.
        ValueError: it is of another type.
    """
    model_type = PreTrainedConfig.get_config_dict(source)[0].get("model_type")
    if model_type != MdetrConfig.model_type:
        raise ValueError(
            f"config.json is of a model of type {model_type!r}, not {MdetrConfig.model_type!r}"
        )


def _damaged_file(folder: Path) -> Path | None:
    """Returns the first file of a folder that cannot be parsed."""
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            return path
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError:
            return path
    return None
