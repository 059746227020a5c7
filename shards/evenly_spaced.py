"""A deterministic selection of a few items out of many."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly_spaced(items: Sequence[T], limit: int) -> list[T]:
    """Returns at most ``limit`` items: the middle one of each of ``limit`` equal parts.

    >>> evenly_spaced("abcdefghi", 3), evenly_spaced("ab", 3)
    (['b', 'e', 'h'], ['a', 'b'])
    """
    n = min(limit, len(items))
    return [items[(2 * i + 1) * len(items) // (2 * n)] for i in range(n)]
