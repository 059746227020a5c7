"""A pool of processes for a command that may be interrupted or killed."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection


@contextmanager
def process_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Starts a pool of new processes; Ctrl-C ends each at once, without a traceback of it.

    They end with the process that started them, even if that is killed.

    Raises:
        KeyboardInterrupt: Ctrl-C, also where the executor raises another error as it handles it:
            one that was interrupted while it started cannot be shut down, for example.
    """
    try:
        with ProcessPoolExecutor(
            processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_prepare_process,
        ) as pool:
            yield pool
    except Exception as error:
        if _was_interrupted(error):
            raise KeyboardInterrupt from error
        raise


def _prepare_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when its parent has ended.

    Otherwise it would wait for tasks forever: it holds the other end of their pipe itself.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _was_interrupted(error: BaseException) -> bool:
    """Tells whether an error was raised while KeyboardInterrupt was handled."""
    context = error.__context__
    return context is not None and (
        isinstance(context, KeyboardInterrupt) or _was_interrupted(context)
    )
