"""Class-agnostic average precision."""

import numpy as np
import pytest

from mdetr_model.evaluation.metrics.class_agnostic_ap import CaptionDetections, class_agnostic_ap

TRUTH = np.array([[10, 10, 50, 60], [60, 20, 90, 80]], np.float32)


def detected(boxes: object, scores: object, truth: object = TRUTH) -> CaptionDetections:
    return CaptionDetections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(truth, np.float32).reshape(-1, 4),
    )


def test_perfect_detections() -> None:
    metrics = class_agnostic_ap([detected(TRUTH, [0.9, 0.2])] * 3)
    assert metrics == pytest.approx({"AP": 1, "AP50": 1, "AP75": 1, "AR@100": 1})


def test_half_of_the_objects_detected() -> None:
    """Precision is 1 up to a recall of a half: at 51 of the 101 recall thresholds."""
    metrics = class_agnostic_ap([detected(TRUTH[:1], [0.9])])
    assert metrics["AP"] == pytest.approx(51 / 101)
    assert metrics["AR@100"] == pytest.approx(0.5)


def test_wrong_box_of_higher_score_halves_precision() -> None:
    boxes = np.concatenate([[[0, 0, 5, 5]], TRUTH[:1]])
    metrics = class_agnostic_ap([detected(boxes, [0.9, 0.5], TRUTH[:1])])
    assert metrics["AP50"] == pytest.approx(0.5)


def test_iou_of_80_percent_counts_for_some_thresholds() -> None:
    """An IoU of 0.8 is enough for 0.50, 0.55, ... 0.80 or 0.75: six or seven of ten."""
    metrics = class_agnostic_ap([detected([[0, 0, 80, 100]], [0.9], [[0, 0, 100, 100]])])
    assert metrics["AP50"] == metrics["AP75"] == pytest.approx(1)
    assert 0.59 < metrics["AP"] < 0.71


def test_boxes_of_another_caption_do_not_count() -> None:
    """A box of another caption is a false positive."""
    one = detected(TRUTH[:1], [0.9], TRUTH[1:])
    other = detected(TRUTH[1:], [0.9], TRUTH[:1])
    assert class_agnostic_ap([one, other])["AP50"] == pytest.approx(0)


def test_no_detections_and_no_objects() -> None:
    assert class_agnostic_ap([detected([], [])])["AP"] == 0
    assert class_agnostic_ap([detected(TRUTH, [0.9, 0.1], [])]) == {}
    assert class_agnostic_ap([]) == {}
