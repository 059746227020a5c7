"""Class-agnostic average precision of detecting all objects that a caption names.

It measures the progress of pre-training, on captions with any number of boxes. It is computed by
pycocotools, with one image for each caption.
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

# Indices of COCOeval.stats.
STATISTICS = {"AP": 0, "AP50": 1, "AP75": 2, "AR@100": 8}


class CaptionDetections(NamedTuple):
    """The detections for one caption, and the ground truth.

    Attributes:
        boxes: (Q, 4) predicted boxes, as xyxy in pixels.
        scores: (Q,) scores of the predicted boxes.
        truth: (N, 4) ground-truth boxes.
    """

    boxes: Boxes
    scores: npt.NDArray[np.float32]
    truth: Boxes


def class_agnostic_ap(captions: Sequence[CaptionDetections]) -> dict[str, float]:
    """Returns AP over IoU 0.50 to 0.95, AP50, AP75 and average recall; empty without any truth."""
    if not sum(len(caption.truth) for caption in captions):
        return {}
    truth: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for number, caption in enumerate(captions):
        ids = {"image_id": number, "category_id": 1}
        for box in _xywh(caption.truth):
            annotation = {"id": len(truth) + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            truth.append(annotation | ids)
        for box, score in zip(_xywh(caption.boxes), caption.scores.tolist(), strict=True):
            detections.append({"bbox": box, "score": score} | ids)
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": number} for number in range(len(captions))],
        "annotations": truth,
        "categories": [{"id": 1, "name": "object"}],
    }
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections) if detections else COCO(), "bbox")
        evaluation.params.useCats = 0
        evaluation.params.imgIds = list(range(len(captions)))
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(evaluation.stats[index]) for name, index in STATISTICS.items()}


def _xywh(boxes: Boxes) -> list[list[float]]:
    corners = boxes.reshape(-1, 2, 2).astype(np.float64)
    xywh: list[list[float]] = np.concatenate(
        [corners[:, 0], corners[:, 1] - corners[:, 0]], -1
    ).tolist()
    return xywh
