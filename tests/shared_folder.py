"""Folders that one worker of pytest-xdist makes and all of them read."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def shared_folder(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """Returns a folder that is made once for all workers; tests must not change it.

    ``make`` gets the path of a folder that does not exist yet. Workers that need the folder
    meanwhile wait for the one that makes it.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # the base folder of the run, in which every worker has its own
    folder = root / name
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = root / f"{name}.unfinished"
            make(unfinished)
            unfinished.rename(folder)
    return folder
