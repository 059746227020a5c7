"""Grounds a caption in an image: the objects that the caption refers to, as a list and a table."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from mdetr_model.modeling import MdetrForGrounding, MdetrProcessor
from schemas.limits import MAX_IMAGE_PIXELS


@dataclass(frozen=True, slots=True)
class GroundedObject:
    """An object that the caption refers to.

    Attributes:
        phrase: the words of the caption that name it; may be empty.
        spans: their half-open character offsets.
        box: xyxy in pixels.
        score: 0 to 1.
    """

    phrase: str
    spans: tuple[tuple[int, int], ...]
    box: tuple[float, float, float, float]
    score: float


def open_image(path: Path) -> Image.Image:
    """Reads an image in RGB, with its EXIF orientation applied.

    Raises:
        OSError: there is no such file, or it is not an image.
        ValueError: it has more than ``MAX_IMAGE_PIXELS``, is corrupted, or has 32 bits per pixel,
            whose range is unknown.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise ValueError(f"{path}: {image.width} x {image.height} pixels are too many")
            if image.mode in ("I", "F"):
                raise ValueError(f"{path}: pixels of 32 bits; 8 or 16 can be read")
            return _to_8_bits(ImageOps.exif_transpose(image)).convert("RGB")
    # Pillow raises the last two for corrupted chunks and EXIF data.
    except (Image.DecompressionBombError, SyntaxError, struct.error) as error:
        raise ValueError(f"{path}: {error}") from error


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scales an image of 16 bits per pixel, which conversion to RGB would clip to white."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


@torch.inference_mode()
def ground(
    image: Image.Image,
    caption: str,
    model: MdetrForGrounding,
    processor: MdetrProcessor,
    threshold: float,
) -> list[GroundedObject]:
    """Returns the objects of a score above ``threshold``, best first."""
    inputs = processor(images=image, text=[caption], return_tensors="pt").to(model.device)
    [result] = processor.post_process_grounded_object_detection(
        model(**inputs),
        threshold=threshold,
        target_sizes=[(image.height, image.width)],
        text=[caption],
    )
    return [
        GroundedObject(phrase=phrase, spans=tuple(spans), box=tuple(box), score=score)
        for phrase, spans, box, score in zip(
            result["text_labels"],
            result["spans"],
            result["boxes"].tolist(),
            result["scores"].tolist(),
            strict=True,
        )
    ]


def format_table(objects: Iterable[GroundedObject]) -> str:
    """Formats one line for each object: score, left, top, right, bottom, phrase."""
    lines = ["score   left    top  right bottom  phrase"]
    for obj in objects:
        box = " ".join(f"{side:6.0f}" for side in obj.box)
        lines.append(f"{obj.score:5.2f} {box}  {obj.phrase or '-'}")
    return "\n".join(lines)
