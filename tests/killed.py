"""Kills a process between any two of its changes to files.

Python reports each change to its audit hooks before it happens; the process kills itself in the
hook, so that no handler of an exception runs.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink")
_WRITES = os.O_WRONLY | os.O_RDWR
_context = multiprocessing.get_context("forkserver")
# The modules of the actions, which every process would import again.
_context.set_forkserver_preload(
    ["tests.pipelines.test_output_folder", "tests.shards.test_atomic_folder"]
)


def run_until_change(
    number: int, folder: Path, action: Callable[..., Any], *arguments: Any
) -> bool:
    """Runs a module's function in a new process; returns whether that was killed.

    Args:
        number: the process is killed just before the change of this number, from 0 on.
        folder: changes of files elsewhere are not counted.
        action: the function.
        arguments: what it is called with.
    """
    process = _context.Process(target=_run, args=(number, str(folder), action, arguments))
    process.start()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode != 0


def _run(number: int, folder: str, action: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    seen = 0

    def hook(event: str, values: tuple[Any, ...]) -> None:
        nonlocal seen
        opened_to_write = event == "open" and isinstance(values[2], int) and values[2] & _WRITES
        if not (event in _CHANGES or opened_to_write) or not _is_below(folder, values[0]):
            return
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    sys.addaudithook(hook)
    action(*arguments)


def _is_below(folder: str, path: Any) -> bool:
    # shutil removes by names relative to an open folder.
    return isinstance(path, str) and (not path.startswith("/") or path.startswith(folder))
