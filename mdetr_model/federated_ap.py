"""Average precision of LVIS (arXiv 1908.03195), a federated data set: pictures tell few classes.

A class is measured on the pictures that show it and on those that are known not to: what is found
of it elsewhere does not count. On pictures where not all of its things are annotated, what is found
beside those that are counts neither for nor against. The measure itself is pycocotools': a crowd
around the whole picture makes it pass over the boxes that it would otherwise hold to be wrong.
"""

import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

#: Boxes of a picture that count, over all classes: the best ones.
MOST_FOUND = 300
#: The name of the mean over the classes of each frequency.
BY_FREQUENCY = {"r": "APr", "c": "APc", "f": "APf"}


class Image(msgspec.Struct):
    """A picture, the classes that it does not show, and those that it may show more of."""

    id: int
    width: int
    height: int
    neg_category_ids: list[int] = []
    not_exhaustive_category_ids: list[int] = []


class Annotation(msgspec.Struct):
    """A thing, with its box as x, y, width and height."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]


class Class(msgspec.Struct):
    """A class, and whether it is rare, common or frequent in the training pictures."""

    id: int
    name: str
    frequency: Literal["r", "c", "f"]


class Lvis(msgspec.Struct):
    """The truth, as LVIS's files have it."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Class]


class FoundBox(NamedTuple):
    """A box that was found, as xyxy in pixels of its picture."""

    category: int
    score: float
    box: Sequence[float]


def read_lvis(path: Path) -> Lvis:
    """The truth that a file holds.

    Raises:
        ValueError: it is not in LVIS's layout, or has no classes or a class twice.
        OSError: it cannot be read.
    """
    try:
        truth = msgspec.json.decode(path.read_bytes(), type=Lvis)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not in the layout of LVIS: {error}") from error
    if not truth.categories:
        raise ValueError(f"{path} has no classes to ask for")
    if len({of.id for of in truth.categories}) < len(truth.categories):
        raise ValueError(f"{path} has two classes of one id")
    return truth


def federated_ap(truth: Lvis, found: Iterable[tuple[int, Sequence[FoundBox]]]) -> dict[str, float]:
    """AP over IoU 0.50 to 0.95, AP50, AP75, and AP of rare, common and frequent classes.

    Means over the classes that any picture shows; a mean over no class is left out. Of a picture
    the 300 best boxes count, and things of a picture that is not among the found are missed.

    Args:
        found: the id of each picture, and what was found there.

    Raises:
        ValueError: a picture is unknown or comes twice, or a box is of an unknown class.
    """
    judged = judged_classes(truth)
    names = {of.id: of.name for of in truth.categories}
    boxes: dict[int, list[dict[str, Any]]] = defaultdict(list)
    seen: set[int] = set()
    for image, of_image in found:
        if image not in judged:
            raise ValueError(f"picture {image} is none of those that are to be judged")
        if image in seen:
            raise ValueError(f"picture {image} comes twice")
        seen.add(image)
        for of in sorted(of_image, key=lambda of: -of.score)[:MOST_FOUND]:
            if of.category not in names:
                raise ValueError(f"picture {image}: there is no class {of.category}")
            if of.category in judged[image]:
                x0, y0, x1, y1 = of.box
                bbox = [x0, y0, x1 - x0, y1 - y0]
                boxes[of.category].append({"image_id": image, "bbox": bbox, "score": of.score})
    precisions = _precisions(truth, judged, boxes)
    return _means(truth.categories, precisions)


def judged_classes(truth: Lvis) -> dict[int, set[int]]:
    """The classes that are judged on each picture."""
    judged = {image.id: set(image.neg_category_ids) for image in truth.images}
    for annotation in truth.annotations:
        judged[annotation.image_id].add(annotation.category_id)
    return judged


def _precisions(
    truth: Lvis, judged: dict[int, set[int]], found: dict[int, list[dict[str, Any]]]
) -> dict[int, npt.NDArray[np.float64]]:
    """Precisions (IoU, recall) of each class that any picture shows."""
    shown: dict[int, list[Annotation]] = defaultdict(list)
    for annotation in truth.annotations:
        shown[annotation.category_id].append(annotation)
    pictures: dict[int, list[Image]] = defaultdict(list)
    for image in truth.images:
        for category in judged[image.id]:
            pictures[category].append(image)
    return {
        category: _precision(pictures[category], category, of_class, found[category])
        for category, of_class in shown.items()
    }


def _precision(
    pictures: list[Image],
    category: int,
    shown: list[Annotation],
    found: list[dict[str, Any]],
) -> npt.NDArray[np.float64]:
    things = [_thing(of.image_id, of.bbox, iscrowd=0) for of in shown]
    # A box that reaches beyond the picture lies within the crowd as well.
    things += [
        _thing(of.id, (-of.width, -of.height, 3 * of.width, 3 * of.height), iscrowd=1)
        for of in pictures
        if category in of.not_exhaustive_category_ids
    ]
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": of.id} for of in pictures],
        "annotations": [{"id": n, **thing} for n, thing in enumerate(things, start=1)],
        "categories": [{"id": 1, "name": "the class"}],
    }
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
        results = coco.loadRes([{"category_id": 1, **of} for of in found]) if found else COCO()
        evaluation = COCOeval(coco, results, "bbox")
        evaluation.params.maxDets = [MOST_FOUND]
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[:, :, 0, 0, 0]


def _thing(image: int, bbox: tuple[float, ...], iscrowd: int) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": 1,
        "bbox": list(bbox),
        "area": bbox[2] * bbox[3],
        "iscrowd": iscrowd,
    }


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
