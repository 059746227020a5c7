"""mmdetection reads ODVG lines: RESULT FILE IMAGES [LABEL_MAP]."""

import json
import sys
from pathlib import Path

from tests.consumers.openmmlab import replace_compiled_operators

replace_compiled_operators()

from mmdet.datasets.odvg import ODVGDataset  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

init_default_scope("mmdet")
result, file, images, *label_map = sys.argv[1:]
dataset = ODVGDataset(
    data_root="",
    ann_file=file,
    data_prefix={"img": images},
    label_map_file=label_map[0] if label_map else None,
    return_classes=True,
    pipeline=[
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True, "box_type": None},
        {"type": "PackDetInputs", "meta_keys": ("img_path", "ori_shape", "text")},
    ],
)
samples = []
for number in range(len(dataset)):
    phrases = dataset.get_data_info(number).get("phrases", {})
    sample = dataset[number]["data_samples"]
    labels = sample.gt_instances.labels.tolist()
    samples.append(
        {
            "image": sample.img_path.removeprefix(images + "/"),
            "size": sample.ori_shape[::-1],
            "text": sample.text,
            "boxes": sample.gt_instances.bboxes.tolist(),
            "labels": labels,
            "phrases": [phrases[label] for label in labels] if phrases else [],
        }
    )
Path(result).write_text(json.dumps(samples))
