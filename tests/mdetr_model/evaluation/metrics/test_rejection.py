"""Rejection of phrases that name nothing in the image."""

import pytest
import torch

from mdetr_model.evaluation.metrics.rejection import (
    PhraseScore,
    found_scores,
    rejection_metrics,
)


def test_score_of_a_phrase_is_the_best_query_s_share_for_all_its_tokens() -> None:
    shares = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.1, 0.0, 0.8]])
    phrases = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
    scores = found_scores(shares.clamp(min=1e-9).log(), phrases)
    assert scores.tolist() == pytest.approx([0.7, 0.2, 0.0], abs=1e-6)


def test_metrics_by_hand() -> None:
    """Four phrases are present, three of which are found; of two absent ones, one is not."""
    present = [PhraseScore(True, score) for score in (0.9, 0.8, 0.5, 0.2)]
    absent = [PhraseScore(False, score) for score in (0.6, 0.1)]
    assert rejection_metrics([*present, *absent]) == {
        "rejection accuracy": 0.5,
        "acceptance": 0.75,
        "balanced": 0.625,
        "AUC": 6 / 8,
    }


def test_model_that_always_finds_something_rejects_nothing() -> None:
    scores = [PhraseScore(present, 1.0) for present in (True, False, False)]
    metrics = rejection_metrics(scores)
    assert (metrics["rejection accuracy"], metrics["acceptance"], metrics["AUC"]) == (0, 1, 0.5)


def test_metrics_of_no_phrases_are_left_out() -> None:
    assert rejection_metrics([]) == {}
    assert rejection_metrics([PhraseScore(False, 0.1)]) == {"rejection accuracy": 1.0}
