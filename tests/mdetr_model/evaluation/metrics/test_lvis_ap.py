"""LVIS's average precision, against that of its own tool."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from mdetr_model.evaluation.evaluate_lvis import random_objects
from mdetr_model.evaluation.metrics import lvis_ap as metric
from mdetr_model.evaluation.metrics.class_detections import ClassDetections
from mdetr_model.evaluation.metrics.lvis_ap import (
    MAX_DETECTIONS_OF_CLASS,
    MAX_DETECTIONS_OF_IMAGE,
    LvisGroundTruth,
    fixed_ap,
    lvis_ap,
    read_lvis,
)
from tests.mdetr_model.evaluation.metrics.pycocotools_lvis import pycocotools_ap


class ClassDetection(NamedTuple):
    category_id: int
    score: float
    box: Sequence[float]


Detections = list[tuple[int, list[ClassDetection]]]


def columns(detections: Detections) -> ClassDetections:
    rows = [(image, *detection) for image, boxes in detections for detection in boxes]
    return ClassDetections(
        image_ids=np.array([row[0] for row in rows], np.int64),
        category_ids=np.array([row[1] for row in rows], np.int64),
        scores=np.array([row[2] for row in rows], np.float64),
        boxes=np.array([row[3] for row in rows], np.float64).reshape(-1, 4),
    )


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
    assert any(len(boxes) > MAX_DETECTIONS_OF_IMAGE for _, boxes in detections) == (seed == 0)
    metrics = lvis_ap(msgspec.convert(truth, LvisGroundTruth), columns(detections))
    assert [metrics.get(name, -1) for name in METRICS] == pytest.approx(PUBLISHED[seed], abs=1e-9)


def uncapped_ap(truth: dict[str, Any], detections: ClassDetections) -> list[float]:
    """Returns the metrics of faster-coco-eval, which counts all detections of LVIS."""
    annotations = [
        {"id": number, "area": a["bbox"][2] * a["bbox"][3], "iscrowd": 0}
        | a
        | {"bbox": list(a["bbox"])}
        for number, a in enumerate(truth["annotations"], start=1)
    ]
    coco = COCO({**truth, "annotations": annotations})
    corners = detections.boxes
    results = coco.loadRes(
        [
            {"image_id": image, "category_id": category, "score": score, "bbox": box}
            for image, category, score, box in zip(
                detections.image_ids.tolist(),
                detections.category_ids.tolist(),
                detections.scores.tolist(),
                np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).tolist(),
                strict=True,
            )
        ]
    )
    evaluation = COCOeval_faster(
        coco, results, "bbox", lvis_style=True, print_function=lambda *_: None
    )
    evaluation.params.maxDets = [len(detections.scores)]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]  # IoU, recall, class
    shown = precision[0, 0] >= 0
    frequency = np.array([category["frequency"] for category in truth["categories"]])

    def mean(table: Any, classes: Any) -> float:
        return float(table[..., classes].mean()) if classes.any() else -1

    return [
        mean(precision, shown),
        mean(precision[0], shown),
        mean(precision[5], shown),
        *(mean(precision, shown & (frequency == letter)) for letter in "rcf"),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_fixed_ap_equals_two_uncapped_evaluations(seed: int) -> None:
    content, detections = random_case(seed)
    truth, rows = msgspec.convert(content, LvisGroundTruth), columns(detections)
    ours = [fixed_ap(truth, rows).get(name, -1) for name in METRICS]
    assert ours == pytest.approx(uncapped_ap(content, rows), abs=1e-9)
    assert ours == pytest.approx(pycocotools_ap(truth, rows), abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_standard_ap_equals_pycocotools_on_the_best_300_of_each_image(seed: int) -> None:
    content, detections = random_case(seed)
    truth = msgspec.convert(content, LvisGroundTruth)
    best = [
        (image, sorted(boxes, key=lambda detection: -detection.score)[:300])
        for image, boxes in detections
    ]
    ours = [lvis_ap(truth, columns(detections)).get(name, -1) for name in METRICS]
    assert ours == pytest.approx(pycocotools_ap(truth, columns(best)), abs=1e-9)


def test_fixed_ap_counts_the_best_of_each_class_in_all_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Class 1 has more detections than count, many in images where it is not evaluated."""
    assert MAX_DETECTIONS_OF_CLASS == 10_000
    monkeypatch.setattr(metric, "MAX_DETECTIONS_OF_CLASS", 500)
    content, _ = random_case(3)
    r, count = np.random.default_rng(0), 900
    images = [image["id"] for image in content["images"]]
    sizes = np.array([annotation["bbox"] for annotation in content["annotations"]])
    boxes = np.column_stack([sizes[:, :2], sizes[:, :2] + sizes[:, 2:]])
    rows = ClassDetections(
        image_ids=r.choice(images, count),
        category_ids=np.array([1] * 700 + [2] * 200),
        scores=r.permutation(count) / count,
        boxes=boxes[r.integers(len(boxes), size=count)] + r.normal(0, 3, (count, 4)),
    )
    worst_counted = np.sort(rows.scores[:700])[-500]
    counted = rows.take((rows.category_ids == 2) | (rows.scores >= worst_counted))
    truth = msgspec.convert(content, LvisGroundTruth)
    ours = [fixed_ap(truth, rows).get(name, -1) for name in METRICS]
    expected = uncapped_ap(content, counted)
    assert ours == pytest.approx(expected, abs=1e-9)
    assert expected != pytest.approx(uncapped_ap(content, rows), abs=1e-6)
    assert ours[0] != pytest.approx(lvis_ap(truth, rows)["AP"], abs=1e-6)


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
    assert lvis_ap(two_images(), columns([right]))["AP"] == pytest.approx(1)
    assert lvis_ap(two_images(), columns([right, (2, [WRONG])]))["AP"] == pytest.approx(0.5)
    elsewhere = (2, [ClassDetection(8, 0.9, (60, 60, 90, 90))])
    assert lvis_ap(two_images(), columns([right, elsewhere]))["AP"] == pytest.approx(1)


def test_unmatched_boxes_on_not_exhaustive_images_are_ignored() -> None:
    flat, outside = (60, 60, 60, 90), (250, 250, 290, 290)
    detections = [
        (1, [RIGHT, WRONG, ClassDetection(7, 0.8, flat), ClassDetection(7, 0.7, outside)])
    ]
    assert lvis_ap(two_images(), columns(detections))["AP"] < 0.5
    partly = two_images(not_exhaustive_category_ids=[7])
    assert lvis_ap(partly, columns(detections))["AP"] == pytest.approx(1)


def test_objects_of_images_without_detections_are_missed() -> None:
    assert lvis_ap(two_images(), columns([])) == {"AP": 0, "AP50": 0, "AP75": 0, "APr": 0}


@pytest.mark.parametrize(
    ("detections", "message"),
    [
        ([(3, [RIGHT])], "image 3 is not in the ground truth"),
        ([(1, [RIGHT._replace(category_id=9)])], "image 1: there is no class 9"),
        ([(1, [RIGHT._replace(score=float("nan"))])], "with the score nan"),
        ([(1, [RIGHT._replace(box=(1, 2, float("inf"), 4))])], "image 1: a box"),
    ],
)
def test_invalid_detections_are_refused(detections: Detections, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lvis_ap(two_images(), columns(detections))


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
