"""Processes that a test starts end with it, even if the test is killed."""

import signal
import subprocess
import sys
import time

from tests.processes import REPOSITORY, has_ended, started

#: Starts a process in a separate session, as torchrun does, and prints its PID.
LEAVES_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_child_in_another_session_ends_with_the_block() -> None:
    with started([sys.executable, "-c", LEAVES_A_CHILD]) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert not has_ended(child)
    assert has_ended(child)


def test_killed_test_leaves_no_processes() -> None:
    test = f"""
from tests.processes import started
import sys
with started([sys.executable, "-c", {LEAVES_A_CHILD!r}]) as process:
    print(process.stdout.readline(), flush=True)
    process.wait()
"""
    command = [sys.executable, "-c", test]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as killed:
        assert killed.stdout is not None
        child = int(killed.stdout.readline())
        killed.kill()
    deadline = time.monotonic() + 30
    while not has_ended(child):
        assert time.monotonic() < deadline, f"process {child} is still running"
        time.sleep(0.01)


def test_interrupt_ends_a_command_where_the_suite_ignores_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with started(["sleep", "600"]) as process:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == -signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)
