"""The start of data workers."""

import gc
import signal
from multiprocessing import forkserver

import pytest
from torch.utils.data import DataLoader, Dataset

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


class CollectedObjects(Dataset[int]):
    """The number of objects that a collection of the worker visits."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return len(gc.get_objects())


def test_garbage_collection_of_a_worker_leaves_the_objects_of_the_trainer() -> None:
    options = workers.worker_options([])
    [collected] = DataLoader(CollectedObjects(), num_workers=1, **options)
    assert collected < len(gc.get_objects()) / 10
