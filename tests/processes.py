"""Runs commands for tests, and ends all of their child processes.

A command runs in a separate session, so that a test can send a signal to all of it. What it
starts in turn is recognized by an environment variable, because some processes leave the session
(torchrun's workers do). All of them are killed when the block or the call ends, or, if the test
process is itself killed, by a watcher.

    python -m tests.processes TAG   # the watcher: waits for the end of stdin, then kills
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

REPOSITORY = Path(__file__).parents[1]
TAG_VARIABLE = "MDETR_TEST_PROCESS"
_numbers = count()


@contextmanager
def started(
    command: Sequence[object],
    *,
    env: Mapping[str, str] = MappingProxyType({}),
    cwd: Path = REPOSITORY,
    stdout: Any = subprocess.PIPE,
    stderr: Any = subprocess.STDOUT,
) -> Iterator[subprocess.Popen[str]]:
    """Starts a command, which leads a process group and has ended when the block has.

    Args:
        command: the program and its arguments.
        env: variables to add to the environment of the test.
        cwd: the folder to run in; imports find this checkout wherever that is.
        stdout, stderr: as for ``subprocess.Popen``.
    """
    tag = f"{_watched_tag()}{next(_numbers)}/"
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    # exec resets a handled signal to its default action, but lets an ignored one stay ignored, as
    # SIGINT is in a shell's background jobs.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [*map(str, command)],
            env={**os.environ, "PYTHONPATH": path, **env, TAG_VARIABLE: tag},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            kill_tagged(tag)


def run(
    command: Sequence[object],
    *,
    env: Mapping[str, str] = MappingProxyType({}),
    cwd: Path = REPOSITORY,
    timeout: float = 180,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end and returns its exit status, stdout and stderr.

    Raises:
        subprocess.TimeoutExpired: it takes longer than ``timeout`` seconds.
        AssertionError: ``check`` is set and the command fails.
    """
    with started(command, env=env, cwd=cwd, stderr=subprocess.PIPE) as process:
        stdout, stderr = process.communicate(timeout=timeout)
    assert not check or process.returncode == 0, stdout + stderr
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def kill_tagged(tag: str) -> None:
    """Kills all processes whose tag has this prefix, until there are none."""
    while tagged := [process for process in psutil.process_iter() if _has_tag(process, tag)]:
        for process in tagged:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.005)


def _has_tag(process: psutil.Process, tag: str) -> bool:
    try:
        return str(process.environ().get(TAG_VARIABLE, "")).startswith(tag)
    except psutil.Error:  # another user's, or one that has ended
        return False


def has_ended(pid: int) -> bool:
    """Returns whether a process has ended, even if its status has not been asked for."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@cache
def _watched_tag() -> str:
    """Returns the beginning of all tags of this process; starts the watcher for them."""
    tag = f"{os.getpid()}/"
    subprocess.Popen(
        [sys.executable, "-m", "tests.processes", tag],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    return tag


if __name__ == "__main__":
    sys.stdin.read()
    kill_tagged(sys.argv[1])
