"""YOLO-World reads a grounding JSON: RESULT FILE IMAGES."""

import json
import sys
from pathlib import Path

from tests.consumers.openmmlab import bare, without_compiled_operators

without_compiled_operators()
bare("mmyolo", "mmyolo.datasets", "yolo_dataset", "yolo_dataset.datasets")

from yolo_dataset.datasets.yolov5_mixed_grounding import YOLOv5MixedGroundingDataset  # noqa: E402

result, file, images = sys.argv[1:]
dataset = YOLOv5MixedGroundingDataset(
    data_root="",
    ann_file=file,
    data_prefix={"img": images},
    filter_cfg={"filter_empty_gt": False, "min_size": 32},
    pipeline=[],
)
found = []
for info in (dataset.get_data_info(i) for i in range(len(dataset))):
    instances = info["instances"]
    found.append(
        {
            "image": info["img_path"].removeprefix(images + "/"),
            "size": [info["width"], info["height"]],
            "boxes": [instance["bbox"] for instance in instances],
            "phrases": [info["texts"][instance["bbox_label"]][0] for instance in instances],
        }
    )
Path(result).write_text(json.dumps(found))
