"""A few of many, always the same ones."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def spread(of: Sequence[T], most: int) -> list[T]:
    """At most so many items, from the middles of as many equal parts of a sequence.

    >>> spread("abcdefghi", 3), spread("ab", 3)
    (['b', 'e', 'h'], ['a', 'b'])
    """
    n = min(most, len(of))
    return [of[(2 * i + 1) * len(of) // (2 * n)] for i in range(n)]
