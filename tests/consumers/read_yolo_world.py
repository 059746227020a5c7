"""YOLO-World reads a grounding JSON: RESULT FILE PICTURES."""

import json
import sys
from pathlib import Path

from tests.consumers.openmmlab import bare, without_compiled_operators

without_compiled_operators()
bare("mmyolo", "mmyolo.datasets", "yolo_world", "yolo_world.datasets")

from yolo_world.datasets.yolov5_mixed_grounding import YOLOv5MixedGroundingDataset  # noqa: E402

result, file, pictures = sys.argv[1:]
dataset = YOLOv5MixedGroundingDataset(
    data_root="",
    ann_file=file,
    data_prefix={"img": pictures},
    filter_cfg={"filter_empty_gt": False, "min_size": 32},
    pipeline=[],
)
found = []
for info in (dataset.get_data_info(i) for i in range(len(dataset))):
    instances = info["instances"]
    found.append(
        {
            "picture": info["img_path"].removeprefix(pictures + "/"),
            "size": [info["width"], info["height"]],
            "boxes": [instance["bbox"] for instance in instances],
            "phrases": [info["texts"][instance["bbox_label"]][0] for instance in instances],
        }
    )
Path(result).write_text(json.dumps(found))
