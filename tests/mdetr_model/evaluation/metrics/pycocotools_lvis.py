"""AP of LVIS by pycocotools, a class at a time and without a limit on detections: the oracle."""

import io
from collections import defaultdict
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mdetr_model.evaluation.metrics.class_detections import ClassDetections
from mdetr_model.evaluation.metrics.lvis_ap import (
    LvisAnnotation,
    LvisGroundTruth,
    LvisImage,
    evaluated_classes,
)


def pycocotools_ap(truth: LvisGroundTruth, detections: ClassDetections) -> list[float]:
    """Returns AP, AP50, AP75, and AP of rare, common and frequent classes; -1 of no class."""
    by_class = precisions(truth, detections)
    shown = [category for category in truth.categories if category.id in by_class]
    stacked = np.stack([by_class[category.id] for category in shown])  # (classes, IoU, recall)
    values = [stacked.mean(), stacked[:, 0].mean(), stacked[:, 5].mean()]
    for letter in "rcf":
        has_frequency = [category.frequency == letter for category in shown]
        values.append(stacked[has_frequency].mean() if any(has_frequency) else -1)
    return [float(value) for value in values]


def precisions(truth: LvisGroundTruth, detections: ClassDetections) -> dict[int, Any]:
    """Returns precisions (IoU, recall) of each class that any image shows."""
    evaluated = evaluated_classes(truth)
    annotations: dict[int, list[LvisAnnotation]] = defaultdict(list)
    for annotation in truth.annotations:
        annotations[annotation.category_id].append(annotation)
    images: dict[int, list[LvisImage]] = defaultdict(list)
    for image in truth.images:
        for category_id in evaluated[image.id]:
            images[category_id].append(image)
    return {
        category_id: class_precision(
            images[category_id],
            category_id,
            class_annotations,
            detections.take(
                (detections.category_ids == category_id)
                & np.isin(detections.image_ids, [image.id for image in images[category_id]])
            ),
        )
        for category_id, class_annotations in annotations.items()
    }


def class_precision(
    images: list[LvisImage],
    category_id: int,
    annotations: list[LvisAnnotation],
    detections: ClassDetections,
) -> Any:
    """Returns precisions (IoU, recall) of one class on the images where it is evaluated."""
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": image.id} for image in images],
        "annotations": [
            {
                "id": number,
                "image_id": annotation.image_id,
                "category_id": 1,
                "bbox": list(annotation.bbox),
                "area": annotation.bbox[2] * annotation.bbox[3],
                "iscrowd": 0,
            }
            for number, annotation in enumerate(annotations, start=1)
        ],
        "categories": [{"id": 1, "name": "the class"}],
    }
    results = [
        {"image_id": image_id, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
        for image_id, score, (x0, y0, x1, y1) in zip(
            detections.image_ids.tolist(),
            detections.scores.tolist(),
            detections.boxes.tolist(),
            strict=True,
        )
    ]
    not_exhaustive = {
        image.id for image in images if category_id in image.not_exhaustive_category_ids
    }
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results) if results else COCO(), "bbox")
        evaluation.params.maxDets = [max(len(results), 1)]
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        for image_result in filter(None, evaluation.evalImgs):
            if image_result["image_id"] in not_exhaustive:
                image_result["dtIgnore"] |= image_result["dtMatches"] == 0
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[:, :, 0, 0, 0]
