"""Ctrl-C and SIGTERM end a command in the same way."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from subprocess import PIPE

import pytest

from pipelines.interrupts import (
    deferred_interrupts,
    interrupts,
    interrupts_spare_children,
    sigterm_interrupts,
)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers_stay() -> Iterator[None]:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_sigterm_is_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("number", SIGNALS)
def test_interrupt_is_deferred_to_the_end_of_the_block(number: int) -> None:
    is_complete = False
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():
        os.kill(os.getpid(), number)
        is_complete = True
    assert is_complete
    with deferred_interrupts():
        pass


def test_second_interrupt_is_not_deferred() -> None:
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("went on")


@pytest.mark.parametrize("number", SIGNALS)
def test_interrupt_is_not_deferred_in_an_inner_block(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), deferred_interrupts(), interrupts():
        os.kill(os.getpid(), number)
        pytest.fail("went on")


def test_error_in_the_block_comes_before_a_deferred_interrupt() -> None:
    with pytest.raises(ZeroDivisionError), deferred_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        raise ZeroDivisionError


def test_children_that_are_started_meanwhile_go_on() -> None:
    echo = [sys.executable, "-c", "import sys; [print(line, flush=True) for line in sys.stdin]"]
    with interrupts_spare_children():
        child = subprocess.Popen(echo, stdin=PIPE, stdout=PIPE, text=True)
    with child:
        for number in SIGNALS:
            child.send_signal(number)
        output, _ = child.communicate("after the signals")
    assert output.strip() == "after the signals" and child.returncode == 0
