"""A data loader that reproduces the behavior of the published one, as a baseline.

It reads a folder of images and one COCO-style JSON of all pairs, which pycocotools loads into
memory. For each item, the data worker decodes the image at full size, resizes it, samples crops
until one contains all boxes, resizes it again, converts it to a normalized float tensor, and
tokenizes the caption.
"""

import contextlib
import io
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch import Tensor
from torch.utils.data import Dataset
from transformers import BatchEncoding, PreTrainedTokenizerBase

from schemas import Sample

SCALES = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
LONGEST = 1333
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

Target = dict[str, Any]


def write(folder: Path, samples: Iterable[tuple[Sample, bytes]]) -> None:
    """Writes the images, and ``pairs.json`` with one image entry per pair."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[Target] = []
    annotations: list[Target] = []
    for sample, image in samples:
        name = sample.key.replace("/", "_") + ".jpg"
        (folder / "images" / name).write_bytes(image)
        for caption in sample.captions:
            images.append(
                {
                    "id": len(images),
                    "file_name": name,
                    "width": sample.width,
                    "height": sample.height,
                    "caption": caption.text,
                    "dataset_name": "mixed",
                    "tokens_negative": caption.tokens_negative,
                }
            )
            for region in caption.regions:
                x0, y0, x1, y1 = region.box
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": len(images) - 1,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": region.area or (x1 - x0) * (y1 - y0),
                        "iscrowd": int(region.crowd),
                        "category_id": region.category,
                        "tokens_positive": region.spans,
                    }
                )
    content = {"images": images, "annotations": annotations, "categories": []}
    (folder / "pairs.json").write_text(json.dumps(content), encoding="utf-8")


class PublishedDataset(Dataset[tuple[Tensor, Target]]):
    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        self._images = folder / "images"
        self._tokenizer = tokenizer
        with contextlib.redirect_stdout(io.StringIO()):
            self._coco = COCO(str(folder / "pairs.json"))
        self._ids = sorted(self._coco.imgs)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, item: int) -> tuple[Tensor, Target]:
        id_ = self._ids[item]
        annotations = self._coco.loadAnns(self._coco.getAnnIds(id_))
        [row] = self._coco.loadImgs(id_)
        image = Image.open(self._images / row["file_name"]).convert("RGB")
        annotations = [a for a in annotations if not a["iscrowd"]]
        boxes = torch.as_tensor([a["bbox"] for a in annotations], dtype=torch.float32)
        boxes = boxes.reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 0::2].clamp_(min=0, max=image.width)
        boxes[:, 1::2].clamp_(min=0, max=image.height)
        tokenized = self._tokenizer(row["caption"], return_tensors="pt")
        target: Target = {
            "boxes": boxes,
            "caption": row["caption"],
            "labels": torch.tensor([a["category_id"] for a in annotations]),
            "area": torch.tensor([a["area"] for a in annotations]),
            "iscrowd": torch.tensor([a["iscrowd"] for a in annotations]),
            "positive_map": _positive_map(tokenized, [a["tokens_positive"] for a in annotations]),
            "orig_size": torch.tensor([image.height, image.width]),
            "dataset_name": row["dataset_name"],
        }
        image, boxes = _augment(image, target["boxes"])
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        pixels = pixels.sub_(MEAN).div_(STD)
        low, high = boxes[:, :2], boxes[:, 2:]
        target["boxes"] = torch.cat([(low + high) / 2, high - low], 1) / torch.tensor(
            [image.width, image.height, image.width, image.height]
        )
        return pixels, target


def _augment(image: Image.Image, boxes: Tensor) -> tuple[Image.Image, Tensor]:
    if random.random() < 0.5:
        return _resize(image, boxes, random.choice(SCALES), LONGEST)
    image, boxes = _resize(image, boxes, random.choice((400, 500, 600)))
    image, boxes = _crop(image, boxes)
    return _resize(image, boxes, random.choice(SCALES), LONGEST)


def _resize(
    image: Image.Image, boxes: Tensor, shortest: int, longest: float = float("inf")
) -> tuple[Image.Image, Tensor]:
    short, long = sorted(image.size)
    if long / short * shortest > longest:
        shortest = round(longest * short / long)
    if short == shortest:
        return image, boxes
    sides = shortest, int(shortest * long / short)
    size = sides if image.width < image.height else sides[::-1]
    across, down = size[0] / image.width, size[1] / image.height
    scaled = boxes * torch.tensor([across, down, across, down])
    return image.resize(size, Image.Resampling.BILINEAR), scaled


def _crop(image: Image.Image, boxes: Tensor) -> tuple[Image.Image, Tensor]:
    """Returns the first random crop that contains all boxes, or the hundredth."""
    for _ in range(100):
        width = random.randint(min(384, image.width), min(image.width, LONGEST))
        height = random.randint(min(384, image.height), min(image.height, LONGEST))
        left = int(torch.randint(0, image.width - width + 1, (1,)))
        top = int(torch.randint(0, image.height - height + 1, (1,)))
        cropped = image.crop((left, top, left + width, top + height))
        moved = boxes - torch.tensor([left, top, left, top])
        inside = torch.min(moved.reshape(-1, 2, 2), torch.tensor([width, height])).clamp(min=0)
        if bool((inside[:, 1] > inside[:, 0]).all()):
            break
    return cropped, inside.reshape(-1, 4)


def _positive_map(tokenized: BatchEncoding, spans: list[list[tuple[int, int]]]) -> Tensor:
    positive_map = torch.zeros(len(spans), 256)
    for row, region_spans in enumerate(spans):
        for begin, end in region_spans:
            first = next((t for i in range(3) if (t := tokenized.char_to_token(begin + i))), None)
            last = next((t for i in range(1, 4) if (t := tokenized.char_to_token(end - i))), None)
            if first is not None and last is not None:
                positive_map[row, first : last + 1] = 1
    return positive_map / (positive_map.sum(-1)[:, None] + 1e-6)


def collate(items: list[tuple[Tensor, Target]]) -> tuple[Tensor, Tensor, list[Target]]:
    """Returns images padded to a common size, and their masks, True on the padding."""
    height, width = (max(pixels.shape[side] for pixels, _ in items) for side in (1, 2))
    batch = torch.zeros(len(items), 3, height, width)
    mask = torch.ones(len(items), height, width, dtype=torch.bool)
    for padded, masked, (pixels, _) in zip(batch, mask, items, strict=True):
        padded[:, : pixels.shape[1], : pixels.shape[2]].copy_(pixels)
        masked[: pixels.shape[1], : pixels.shape[2]] = False
    return batch, mask, [target for _, target in items]
