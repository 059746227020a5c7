"""Conversion and clustering of boxes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.geometry.boxes import clusters, from_xywh


@given(*[st.floats(0, 5000, allow_nan=False) for _ in range(4)])
def test_from_xywh_is_exact_in_float32(x: float, y: float, w: float, h: float) -> None:
    box = from_xywh(x, y, w, h)
    assert box == tuple(float(np.float32(number)) for number in (x, y, x + w, y + h))


@given(st.integers(0, 12).flatmap(lambda n: st.tuples(
    st.just(n), st.sets(st.tuples(st.integers(0, max(n - 1, 0)), st.integers(0, max(n - 1, 0))))
)))  # fmt: skip
def test_clusters_are_connected_components(graph: tuple[int, set[tuple[int, int]]]) -> None:
    n, edges = graph
    close = np.zeros((n, n), bool)
    for i, j in edges if n else ():
        close[i, j] = True
    reach = close | close.T | np.eye(n, dtype=bool)
    for _ in range(n):
        reach = reach @ reach
    expected = {tuple(np.flatnonzero(row).tolist()) for row in reach}
    assert clusters(close) == [list(members) for members in sorted(expected)]
