"""Converts boxes of raw formats, and clusters boxes; see also `shards.box_overlap`."""

import numpy as np
import numpy.typing as npt

from schemas import Box


def from_xywh(x: float, y: float, w: float, h: float) -> Box:
    """Converts ``x, y, width, height`` of the raw formats to corners.

    Computed in float64 and rounded once to float32.

    >>> from_xywh(10, 20, 30, 40)
    (10.0, 20.0, 40.0, 60.0)
    """
    corners = np.array((x, y, x + w, y + h), np.float32).tolist()
    return (corners[0], corners[1], corners[2], corners[3])


def clusters(close: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Returns the connected components of a graph by its (n, n) adjacency matrix.

    Components are in the order of their first member, members in rising order.

    >>> clusters(np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], bool))
    [[0, 2], [1]]
    """
    n = len(close)
    if np.count_nonzero(close) == np.count_nonzero(close.diagonal()):  # as most often
        return [[i] for i in range(n)]
    component = [-1] * n
    result: list[list[int]] = []
    for first in range(n):
        if component[first] >= 0:
            continue
        label, members, frontier = len(result), [], [first]
        component[first] = label
        while frontier:
            i = frontier.pop()
            members.append(i)
            for j in np.flatnonzero(close[i] | close[:, i]).tolist():
                if component[j] < 0:
                    component[j] = label
                    frontier.append(j)
        result.append(sorted(members))
    return result
