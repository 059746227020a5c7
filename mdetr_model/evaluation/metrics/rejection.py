"""Rejection: whether a model finds nothing for a phrase that names nothing in its image.

The score of a phrase is the probability that a query gives to all its tokens together, of the query
that gives it most. A phrase is found if its score is at least ``MIN_SCORE``. As in gRefCOCO (Liu et
al., GRES, CVPR 2023, section 3.3), accuracy is separate for phrases of no object (N-acc) and of
one (T-acc): a model that always finds something has 0 and 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

MIN_SCORE = 0.5


class PhraseScore(NamedTuple):
    """The score of a phrase, and whether the image shows what it names."""

    is_present: bool
    score: float


def found_scores(logits: Tensor, phrases: Tensor) -> Tensor:
    """Returns the score (P,) of each phrase of a caption.

    Args:
        logits: (Q, C) of the queries.
        phrases: (P, C) boolean, the tokens of each phrase.
    """
    probabilities = logits.softmax(-1)
    return (probabilities @ phrases.to(probabilities).T).amax(0)


def rejection_metrics(scores: Sequence[PhraseScore]) -> dict[str, float]:
    """Returns the metrics over all phrases, as fractions.

    ``rejection accuracy`` is the share of absent phrases that are not found, ``acceptance`` that of
    present ones that are, ``balanced`` their mean. ``AUC`` is the probability that a present
    phrase has a higher score than an absent one, for which no threshold is needed. A metric of no
    phrases is left out.
    """
    present = np.array([each.score for each in scores if each.is_present], np.float64)
    absent = np.array([each.score for each in scores if not each.is_present], np.float64)
    metrics = {}
    if len(absent):
        metrics["rejection accuracy"] = float((absent < MIN_SCORE).mean())
    if len(present):
        metrics["acceptance"] = float((present >= MIN_SCORE).mean())
    if len(present) and len(absent):
        metrics["balanced"] = sum(metrics.values()) / 2
        metrics["AUC"] = area_under_curve(present, absent)
    return metrics


def area_under_curve(present: np.ndarray, absent: np.ndarray) -> float:
    """Returns the probability that a value of ``present`` is the higher one; ties count half.

    >>> area_under_curve(np.array([0.9, 0.5]), np.array([0.5, 0.1]))
    0.875
    """
    ordered = np.sort(absent)
    lower = np.searchsorted(ordered, present, "left")
    not_higher = np.searchsorted(ordered, present, "right")
    return float((lower + not_higher).mean() / 2 / len(absent))
