"""Experiment trackers: Weights & Biases and Trackio, whose packages have the same functions."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """The run of a tracker."""

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        """Records values after a step."""

    def finish(self) -> None:
        """Ends the run."""


def start_trackers(
    names: Sequence[str], project: str, output: Path, config: dict[str, Any]
) -> list[Tracker]:
    """Starts a run of each tracker, with the name of the run's folder.

    Trackers read the environment: ``WANDB_MODE=offline`` keeps a run on this machine, for example.

    Args:
        names: "wandb" and "trackio".
        project: the name under which they list the run.
        output: the run's folder.
        config: the run's configuration, which they record.

    Raises:
        ValueError: a package is not installed, or a tracker cannot start its run.
    """
    trackers: list[Tracker] = []
    for name in names:
        # Trackio's folder is set by the environment alone.
        options = {"dir": str(output)} if name == "wandb" else {}
        try:
            package = importlib.import_module(name)
            trackers.append(
                package.init(project=project, name=output.resolve().name, config=config, **options)
            )
        except ModuleNotFoundError as error:
            raise ValueError(
                f"logging.trackers has {name}, which is not installed: pip install {error.name}"
            ) from error
        except Exception as error:  # each package has its own, which share no base
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(f"the tracker {name} does not start: {reason}") from error
    return trackers
