import sys
import time
from pathlib import Path

import psutil
import pytest

from shards.process_pool import process_pool
from tests.processes import has_ended, started


def test_results_are_those_of_the_function() -> None:
    with process_pool(2) as pool:
        assert list(pool.map(abs, [-1, 2, -3])) == [1, 2, 3]


def test_error_of_an_interrupted_executor_is_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), process_pool(2):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("cannot join thread before it is started")


def test_other_errors_are_raised_as_they_are() -> None:
    with pytest.raises(ValueError, match="of the block"), process_pool(2):
        try:
            raise KeyError("handled")
        except KeyError:
            raise ValueError("of the block") from None


WAITS_FOR_TASKS = """
import time
from shards.process_pool import process_pool

if __name__ == "__main__":
    with process_pool(2) as pool:
        list(pool.map(abs, range(100)))
        print(flush=True)
        time.sleep(600)
"""


def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(WAITS_FOR_TASKS)
    with started([sys.executable, program]) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= 2
        parent.kill()
        deadline = time.monotonic() + 300
        while not all(has_ended(child.pid) for child in children):
            assert time.monotonic() < deadline, "the processes are still running"
            time.sleep(0.01)
