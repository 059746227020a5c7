"""ultralytics reads grounding JSON and makes batches of it: RESULT FILE IMAGES."""

import importlib.metadata
import json
import sys
from pathlib import Path
from unittest import mock

from torch.utils.data import DataLoader

installed = importlib.metadata.version


def version(name: str) -> str:
    """Returns a version of torchvision, which ultralytics asks for but does not import here."""
    return "0.28.0" if name == "torchvision" else installed(name)


with mock.patch("importlib.metadata.version", version):
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import GroundingDataset

result, file, images = sys.argv[1:]
dataset = GroundingDataset(
    img_path=images,
    json_file=file,
    task="detect",
    imgsz=320,
    augment=False,
    hyp=get_cfg(),
    batch_size=2,
)
captions = [
    {
        "image": str(label["im_file"]).removeprefix(images + "/"),
        "size": label["shape"][::-1],
        "boxes": label["bboxes"].tolist(),  # center, width and height relative to the image
        "phrases": [label["texts"][int(index)][0] for index in label["cls"].ravel()],
    }
    for label in dataset.labels
]
batches = DataLoader(dataset, batch_size=2, collate_fn=dataset.collate_fn, num_workers=2)
boxes = sum(len(batch["bboxes"]) for batch in batches)
Path(result).write_text(json.dumps({"captions": captions, "boxes in batches": boxes}))
