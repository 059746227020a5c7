"""Types that several threads may decode at once.

msgspec describes a type when it is first used, and marks it as described before it has all fields.
A second thread that decodes the same type in this moment reads a null pointer, and the process
crashes. Beam's workers, downloads and the servers of pages have several threads.
"""

import functools
import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_lock = threading.Lock()


def decodable(layout: T) -> T:
    """Returns a type, which msgspec has described, with all types in it.

    Every struct that msgspec decodes or converts to is passed through this first.
    """
    _describe(layout)
    return layout


@functools.cache
def _describe(layout: Any) -> None:
    with _lock:
        msgspec.json.Decoder(layout)
