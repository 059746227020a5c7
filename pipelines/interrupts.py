"""Ctrl-C and SIGTERM, the signal by which schedulers end a command: both are `KeyboardInterrupt`.

Python can handle signals in the main thread only; in another one, nothing here has an effect.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, FrameType | None], object] | int | None


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Raises `KeyboardInterrupt` in the block when SIGTERM arrives, too."""
    with _handled((signal.SIGTERM,), signal.default_int_handler):
        yield


@contextmanager
def interrupts() -> Iterator[None]:
    """Raises `KeyboardInterrupt` in the block at once, whatever holds around it."""
    with _handled(_SIGNALS, signal.default_int_handler):
        yield


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Raises `KeyboardInterrupt` at the end of the block if a signal arrived in it.

    A second one ends the block at once.
    """
    has_arrived = False

    def defer(number: int, frame: FrameType | None) -> None:
        nonlocal has_arrived
        if has_arrived:
            raise KeyboardInterrupt
        has_arrived = True

    with _handled(_SIGNALS, defer):
        yield
    if has_arrived:
        raise KeyboardInterrupt


@contextmanager
def interrupts_spare_children() -> Iterator[None]:
    """Lets the signals end this process, and not the children that the block starts.

    A terminal or a scheduler sends them to all. What is ignored while a child starts stays so in
    it, in Java's machine and Go's too. In the block this process loses them, so it must be short.
    """
    with _handled(_SIGNALS, signal.SIG_IGN):
        yield


@contextmanager
def _handled(signals: tuple[signal.Signals, ...], handler: _Handler) -> Iterator[None]:
    """Sets the handler of signals in the block, and then those that they had before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
