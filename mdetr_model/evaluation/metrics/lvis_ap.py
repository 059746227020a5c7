"""Average precision of LVIS (arXiv 1908.03195), a federated dataset.

Only few classes are annotated for an image. A class is evaluated on its positive images and on its
verified negative images: its detections on other images are ignored. On images that are not
exhaustively annotated with a class, its unmatched detections are ignored. The AP is computed by
hotcoco.

Standard AP, as in LVIS's own tool, counts the 300 best boxes of an image, for which its classes
compete. "Fixed AP" (arXiv 2102.01066), which MDETR's paper reports, counts the 10,000 best boxes of
each class over all images, and any number of them in an image.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import hotcoco
import msgspec
import numpy as np
import numpy.typing as npt

from mdetr_model.evaluation.metrics.class_detections import (
    ClassDetections,
    best_of_classes,
    best_of_each,
)
from schemas.decodable import decodable

#: Maximum detections of standard AP: of an image, over all classes.
MAX_DETECTIONS_OF_IMAGE = 300
#: Maximum detections of fixed AP: of a class, over all images.
MAX_DETECTIONS_OF_CLASS = 10_000
#: The name of the mean over the classes of each frequency.
AP_BY_FREQUENCY = {"r": "APr", "c": "APc", "f": "APf"}


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


def lvis_ap(truth: LvisGroundTruth, detections: ClassDetections) -> dict[str, float]:
    """Returns standard AP over IoU 0.50 to 0.95, AP50, AP75, and AP of the classes by frequency.

    They are means over the classes that any image shows; a mean over no class is left out. The
    objects of an image without detections are missed.

    Raises:
        ValueError: an image or class is unknown, or a score or a box is not finite.
    """
    _check(truth, detections)
    best = best_of_each(detections.image_ids, detections.scores, MAX_DETECTIONS_OF_IMAGE)
    return _average_precision(truth, detections.take(best))


def fixed_ap(truth: LvisGroundTruth, detections: ClassDetections) -> dict[str, float]:
    """Returns the same means as `lvis_ap`, of fixed AP.

    As published, detections in images where their class is not evaluated are among the 10,000.

    Raises:
        ValueError: see `lvis_ap`.
    """
    _check(truth, detections)
    return _average_precision(truth, best_of_classes(detections, MAX_DETECTIONS_OF_CLASS))


def _average_precision(truth: LvisGroundTruth, detections: ClassDetections) -> dict[str, float]:
    """Returns the means of the average precision of all detections."""
    coco = hotcoco.COCO(_dataset(truth))
    corners = detections.boxes.astype(np.float64)
    results = np.column_stack(
        [
            detections.image_ids,
            corners[:, :2],
            corners[:, 2:] - corners[:, :2],
            detections.scores,
            detections.category_ids,
        ]
    )
    # `COCO.load_res` would count 300 detections of an image, whatever the parameters state.
    loaded = hotcoco.LVISResults(coco, results, max_dets=-1)
    evaluation = hotcoco.COCOeval(coco, loaded, "bbox", lvis_style=True)
    categories = sorted(truth.categories, key=lambda category: category.id)
    parameters = evaluation.params
    parameters.cat_ids = [category.id for category in categories]
    parameters.max_dets = [max(len(results), 1)]
    parameters.area_rng, parameters.area_rng_lbl = [[0, 1e10]], ["all"]
    evaluation.params = parameters
    evaluation.evaluate()
    evaluation.accumulate()
    assert evaluation.eval is not None  # after `accumulate`
    precisions = np.asarray(evaluation.eval["precision"])[:, :, :, 0, 0]  # IoU, recall, class
    return _class_means(precisions, [category.frequency for category in categories])


def _dataset(truth: LvisGroundTruth) -> dict[str, Any]:
    """Returns the ground truth as hotcoco reads it."""
    annotations = [
        {
            "id": number,
            "image_id": annotation.image_id,
            "category_id": annotation.category_id,
            "bbox": list(annotation.bbox),
            "area": annotation.bbox[2] * annotation.bbox[3],
            "iscrowd": 0,
        }
        for number, annotation in enumerate(truth.annotations, start=1)
    ]
    return {
        "images": msgspec.to_builtins(truth.images),
        "annotations": annotations,
        "categories": msgspec.to_builtins(truth.categories),
    }


def _check(truth: LvisGroundTruth, detections: ClassDetections) -> None:
    """Raises ValueError for an unknown image or class, and for a number that is not finite."""
    known_images = [image.id for image in truth.images]
    known_classes = [category.id for category in truth.categories]
    for unknown in detections.image_ids[~np.isin(detections.image_ids, known_images)][:1]:
        raise ValueError(f"image {unknown} is not in the ground truth")
    is_unknown = ~np.isin(detections.category_ids, known_classes)
    for image_id, category_id, *_ in zip(*detections.take(is_unknown), strict=True):
        raise ValueError(f"image {image_id}: there is no class {category_id}")
    is_finite = np.isfinite(detections.scores) & np.isfinite(detections.boxes).all(-1)
    for image_id, _, score, box in zip(*detections.take(~is_finite), strict=True):
        raise ValueError(f"image {image_id}: a box {box.tolist()} with the score {score}")


def evaluated_classes(truth: LvisGroundTruth) -> dict[int, set[int]]:
    """Returns the ids of the classes that are evaluated on each image."""
    evaluated = {image.id: set(image.neg_category_ids) for image in truth.images}
    for annotation in truth.annotations:
        evaluated[annotation.image_id].add(annotation.category_id)
    return evaluated


def _class_means(
    precisions: npt.NDArray[np.float64], frequencies: Sequence[str]
) -> dict[str, float]:
    """Returns the means over the classes that any image shows.

    Args:
        precisions: (IoU, recall, class), -1 for a class that no image shows.
        frequencies: of each class.
    """
    is_shown = precisions[0, 0] >= 0
    if not is_shown.any():
        return {}
    shown = precisions[:, :, is_shown]
    means = {"AP": shown.mean(), "AP50": shown[0].mean(), "AP75": shown[5].mean()}
    for frequency, name in AP_BY_FREQUENCY.items():
        has_frequency = np.array(frequencies)[is_shown] == frequency
        if has_frequency.any():
            means[name] = shown[:, :, has_frequency].mean()
    return {name: float(value) for name, value in means.items()}
