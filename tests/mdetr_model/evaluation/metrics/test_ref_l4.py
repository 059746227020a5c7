"""Ref-L4's accuracies."""

import pytest

from mdetr_model.evaluation.metrics.ref_l4 import BestBox, accuracies

RESULTS = [BestBox(0.5, 127.9), BestBox(0.76, 128), BestBox(0.95, 256), BestBox(0.91, 256.1)]


def test_accuracies_of_thresholds_that_must_be_exceeded() -> None:
    table = accuracies(RESULTS)["all"]
    assert table["acc@0.5"] == 3 / 4
    assert table["acc@0.75"] == 3 / 4
    assert table["acc@0.9"] == 2 / 4
    # 0.5 exceeds none of the ten thresholds, 0.76 six, 0.95 nine, 0.91 nine.
    assert table["mAcc"] == pytest.approx((0 + 6 + 9 + 9) / 40)


def test_sizes_are_square_roots_of_areas() -> None:
    tables = accuracies(RESULTS)
    assert tables.keys() == {"all", "small", "medium", "large"}
    assert tables["small"]["acc@0.5"] == 0
    assert tables["medium"]["acc@0.9"] == 1 / 2
    assert tables["large"]["mAcc"] == 9 / 10
    assert accuracies(RESULTS[:1]).keys() == {"all", "small"}
    assert accuracies([]) == {}
