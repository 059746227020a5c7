"""The lock of a folder: one holder, others wait or give up, and a killed one does not count."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.io.folder_lock import FolderLockError, folder_lock

HOLD = """
import sys, time
from pathlib import Path
from pipelines.io.folder_lock import folder_lock
with folder_lock(Path(sys.argv[1]), lambda: None):
    print("held", flush=True)
    time.sleep(600)
"""


class BusyError(Exception):
    pass


def refuse() -> None:
    raise BusyError


def test_second_holder_may_give_up_and_a_killed_one_does_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "a/b"
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(BusyError), folder_lock(folder, refuse):
            pass
        with folder_lock(tmp_path / "a", refuse):  # another folder
            pass
        waited = time.monotonic()
        with folder_lock(folder, lambda: os.kill(process.pid, signal.SIGKILL)):
            assert time.monotonic() - waited < 300
    with folder_lock(folder, refuse):
        pass


def test_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(FolderLockError, match=r"cannot write to .*file/below: Not a directory"),
        folder_lock(tmp_path / "file/below", refuse),
    ):
        pass


def test_lock_is_released_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path, refuse):
        raise ZeroDivisionError
    with folder_lock(tmp_path, refuse):
        pass
