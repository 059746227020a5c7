"""Recall of phrases, and of those who do not look or do not read."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from mdetr_model.examples import Reference
from mdetr_model.phrase_grounding import (
    NEVER,
    blind_recalls,
    first_right,
    ranks_of_phrases,
    recalls,
)
from schemas import Phrase

LEFT, RIGHT, BOTH = (0.0, 0.0, 50.0, 100.0), (50.0, 0.0, 100.0, 100.0), (0.0, 0.0, 100.0, 100.0)


def boxes(*found: tuple[float, ...]) -> Tensor:
    return torch.tensor(found)


def test_the_place_of_the_first_right_box() -> None:
    ranked = boxes(RIGHT, LEFT, BOTH)
    assert first_right(ranked, boxes(RIGHT)) == 0
    assert first_right(ranked, boxes(LEFT)) == 1
    assert first_right(ranked, boxes(LEFT, RIGHT)) == 0
    assert first_right(ranked[:1], boxes(LEFT)) == NEVER
    # Exactly half is enough; a hair less is not.
    assert first_right(boxes(BOTH), boxes(LEFT)) == 0
    assert first_right(boxes(BOTH), boxes((0.0, 0.0, 49.9, 100.0))) == NEVER


def reference(*phrases: tuple[list[int], list[tuple[float, ...]]]) -> Reference:
    token_map = torch.zeros(len(phrases), 256, dtype=torch.bool)
    for row, (tokens, _) in zip(token_map, phrases, strict=True):
        row[tokens] = True
    found = [Phrase([(0, 1)], "", [], list(of)) for _, of in phrases]
    return Reference((100, 200), found, token_map)


def test_queries_are_ranked_by_the_words_of_each_phrase() -> None:
    """In pixels of each picture; phrases without boxes or tokens are not counted."""
    logits = torch.full((1, 3, 256), -5.0)
    logits[0, 0, 1] = logits[0, 1, 2] = logits[0, 2, 255] = 5.0
    logits[0, 2, 2] = 4.0  # names the second phrase, too, but not as surely as the other one
    left, right = [0.125, 0.5, 0.25, 1.0], [0.375, 0.5, 0.25, 1.0]
    outputs = SimpleNamespace(logits=logits, pred_boxes=torch.tensor([[left, [0.9] * 4, right]]))
    of = reference(([1], [LEFT]), ([2, 3], [RIGHT]), ([2], []), ([], [LEFT]))
    assert ranks_of_phrases(outputs, [of]) == [0, 1]


def test_recalls() -> None:
    assert recalls([0, 0, 3, NEVER]) == {"recall@1": 0.5, "recall@5": 0.75, "recall@10": 0.75}
    assert recalls([]) == {}


def test_blind_recalls() -> None:
    """Two objects a picture: one of them at random is right half of the time."""
    left, right = np.array([[0, 0, 0.4, 1]]), np.array([[0.6, 0, 1, 1]])
    # A box that is nearly that of another phrase is the same object.
    again = left + np.array([[0, 0, 0.01, 0]])
    phrases = [("a", left), ("a", right), ("a", again), ("b", left), ("b", right)]
    training = np.concatenate([right, right, left])
    found = blind_recalls(phrases, training)
    assert found == {"random object": pytest.approx(0.5), "frequent box": pytest.approx(2 / 5)}
    assert blind_recalls([], training) == {}
