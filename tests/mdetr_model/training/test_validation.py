"""Validation during training: the score that models are compared by."""

import math

import pytest

from mdetr_model.training.validation import mean_score


def test_score_is_the_mean_of_the_splits() -> None:
    grounding = {"val 0 recall@1": 0.5, "val 0 recall@5": 0.9, "val 1 recall@1": 0.7}
    assert mean_score(grounding) == pytest.approx(0.6)
    line = {"kind": "validation", "step": 7, "testdev accuracy": 0.25}
    assert mean_score(line) == 0.25


def test_splits_without_a_metric_have_no_best_model() -> None:
    assert mean_score({}) == mean_score({"val recall@all": 1.0}) == -math.inf
