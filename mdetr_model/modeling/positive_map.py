"""Which tokens of a caption name which box: from character spans to rows of a boolean map.

Made once, in the data workers, from the offsets that a fast tokenizer gives; training never
tokenizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

# The last of them means "no object".
COLUMNS = 256
Rules = Literal["paper", "mdetr"]


@dataclass(frozen=True, slots=True)
class PositiveMap:
    """The tokens of N boxes.

    Attributes:
        rows: (N, 256) boolean; a box all of whose spans were dropped has no token.
        dropped: how many spans name no token: they lie behind the caption's end or the last
            column for tokens, or hold nothing but spaces.
    """

    rows: np.ndarray
    dropped: int


def positive_map(
    offsets: np.ndarray,
    spans: Sequence[Sequence[tuple[int, int]]],
    rules: Rules = "paper",
) -> PositiveMap:
    """The tokens of the boxes of one caption.

    Args:
        offsets: (T, 2) the half-open characters of each token; empty ones for special tokens.
        spans: by box, its half-open character spans.
        rules: ``paper`` takes every token that shares a character with the span and has a column
            before the last, which means "no object". ``mdetr`` is the published rule: from the
            token of the span's first character to that of its last one; where these have none, as
            spaces do, up to two characters further in are tried. So it misses the rest of a last
            character that is several tokens, and a span that goes behind the caption's end may have
            no token; and a token may have the last column.
    """
    offsets = np.asarray(offsets, np.int64).reshape(-1, 2)
    box = np.repeat(np.arange(len(spans)), [len(of_box) for of_box in spans])
    flat = np.array([span for of_box in spans for span in of_box], np.int64).reshape(-1, 2)
    find = _overlapping if rules == "paper" else _between_ends
    columns = COLUMNS - 1 if rules == "paper" else COLUMNS
    tokens = find(offsets, flat[:, 0], flat[:, 1])[:, :columns]
    rows = np.zeros((len(spans), COLUMNS), bool)
    np.logical_or.at(rows[:, : tokens.shape[1]], box, tokens)
    return PositiveMap(rows=rows, dropped=int((~tokens.any(-1)).sum()))


def _overlapping(offsets: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The tokens (S, T) that share a character with each span."""
    first, last = offsets.T
    return np.minimum(last, end[:, None]) > np.maximum(first, begin[:, None])


def _between_ends(offsets: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The tokens (S, T) from the one of each span's first character to that of its last."""
    token = np.arange(len(offsets))
    first = _first_token(offsets, begin[:, None] + [0, 1, 2])[:, None]
    last = _first_token(offsets, end[:, None] - [1, 2, 3])[:, None]
    return (first >= 0) & (first <= token) & (token <= last)


def _first_token(offsets: np.ndarray, characters: np.ndarray) -> np.ndarray:
    """The token (S,) of the first of the characters (S, 3) that has one; -1 where none has."""
    begin, end = offsets.T
    holds = (begin <= characters[..., None]) & (characters[..., None] < end)
    has_token = holds.any(-1)
    token = holds[np.arange(len(characters)), has_token.argmax(-1)].argmax(-1)
    return np.where(has_token.any(-1), token, -1)
