"""Average precision of LVIS (arXiv 1908.03195), a federated data set: images tell few classes.

A class is measured on the images that show it and on those that are known not to: what is found
of it elsewhere does not count. On images where not all of its objects are annotated, what is found
beside those that are counts neither for nor against. The measure itself is pycocotools'. As LVIS's
own tool has it, the 300 best boxes of an image count; MDETR's paper counts the 10,000 best of each
class instead ("fixed AP", arXiv 2102.01066), which gives other numbers.
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

#: Boxes of an image that count, over all classes: the best ones.
MOST_FOUND = 300
#: The name of the mean over the classes of each frequency.
BY_FREQUENCY = {"r": "APr", "c": "APc", "f": "APf"}


class Image(msgspec.Struct):
    """An image, the classes that it does not show, and those that it may show more of."""

    id: int
    width: int
    height: int
    neg_category_ids: list[int] = []
    not_exhaustive_category_ids: list[int] = []


class Annotation(msgspec.Struct):
    """An object, with its box as x, y, width and height."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]


class Class(msgspec.Struct):
    """A class, and whether it is rare, common or frequent in the training images."""

    id: int
    name: str
    frequency: Literal["r", "c", "f"]


class Lvis(msgspec.Struct):
    """The truth, as LVIS's files have it."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Class]


class FoundBox(NamedTuple):
    """A box that was found, as xyxy in pixels of its image."""

    category: int
    score: float
    box: Sequence[float]


def read_lvis(path: Path) -> Lvis:
    """The truth that a file holds.

    Raises:
        ValueError: it is not in LVIS's layout, has no classes, a class or an image twice, or an
            annotation of one that it does not have.
        OSError: it cannot be read.
    """
    try:
        truth = msgspec.json.decode(path.read_bytes(), type=Lvis)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not in the layout of LVIS: {error}") from error
    if not truth.categories:
        raise ValueError(f"{path} has no classes to ask for")
    classes, images = ({of.id for of in table} for table in (truth.categories, truth.images))
    if len(classes) < len(truth.categories):
        raise ValueError(f"{path} has two classes of one id")
    if len(images) < len(truth.images):
        raise ValueError(f"{path} has two images of one id")
    for of in truth.annotations:
        if of.image_id not in images or of.category_id not in classes:
            where = f"class {of.category_id} in image {of.image_id}"
            raise ValueError(f"{path} has an annotation of {where}, which it does not have")
    return truth


def lvis_ap(truth: Lvis, found: Iterable[tuple[int, Sequence[FoundBox]]]) -> dict[str, float]:
    """AP over IoU 0.50 to 0.95, AP50, AP75, and AP of rare, common and frequent classes.

    Means over the classes that any image shows; a mean over no class is left out. Of an image
    the 300 best boxes count, and objects of an image that is not among the found are missed.

    Args:
        found: the id of each image, and what was found there.

    Raises:
        ValueError: an image is unknown or comes twice, a box is of an unknown class, or a score or
            a box is not finite.
    """
    judged = judged_classes(truth)
    names = {of.id for of in truth.categories}
    boxes: dict[int, list[dict[str, Any]]] = defaultdict(list)
    seen: set[int] = set()
    for image, of_image in found:
        if image not in judged:
            raise ValueError(f"image {image} is none of those that are to be judged")
        if image in seen:
            raise ValueError(f"image {image} comes twice")
        seen.add(image)
        for of in of_image:
            if of.category not in names:
                raise ValueError(f"image {image}: there is no class {of.category}")
            if not all(map(isfinite, (of.score, *of.box))):
                raise ValueError(f"image {image}: a box {of.box} with the score {of.score}")
        for of in sorted(of_image, key=lambda of: -of.score)[:MOST_FOUND]:
            if of.category in judged[image]:
                x0, y0, x1, y1 = of.box
                bbox = [x0, y0, x1 - x0, y1 - y0]
                boxes[of.category].append({"image_id": image, "bbox": bbox, "score": of.score})
    precisions = _precisions(truth, judged, boxes)
    return _means(truth.categories, precisions)


def judged_classes(truth: Lvis) -> dict[int, set[int]]:
    """The classes that are judged on each image."""
    judged = {image.id: set(image.neg_category_ids) for image in truth.images}
    for annotation in truth.annotations:
        judged[annotation.image_id].add(annotation.category_id)
    return judged


def _precisions(
    truth: Lvis, judged: dict[int, set[int]], found: dict[int, list[dict[str, Any]]]
) -> dict[int, npt.NDArray[np.float64]]:
    """Precisions (IoU, recall) of each class that any image shows."""
    shown: dict[int, list[Annotation]] = defaultdict(list)
    for annotation in truth.annotations:
        shown[annotation.category_id].append(annotation)
    images: dict[int, list[Image]] = defaultdict(list)
    for image in truth.images:
        for category in judged[image.id]:
            images[category].append(image)
    return {
        category: _precision(images[category], category, of_class, found[category])
        for category, of_class in shown.items()
    }


def _precision(
    images: list[Image],
    category: int,
    shown: list[Annotation],
    found: list[dict[str, Any]],
) -> npt.NDArray[np.float64]:
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": of.id} for of in images],
        "annotations": [
            {
                "id": number,
                "image_id": of.image_id,
                "category_id": 1,
                "bbox": list(of.bbox),
                "area": of.bbox[2] * of.bbox[3],
                "iscrowd": 0,
            }
            for number, of in enumerate(shown, start=1)
        ],
        "categories": [{"id": 1, "name": "the class"}],
    }
    partly = {of.id for of in images if category in of.not_exhaustive_category_ids}
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
        results = coco.loadRes([{"category_id": 1, **of} for of in found]) if found else COCO()
        evaluation = COCOeval(coco, results, "bbox")
        evaluation.params.maxDets = [MOST_FOUND]
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        for of_image in filter(None, evaluation.evalImgs):
            if of_image["image_id"] in partly:
                of_image["dtIgnore"] |= of_image["dtMatches"] == 0
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[:, :, 0, 0, 0]


def _means(
    classes: Sequence[Class], precisions: dict[int, npt.NDArray[np.float64]]
) -> dict[str, float]:
    measured = [of for of in classes if of.id in precisions]
    if not measured:
        return {}
    of_class = np.stack([precisions[of.id] for of in measured])  # (classes, IoU, recall)
    means = {"AP": of_class.mean(), "AP50": of_class[:, 0].mean(), "AP75": of_class[:, 5].mean()}
    for frequency, name in BY_FREQUENCY.items():
        chosen = [of.frequency == frequency for of in measured]
        if any(chosen):
            means[name] = of_class[chosen].mean()
    return {name: float(value) for name, value in means.items()}
