"""Pauses Python's garbage collector where there are no cycles to collect."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pauses the cyclic garbage collector in a block that creates millions of acyclic objects.

    Each search visits every live object: it costs spaCy 10 % of its time, and a shard's millions
    of spans much more.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
