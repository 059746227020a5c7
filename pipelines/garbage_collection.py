"""Python's garbage collector, told to wait where it only costs time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """No search for cycles inside the block, which makes millions of objects and no cycles.

    Each search walks all that is alive: it costs spaCy 10 % of its time, and a shard's millions of
    spans much more.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
