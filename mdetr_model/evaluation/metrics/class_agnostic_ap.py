"""Average precision of boxes whatever they are called: are all objects found that are spoken of?

It tells how far pre-training has come, on captions with any number of boxes; by pycocotools, whose
measure it is, with one image for each caption.
"""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Boxes = npt.NDArray[np.float32]

STATISTICS = {"AP": 0, "AP50": 1, "AP75": 2, "AR@100": 8}


class Detected(NamedTuple):
    """What was found for one caption.

    Attributes:
        boxes: (Q, 4) found, as xyxy in pixels.
        scores: (Q,)
        truth: (N, 4) that it speaks of.
    """

    boxes: Boxes
    scores: npt.NDArray[np.float32]
    truth: Boxes


def class_agnostic_ap(captions: Sequence[Detected]) -> dict[str, float]:
    """AP over IoU 0.50 to 0.95, AP50, AP75 and average recall; empty without any box to find."""
    if not sum(len(of.truth) for of in captions):
        return {}
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, of in enumerate(captions):
        for box, area in zip(_xywh(of.truth), _areas(of.truth), strict=True):
            truth.append({"id": len(truth) + 1, "bbox": box, "area": area, **_of_caption(number)})
        for box, score in zip(_xywh(of.boxes), of.scores.tolist(), strict=True):
            found.append({"bbox": box, "score": score, **_of_caption(number)})
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": number} for number in range(len(captions))],
        "annotations": [{"iscrowd": 0, **annotation} for annotation in truth],
        "categories": [{"id": 1, "name": "object"}],
    }
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found) if found else COCO(), "bbox")
        evaluation.params.useCats = 0
        evaluation.params.imgIds = list(range(len(captions)))
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(evaluation.stats[place]) for name, place in STATISTICS.items()}


def _of_caption(number: int) -> dict[str, int]:
    return {"image_id": number, "category_id": 1}


def _xywh(boxes: Boxes) -> list[list[float]]:
    corners = boxes.reshape(-1, 2, 2).astype(np.float64)
    return np.concatenate([corners[:, 0], corners[:, 1] - corners[:, 0]], -1).tolist()


def _areas(boxes: Boxes) -> list[float]:
    corners = boxes.reshape(-1, 2, 2).astype(np.float64)
    return (corners[:, 1] - corners[:, 0]).prod(-1).tolist()
