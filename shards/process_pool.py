"""A pool of processes for a command that Ctrl-C may end."""

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def process_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Starts a pool of new processes; Ctrl-C ends each at once, without a traceback of it.

    Raises:
        KeyboardInterrupt: Ctrl-C, also where the executor raises another error as it handles it:
            one that was interrupted while it started cannot be shut down, for example.
    """
    try:
        with ProcessPoolExecutor(
            processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=signal.signal,
            initargs=(signal.SIGINT, signal.SIG_DFL),
        ) as pool:
            yield pool
    except Exception as error:
        if _was_interrupted(error):
            raise KeyboardInterrupt from error
        raise


def _was_interrupted(error: BaseException) -> bool:
    """Tells whether an error was raised while KeyboardInterrupt was handled."""
    context = error.__context__
    return context is not None and (
        isinstance(context, KeyboardInterrupt) or _was_interrupted(context)
    )
