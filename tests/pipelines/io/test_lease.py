"""The lease of an output in a bucket: who holds it, and how it is taken over."""

import datetime
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipelines.io import beam_files, conditional_files, lease
from pipelines.io.beam_files import atomic_write, scratch_folder
from pipelines.io.conditional_files import StoredFile
from pipelines.io.lease import (
    Holder,
    JobLeftError,
    Lease,
    LeaseError,
    LeaseHeldError,
    LeaseLostError,
    check,
    held,
    release,
)
from pipelines.output_folder import JOURNAL, OutputFolder
from pipelines.recipe import load
from tests.buckets import store
from tests.processes import started

TERM = 6.0  # seconds
NUMBERS = itertools.count()
HOLD = """
import sys, time
from pipelines.io import lease
lease.TERM = float(sys.argv[2])
with lease.held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def output(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An output that no other test uses, whose leases have a short term."""
    monkeypatch.setattr(lease, "TERM", TERM)
    yield f"{bucket}/{next(NUMBERS)}"


@contextmanager
def held_elsewhere(output: str) -> Iterator["subprocess.Popen[str]"]:
    """Runs a process that holds the lease."""
    with started([sys.executable, "-c", HOLD, output, TERM]) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process


def test_second_build_is_refused_at_once_with_the_first_one_and_its_start(output: str) -> None:
    with held_elsewhere(output) as process:
        began = time.monotonic()
        with pytest.raises(LeaseHeldError) as refused, held(output):
            pass
        assert time.monotonic() - began < TERM  # without waiting for its end
        today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
        assert str(refused.value).startswith(
            f"another build is writing to {output}: process {process.pid} of "
        )
        assert f"since {today} " in str(refused.value)
        time.sleep(1.5 * TERM)  # it is renewed meanwhile
        with pytest.raises(LeaseHeldError), held(output):
            pass


def test_lease_of_a_killed_build_is_taken_over_after_its_term(output: str) -> None:
    with held_elsewhere(output):
        pass
    killed = time.monotonic()
    while True:
        try:
            with held(output) as taken:
                check(taken)
                break
        except LeaseHeldError:
            time.sleep(0.05)
    # The last renewal was about a sixth of the term before.
    assert time.monotonic() - killed > TERM * 2 / 3
    assert not store(output).exists(taken.path)


def test_build_that_sleeps_loses_its_lease_and_stops_when_it_wakes_up(output: str) -> None:
    with held_elsewhere(output) as sleeping:
        os.kill(sleeping.pid, signal.SIGSTOP)
        time.sleep(TERM + 1)
        with held(output) as taken:
            os.kill(sleeping.pid, signal.SIGCONT)
            assert sleeping.wait(120) == 1  # its block was interrupted
            assert sleeping.stdout is not None and "LeaseLostError: " in sleeping.stdout.read()
            check(taken)
    assert not store(output).exists(taken.path)


def write_lease(output: str, token: str, term: float = TERM) -> Lease:
    """Writes a lease that no thread renews, in place of any other."""
    written = Lease(output, token)
    stored = conditional_files.read(written.path)
    content = lease._Content(token=token, holder=Holder.this_process(), term=term)
    version = stored.version if stored else None
    conditional_files.write(written.path, lease._encode(content), version)
    return written


def test_file_that_is_complete_after_the_lease_was_lost_is_not_renamed(output: str) -> None:
    path, first = f"{output}/train.tar", write_lease(output, "a" * 32)
    with (
        pytest.raises(LeaseLostError, match=f"another build has taken {output} over"),
        atomic_write(path, scratch_folder(output, first), first) as file,
    ):
        file.write(b"of the first build")
        write_lease(output, "b" * 32)
    assert store(output).find(output) == [f"{output.partition('://')[2]}/{lease.NAME}"]


def test_file_that_was_complete_before_the_lease_was_lost_is_not_renamed(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first build sleeps between `check` and renaming, and its successor has begun."""
    path, first = f"{output}/train.tar", write_lease(output, "a" * 32)

    def check_and_sleep(of_first: Lease) -> None:
        monkeypatch.setattr(beam_files, "check", check)
        check(of_first)
        second = write_lease(output, "b" * 32)
        OutputFolder(output, load("demo"), second).prepare()

    monkeypatch.setattr(beam_files, "check", check_and_sleep)
    with (
        pytest.raises(LeaseLostError, match=f"another build has taken {output} over"),
        atomic_write(path, scratch_folder(output, first), first) as file,
    ):
        file.write(b"of the first build")
    names = {name.rpartition("/")[2] for name in store(output).find(output)}
    assert names == {lease.NAME, JOURNAL}


def test_released_lease_is_gone_and_another_one_stays(output: str) -> None:
    with pytest.raises(ZeroDivisionError), held(output):
        raise ZeroDivisionError
    assert not store(output).exists(f"{output}/{lease.NAME}")
    with pytest.raises(KeyboardInterrupt), held(output) as mine:
        raise KeyboardInterrupt
    assert not store(output).exists(mine.path)
    with pytest.raises(LeaseLostError), held(output):
        other = write_lease(output, "b" * 32)
        time.sleep(TERM)  # interrupted by the thread that renews
    check(other)


def test_lease_of_a_detached_build_is_held_until_its_job_releases_it(output: str) -> None:
    with held(output, detach=True) as mine:
        pass
    with pytest.raises(LeaseHeldError, match="it left a job running"), held(output):
        pass
    check(mine)
    release(mine)
    assert not store(output).exists(mine.path)
    with held(output) as other:
        release(mine)  # the last step of a job may run twice
        check(other)


def test_lease_of_a_job_that_is_left_running_is_held_until_the_job_releases_it(
    output: str,
) -> None:
    with pytest.raises(JobLeftError), held(output) as mine:
        release(mine, is_left=False)  # while the launcher waits, the lease is its own
        check(mine)
        raise JobLeftError
    check(mine)
    with pytest.raises(LeaseHeldError, match="it left a job running"), held(output):
        pass
    release(mine, is_left=False)
    assert not store(output).exists(mine.path)


def set_clock_of_store_back(monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    read = conditional_files.read

    def read_with_another_clock(path: str) -> StoredFile | None:
        stored = read(path)
        return stored and stored._replace(written=stored.written - datetime.timedelta(hours=hours))

    monkeypatch.setattr(conditional_files, "read", read_with_another_clock)


def test_lease_that_seems_old_because_clocks_differ_is_not_taken_over(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock_of_store_back(monkeypatch, hours=1)
    with held(output), pytest.raises(LeaseHeldError), held(output):
        pass


def test_lease_of_a_detached_build_is_taken_over_after_a_day_without_further_delay(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lease(output, "a" * 32, lease.DETACHED_TERM)
    set_clock_of_store_back(monkeypatch, hours=25)
    with held(output) as taken:
        check(taken)


def test_object_that_no_build_wrote_is_an_error(output: str) -> None:
    path = f"{output}/{lease.NAME}"
    store(output).pipe_file(path, b"{}")
    with pytest.raises(LeaseError, match="is not the lease of a build"), held(output):
        pass
    assert store(output).cat_file(path) == b"{}"
