"""Maps from boxes to the tokens of a caption that name them (MDETR's ``positive_map``).

Computed once, in the data workers, from the character offsets of a fast tokenizer: the training
step never tokenizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

#: Outputs of the soft token head: positions of a caption's tokens; the last means "no object".
NUM_TOKEN_POSITIONS = 256
TokenRule = Literal["paper", "mdetr"]


@dataclass(frozen=True, slots=True)
class PositiveMap:
    """The tokens of N boxes.

    Attributes:
        rows: (N, 256) boolean; the row of a box is empty if all of its spans were dropped.
        dropped_spans: how many spans have no token: they start after the caption's end or after
            the last token position, or contain only spaces.
    """

    rows: np.ndarray
    dropped_spans: int


def positive_map(
    offsets: np.ndarray,
    spans: Sequence[Sequence[tuple[int, int]]],
    rule: TokenRule = "paper",
) -> PositiveMap:
    """Returns the tokens of the boxes of one caption.

    Args:
        offsets: (T, 2) half-open characters of each token; empty ranges for special tokens.
        spans: by box, its half-open character spans.
        rule: ``paper`` takes every token that shares a character with the span, at the positions
            before the last, which means "no object". ``mdetr`` is the rule of the published code:
            from the token of the span's first character to that of its last one; if a character has
            no token, as a space, up to two characters further inside are tried. If the last
            character has several tokens, only the first is used. It may find no token for a span
            that ends after the caption, and may use the last position.
    """
    offsets = np.asarray(offsets, np.int64).reshape(-1, 2)
    box = np.repeat(np.arange(len(spans)), [len(box_spans) for box_spans in spans])
    flat_spans = [span for box_spans in spans for span in box_spans]
    begin, end = np.array(flat_spans, np.int64).reshape(-1, 2).T
    if rule == "paper":
        tokens = _overlapping_tokens(offsets, begin, end)[:, : NUM_TOKEN_POSITIONS - 1]
    else:
        tokens = _tokens_between_ends(offsets, begin, end)[:, :NUM_TOKEN_POSITIONS]
    rows = np.zeros((len(spans), NUM_TOKEN_POSITIONS), bool)
    np.logical_or.at(rows[:, : tokens.shape[1]], box, tokens)
    return PositiveMap(rows=rows, dropped_spans=int((~tokens.any(-1)).sum()))


def _overlapping_tokens(offsets: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Returns the tokens (S, T) that share a character with each span."""
    token_begin, token_end = offsets.T
    overlaps: np.ndarray = np.minimum(token_end, end[:, None]) > np.maximum(
        token_begin, begin[:, None]
    )
    return overlaps


def _tokens_between_ends(offsets: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Returns the tokens (S, T) from that of each span's first character to that of its last."""
    token = np.arange(len(offsets))
    first = _first_token(offsets, begin[:, None] + [0, 1, 2])[:, None]
    last = _first_token(offsets, end[:, None] - [1, 2, 3])[:, None]
    return (first >= 0) & (first <= token) & (token <= last)


def _first_token(offsets: np.ndarray, characters: np.ndarray) -> np.ndarray:
    """Returns the token (S,) of the first character (S, 3) that has a token; else -1."""
    begin, end = offsets.T
    contains = (begin <= characters[..., None]) & (characters[..., None] < end)
    has_token = contains.any(-1)
    token = contains[np.arange(len(characters)), has_token.argmax(-1)].argmax(-1)
    return np.where(has_token.any(-1), token, -1)
