"""YOLO-World reads grounding JSON: RESULT IMAGES FILE [FILE ...]."""

import json
import sys
from pathlib import Path
from typing import Any

from tests.consumers.openmmlab import replace_compiled_operators, skip_package_imports

replace_compiled_operators()
skip_package_imports("mmyolo", "mmyolo.datasets", "yolo_world", "yolo_world.datasets")

from yolo_world.datasets.yolov5_mixed_grounding import YOLOv5MixedGroundingDataset  # noqa: E402

result, images, *files = sys.argv[1:]
captions: dict[str, list[dict[str, Any]]] = {}
for file in files:
    dataset = YOLOv5MixedGroundingDataset(
        data_root="",
        ann_file=file,
        data_prefix={"img": images},
        filter_cfg={"filter_empty_gt": False, "min_size": 32},
        pipeline=[],
    )
    captions[file] = [
        {
            "image": info["img_path"].removeprefix(images + "/"),
            "size": [info["width"], info["height"]],
            "boxes": [instance["bbox"] for instance in info["instances"]],
            "phrases": [info["texts"][instance["bbox_label"]][0] for instance in info["instances"]],
        }
        for info in (dataset.get_data_info(i) for i in range(len(dataset)))
    ]
Path(result).write_text(json.dumps(captions))
