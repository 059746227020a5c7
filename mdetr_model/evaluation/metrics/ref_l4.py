"""Ref-L4 (arXiv 2406.16866): accuracy of the best box by IoU, for expressions of one object.

As in the published evaluation, a box is right if its IoU exceeds the threshold, and the size of an
object is the square root of its box's area in pixels. Accuracies by class, which it also has, are
not computed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

THRESHOLDS = (0.5, 0.75, 0.9)
MEAN_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
SMALL, LARGE = 128, 256  # an object of less is small, of more large


class BestBox(NamedTuple):
    """The IoU of the best box with the object, 0 without any, and the object's size in pixels."""

    iou: float
    size: float


def accuracies(results: Sequence[BestBox]) -> dict[str, dict[str, float]]:
    """Returns accuracies and their mean over IoU 0.50 to 0.95, "all" and by size.

    A size of no expressions is left out.
    """
    ious = np.array([result.iou for result in results], np.float64)
    sizes = np.array([result.size for result in results], np.float64)
    rows = {
        "all": np.ones(len(ious), bool),
        "small": sizes < SMALL,
        "medium": (sizes >= SMALL) & (sizes <= LARGE),
        "large": sizes > LARGE,
    }
    return {name: _accuracies(ious[of_size]) for name, of_size in rows.items() if of_size.any()}


def _accuracies(ious: npt.NDArray[np.float64]) -> dict[str, float]:
    table = {f"acc@{threshold}": float((ious > threshold).mean()) for threshold in THRESHOLDS}
    table["mAcc"] = float(np.mean([(ious > threshold).mean() for threshold in MEAN_THRESHOLDS]))
    return table
