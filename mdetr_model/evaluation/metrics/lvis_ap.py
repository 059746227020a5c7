"""Average precision of LVIS (arXiv 1908.03195), a federated dataset.

Only few classes are annotated for an image. A class is evaluated on its positive images and on its
verified negative images: its detections on other images are ignored. On images that are not
exhaustively annotated with a class, its unmatched detections are ignored. The AP is computed by
pycocotools. As in LVIS's own tool, the 300 highest-scoring boxes of an image count. MDETR's paper
reports "fixed AP" instead (arXiv 2102.01066), over the 10,000 best boxes of each class.
"""

import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from schemas.decodable import decodable

#: Maximum detections per image, over all classes.
MAX_DETECTIONS = 300
#: The name of the mean over the classes of each frequency.
AP_BY_FREQUENCY = {"r": "APr", "c": "APc", "f": "APf"}

Precision = npt.NDArray[np.float64]


class LvisImage(msgspec.Struct):
    """An image with its negative classes, and its not exhaustively annotated ones."""

    id: int
    width: int
    height: int
    neg_category_ids: list[int] = []
    not_exhaustive_category_ids: list[int] = []


class LvisAnnotation(msgspec.Struct):
    """An object with its box as xywh."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]


class LvisCategory(msgspec.Struct):
    """A class, and whether it is rare, common or frequent in the training images."""

    id: int
    name: str
    frequency: Literal["r", "c", "f"]


class LvisGroundTruth(msgspec.Struct):
    """The ground truth in the layout of LVIS's files."""

    images: list[LvisImage]
    annotations: list[LvisAnnotation]
    categories: list[LvisCategory]


class ClassDetection(NamedTuple):
    """A detected object of a class, its box as xyxy in pixels of its image."""

    category_id: int
    score: float
    box: Sequence[float]


def read_lvis(path: Path) -> LvisGroundTruth:
    """Reads an annotation file of LVIS.

    Raises:
        ValueError: it is not in LVIS's layout, has no classes, duplicate classes or images, or an
            annotation of an unknown class or image.
        OSError: it cannot be read.
    """
    try:
        truth = msgspec.json.decode(path.read_bytes(), type=decodable(LvisGroundTruth))
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not in the layout of LVIS: {error}") from error
    if not truth.categories:
        raise ValueError(f"{path} has no classes")
    category_ids = {category.id for category in truth.categories}
    image_ids = {image.id for image in truth.images}
    if len(category_ids) < len(truth.categories):
        raise ValueError(f"{path} has two classes of one id")
    if len(image_ids) < len(truth.images):
        raise ValueError(f"{path} has two images of one id")
    for annotation in truth.annotations:
        if annotation.image_id not in image_ids or annotation.category_id not in category_ids:
            raise ValueError(
                f"{path} has an annotation of class {annotation.category_id} in image "
                f"{annotation.image_id}, which it does not have"
            )
    return truth


def lvis_ap(
    truth: LvisGroundTruth, detections: Iterable[tuple[int, Sequence[ClassDetection]]]
) -> dict[str, float]:
    """Returns AP over IoU 0.50 to 0.95, AP50, AP75, and AP of rare, common and frequent classes.

    They are means over the classes that any image shows; a mean over no class is left out. Only the
    300 best boxes of an image count. All objects of an image without an entry are missed.

    Args:
        truth: the images, objects and classes.
        detections: the id of each image, and the detections there.

    Raises:
        ValueError: an image is unknown or comes twice, a box is of an unknown class, or a score or
            a box is not finite.
    """
    evaluated = evaluated_classes(truth)
    category_ids = {category.id for category in truth.categories}
    detections_of_class: dict[int, list[dict[str, Any]]] = defaultdict(list)
    seen_images: set[int] = set()
    for image_id, image_detections in detections:
        if image_id not in evaluated:
            raise ValueError(f"image {image_id} is not in the ground truth")
        if image_id in seen_images:
            raise ValueError(f"image {image_id} comes twice")
        seen_images.add(image_id)
        for category_id, score, box in image_detections:
            if category_id not in category_ids:
                raise ValueError(f"image {image_id}: there is no class {category_id}")
            if not all(map(isfinite, (score, *box))):
                raise ValueError(f"image {image_id}: a box {box} with the score {score}")
        best = sorted(image_detections, key=lambda detection: -detection.score)[:MAX_DETECTIONS]
        for category_id, score, (x0, y0, x1, y1) in best:
            if category_id in evaluated[image_id]:
                bbox = [x0, y0, x1 - x0, y1 - y0]
                detections_of_class[category_id].append(
                    {"image_id": image_id, "bbox": bbox, "score": score}
                )
    return _class_means(truth.categories, _precisions(truth, evaluated, detections_of_class))


def evaluated_classes(truth: LvisGroundTruth) -> dict[int, set[int]]:
    """Returns the ids of the classes that are evaluated on each image."""
    evaluated = {image.id: set(image.neg_category_ids) for image in truth.images}
    for annotation in truth.annotations:
        evaluated[annotation.image_id].add(annotation.category_id)
    return evaluated


def _precisions(
    truth: LvisGroundTruth,
    evaluated: dict[int, set[int]],
    detections: dict[int, list[dict[str, Any]]],
) -> dict[int, Precision]:
    """Returns precisions (IoU, recall) of each class that any image shows."""
    annotations: dict[int, list[LvisAnnotation]] = defaultdict(list)
    for annotation in truth.annotations:
        annotations[annotation.category_id].append(annotation)
    images: dict[int, list[LvisImage]] = defaultdict(list)
    for image in truth.images:
        for category_id in evaluated[image.id]:
            images[category_id].append(image)
    return {
        category_id: _class_precision(
            images[category_id], category_id, class_annotations, detections[category_id]
        )
        for category_id, class_annotations in annotations.items()
    }


def _class_precision(
    images: list[LvisImage],
    category_id: int,
    annotations: list[LvisAnnotation],
    detections: list[dict[str, Any]],
) -> Precision:
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
    results = [{"category_id": 1, **detection} for detection in detections]
    not_exhaustive = {
        image.id for image in images if category_id in image.not_exhaustive_category_ids
    }
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results) if results else COCO(), "bbox")
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        for image_result in filter(None, evaluation.evalImgs):
            if image_result["image_id"] in not_exhaustive:
                image_result["dtIgnore"] |= image_result["dtMatches"] == 0
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[:, :, 0, 0, 0]


def _class_means(
    categories: Sequence[LvisCategory], precisions: dict[int, Precision]
) -> dict[str, float]:
    shown = [category for category in categories if category.id in precisions]
    if not shown:
        return {}
    stacked = np.stack([precisions[category.id] for category in shown])  # (classes, IoU, recall)
    means = {"AP": stacked.mean(), "AP50": stacked[:, 0].mean(), "AP75": stacked[:, 5].mean()}
    for frequency, name in AP_BY_FREQUENCY.items():
        has_frequency = [category.frequency == frequency for category in shown]
        if any(has_frequency):
            means[name] = stacked[has_frequency].mean()
    return {name: float(value) for name, value in means.items()}
