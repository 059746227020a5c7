"""LVIS's average precision, against that of its own tool."""

import json
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from mdetr_model.evaluation.evaluate_lvis import random_objects
from mdetr_model.evaluation.metrics.lvis_ap import (
    MAX_DETECTIONS,
    ClassDetection,
    LvisGroundTruth,
    lvis_ap,
    read_lvis,
)

Detections = list[tuple[int, list[ClassDetection]]]

#: The metrics that ``LVISEval`` of lvis 0.5.3 has for ``random_case(seed)``, to ten decimals; -1
#: for a frequency that no class has.
PUBLISHED = {
    0: (0.1349672927, 0.1742178202, 0.1356819772, 0.146039604, 0.124360011, 0.1981459536),
    1: (0.2076417789, 0.3228235578, 0.227539278, 0.2334181867, 0.1799631277, 0.1837676146),
    2: (0.2501612011, 0.3598907983, 0.2461111313, 0.1875310842, 0.3114817617, 0.2834405941),
    5: (0.1790979098, 0.195819582, 0.195819582, -1.0, 0.2524752475, 0.1424092409),
    11: (0.236350385, 0.3662266227, 0.204950495, 0.2302970297, 0.2239768977, 0.2466171617),
}
METRICS = ("AP", "AP50", "AP75", "APr", "APc", "APf")


def random_case(seed: int) -> tuple[dict[str, Any], Detections]:
    """Returns random images, and detections on most of them; on some more than the maximum."""
    r = Random(seed)
    classes = r.randint(3, 9)
    categories = [
        {"id": number + 1, "name": f"c{number}", "frequency": r.choice("rcf")}
        for number in range(classes)
    ]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    detections: Detections = []
    for image in range(1, r.randint(5, 25)):
        width, height = r.choice([(640, 480), (320, 200)])
        objects = []
        for _ in range(r.randint(0, 7)):
            category = r.randint(1, classes)
            x, y = r.uniform(0, width * 0.7), r.uniform(0, height * 0.7)
            w, h = r.uniform(10, width * 0.3), r.uniform(10, height * 0.3)
            objects.append((category, (x, y, w, h)))
        shown = {category for category, _ in objects}
        absent = [c for c in range(1, classes + 1) if c not in shown and r.random() < 0.4]
        partly = [c for c in shown if r.random() < 0.3]
        images.append(
            {
                "id": image,
                "width": width,
                "height": height,
                "neg_category_ids": absent,
                "not_exhaustive_category_ids": partly,
            }
        )
        for category, box in objects:
            annotations.append({"image_id": image, "category_id": category, "bbox": box})
        if r.random() >= 0.9:
            continue
        boxes = []
        for category, box in objects:
            for _ in range(r.randint(0, 3)):
                s = r.choice([2, 8, 40])
                x, y = box[0] + r.uniform(-s, s), box[1] + r.uniform(-s, s)
                w, h = max(1, box[2] + r.uniform(-s, s)), max(1, box[3] + r.uniform(-s, s))
                category_id = category if r.random() < 0.8 else r.randint(1, classes)
                boxes.append(ClassDetection(category_id, r.random(), (x, y, x + w, y + h)))
        for _ in range(r.choice([0, 5, 10, 400 if seed % 5 == 0 else 3])):
            category_id, score = r.randint(1, classes), r.random() * 0.8
            x, y = r.uniform(0, width * 0.7), r.uniform(0, height * 0.7)
            w, h = r.uniform(5, width * 0.5), r.uniform(5, height * 0.5)
            boxes.append(ClassDetection(category_id, score, (x, y, x + w, y + h)))
        detections.append((image, boxes))
    return {"images": images, "annotations": annotations, "categories": categories}, detections


@pytest.mark.parametrize("seed", PUBLISHED)
def test_metrics_equal_those_of_lvis_eval(seed: int) -> None:
    truth, detections = random_case(seed)
    assert any(len(boxes) > MAX_DETECTIONS for _, boxes in detections) == (seed == 0)
    metrics = lvis_ap(msgspec.convert(truth, LvisGroundTruth), detections)
    assert [metrics.get(name, -1) for name in METRICS] == pytest.approx(PUBLISHED[seed], abs=1e-9)


