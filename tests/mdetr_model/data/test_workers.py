"""The start of data workers."""

import signal
from multiprocessing import forkserver

import pytest

from mdetr_model.data import workers

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def test_fork_server_ignores_signals_from_its_first_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It imports for seconds, and an interrupted job sends the signals to all of its processes."""
    before = [signal.getsignal(number) for number in SIGNALS]
    at_start: list[object] = []

    def ensure_running() -> None:
        at_start.extend(signal.getsignal(number) for number in SIGNALS)

    monkeypatch.setattr(forkserver, "ensure_running", ensure_running)
    monkeypatch.setattr(forkserver, "set_forkserver_preload", lambda _modules: None)
    workers._start_fork_server()
    assert at_start == [signal.SIG_IGN, signal.SIG_IGN]
    assert [signal.getsignal(number) for number in SIGNALS] == before
