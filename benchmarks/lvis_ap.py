"""CPU seconds of fixed AP: hotcoco and pycocotools on the same random detections.

python -m benchmarks.lvis_ap [--images 1000] [--classes 20] [--detections 2000]
"""

import argparse
import time

import msgspec
import numpy as np

from mdetr_model.evaluation.metrics.class_detections import ClassDetections
from mdetr_model.evaluation.metrics.lvis_ap import LvisGroundTruth, fixed_ap
from tests.mdetr_model.evaluation.metrics.pycocotools_lvis import pycocotools_ap


def random_case(
    images: int, classes: int, detections: int
) -> tuple[LvisGroundTruth, ClassDetections]:
    """Returns random images of three objects each, and ``detections`` boxes of each class."""
    r = np.random.default_rng(0)
    corners = r.uniform(0, 300, (3 * images, 2))
    boxes = np.column_stack([corners, r.uniform(10, 200, (3 * images, 2))])
    annotations = [
        {"image_id": i // 3 + 1, "category_id": int(r.integers(classes)) + 1, "bbox": box}
        for i, box in enumerate(boxes.tolist())
    ]
    truth = {
        "images": [
            {
                "id": i + 1,
                "width": 640,
                "height": 480,
                "neg_category_ids": r.integers(1, classes + 1, 3).tolist(),
            }
            for i in range(images)
        ],
        "annotations": annotations,
        "categories": [
            {"id": i + 1, "name": str(i), "frequency": "rcf"[i % 3]} for i in range(classes)
        ],
    }
    rows = r.integers(3 * images, size=classes * detections)
    corners = np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    return msgspec.convert(truth, LvisGroundTruth), ClassDetections(
        image_ids=rows // 3 + 1,
        category_ids=np.repeat(np.arange(1, classes + 1), detections),
        scores=r.uniform(size=len(rows)),
        boxes=corners[rows] + r.normal(0, 10, (len(rows), 4)),
    )


def main() -> None:
    """Prints the CPU seconds and AP of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--detections", type=int, default=2000)
    truth, rows = random_case(**vars(parser.parse_args()))
    start = time.process_time()
    ours = fixed_ap(truth, rows)["AP"]
    middle = time.process_time()
    theirs = pycocotools_ap(truth, rows)[0]
    end = time.process_time()
    print(f"hotcoco {middle - start:.2f} s, AP {ours:.9f}")
    print(f"pycocotools {end - middle:.2f} s, AP {theirs:.9f}")


if __name__ == "__main__":
    main()