def two_images(**fields: Any) -> LvisGroundTruth:
    """Class 7 is positive in image 1 and negative in image 2; class 8 is not annotated."""
    truth = {
        "images": [
            {"id": 1, "width": 100, "height": 100, **fields},
            {"id": 2, "width": 100, "height": 100, "neg_category_ids": [7]},
        ],
        "annotations": [{"image_id": 1, "category_id": 7, "bbox": [10, 10, 20, 20]}],
        "categories": [
            {"id": 7, "name": "cup", "frequency": "r"},
            {"id": 8, "name": "mug", "frequency": "f"},
        ],
    }
    return msgspec.convert(truth, LvisGroundTruth)


RIGHT = ClassDetection(7, 0.5, (10, 10, 30, 30))
WRONG = ClassDetection(7, 0.9, (60, 60, 90, 90))


def test_class_counts_on_images_that_show_or_exclude_it() -> None:
    right = (1, [RIGHT])
    assert lvis_ap(two_images(), [right])["AP"] == pytest.approx(1)
    assert lvis_ap(two_images(), [right, (2, [WRONG])])["AP"] == pytest.approx(0.5)
    elsewhere = (2, [ClassDetection(8, 0.9, (60, 60, 90, 90))])
    assert lvis_ap(two_images(), [right, elsewhere])["AP"] == pytest.approx(1)


def test_unmatched_boxes_on_not_exhaustive_images_are_ignored() -> None:
    flat, outside = (60, 60, 60, 90), (250, 250, 290, 290)
    detections = [
        (1, [RIGHT, WRONG, ClassDetection(7, 0.8, flat), ClassDetection(7, 0.7, outside)])
    ]
    assert lvis_ap(two_images(), detections)["AP"] < 0.5
    partly = two_images(not_exhaustive_category_ids=[7])
    assert lvis_ap(partly, detections)["AP"] == pytest.approx(1)


def test_objects_of_images_without_detections_are_missed() -> None:
    assert lvis_ap(two_images(), []) == {"AP": 0, "AP50": 0, "AP75": 0, "APr": 0}


@pytest.mark.parametrize(
    ("detections", "message"),
    [
        ([(1, []), (1, [])], "image 1 comes twice"),
        ([(3, [])], "image 3 is not in the ground truth"),
        ([(1, [RIGHT._replace(category_id=9)])], "image 1: there is no class 9"),
        ([(1, [RIGHT._replace(score=float("nan"))])], "with the score nan"),
        ([(1, [RIGHT._replace(box=(1, 2, float("inf"), 4))])], "image 1: a box"),
    ],
)
def test_invalid_detections_are_refused(detections: Detections, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lvis_ap(two_images(), detections)


CUP = {"id": 1, "name": "cup", "frequency": "r"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": []}, "has no classes"),
        ({"images": 3}, "not in the layout of LVIS"),
        ({"categories": [{"id": 1, "name": "cup", "frequency": "x"}]}, "not in the layout of LVIS"),
        ({"categories": [CUP, {**CUP, "name": "mug"}]}, "two classes of one id"),
        ({"images": [{"id": 1, "width": 9, "height": 9}] * 2}, "two images of one id"),
        ({"annotations": [{"image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4]}]}, "image 5"),
    ],
)
def test_invalid_annotation_files_are_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": [CUP], **change}))
    with pytest.raises(ValueError, match=message):
        read_lvis(path)


def test_random_objects_are_right_half_of_the_time() -> None:
    """Of two objects of two classes, in thirty images."""
    images = [{"id": number, "width": 100, "height": 100} for number in range(30)]
    boxes = {1: [10, 10, 20, 20], 2: [60, 60, 20, 20]}
    annotations = [
        {"image_id": number, "category_id": category, "bbox": box}
        for number in range(30)
        for category, box in boxes.items()
    ]
    classes = [{"id": number, "name": "x", "frequency": "c"} for number in boxes]
    content = {"images": images, "annotations": annotations, "categories": classes}
    truth = msgspec.convert(content, LvisGroundTruth)
    assert 0.1 < lvis_ap(truth, random_objects(truth))["AP"] < 0.6
