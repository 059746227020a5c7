"""What a caption names in an image: as a list, as a table, and drawn."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding
from mdetr_model.modeling.processing_mdetr import MdetrProcessor
from schemas.limits import MAX_IMAGE_PIXELS

# Distinct and readable on white and on most images.
COLORS = ("#d1242f", "#1f6feb", "#1a7f37", "#8250df", "#bc4c00", "#0f7b7b", "#bf3989", "#6e5600")
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
UNNAMED = "#57606a"
MARGIN = 8


@dataclass(frozen=True, slots=True)
class Grounding:
    """One object found.

    Attributes:
        phrase: the words of the caption that name it; empty if none do.
        spans: their half-open character offsets.
        box: xyxy in pixels.
        score: 0 to 1.
    """

    phrase: str
    spans: tuple[tuple[int, int], ...]
    box: tuple[float, float, float, float]
    score: float


def open_image(path: Path) -> Image.Image:
    """The image in RGB, turned as its EXIF data says.

    Raises:
        OSError: there is no such file, or it is no image.
        ValueError: it has more than `MAX_IMAGE_PIXELS`, or is damaged, or its pixels are numbers of
            which one cannot say what white is.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise ValueError(f"{path}: {image.width} x {image.height} pixels are too many")
            if image.mode in ("I", "F"):
                raise ValueError(f"{path}: pixels of 32 bits; 8 or 16 can be read")
            return _with_8_bits(ImageOps.exif_transpose(image)).convert("RGB")
    # Pillow raises the last two for damaged chunks and EXIF data.
    except (Image.DecompressionBombError, SyntaxError, struct.error) as error:
        raise ValueError(f"{path}: {error}") from error


def _with_8_bits(image: Image.Image) -> Image.Image:
    """The image, scaled where it has 16 bits a pixel: converted, all of it would be white."""
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
) -> list[Grounding]:
    """What the model finds with a score above ``threshold``, best first."""
    inputs = processor(images=image, text=[caption], return_tensors="pt").to(model.device)
    [found] = processor.post_process_grounded_object_detection(
        model(**inputs), threshold, [(image.height, image.width)], [caption]
    )
    columns = (
        found["text_labels"],
        found["spans"],
        found["boxes"].tolist(),
        found["scores"].tolist(),
    )
    return [
        Grounding(phrase, tuple(spans), tuple(box), score)
        for phrase, spans, box, score in zip(*columns, strict=True)
    ]


def table(found: Iterable[Grounding]) -> str:
    """One line an object: score, left, top, right, bottom, phrase."""
    lines = ["score   left    top  right bottom  phrase"]
    for grounding in found:
        box = " ".join(f"{side:6.0f}" for side in grounding.box)
        lines.append(f"{grounding.score:5.2f} {box}  {grounding.phrase or '-'}")
    return "\n".join(lines)


def drawing(image: Image.Image, caption: str, found: list[Grounding]) -> Image.Image:
    """The image with its boxes, and the caption below it in the colors of the boxes.

    Objects of the same phrase share a color; a character that several of them are named by has
    that of the best.
    """
    size = max(12, image.width // 40)
    font = ImageFont.load_default(size)
    colors = _colors(found)
    places, height = _layout(caption, font, image.width - 2 * MARGIN, size * 3 // 2)
    canvas = Image.new("RGB", (image.width, image.height + height + 2 * MARGIN), "white")
    canvas.paste(image)
    draw = ImageDraw.Draw(canvas)
    for grounding in reversed(found):
        color = colors[grounding.spans]
        draw.rectangle(grounding.box, outline=color, width=max(2, size // 6))
        left, top = grounding.box[:2]
        draw.text((left + 4, top + 4), f"{grounding.score:.2f}", color, font)
    of_character = _characters(len(caption), found, colors)
    for character, (x, y), color in zip(caption, places, of_character, strict=True):
        draw.text((MARGIN + x, image.height + MARGIN + y), character, color, font)
    return canvas


def _colors(found: list[Grounding]) -> dict[tuple[tuple[int, int], ...], str]:
    named = dict.fromkeys(grounding.spans for grounding in found if grounding.spans)
    colors = {spans: COLORS[i % len(COLORS)] for i, spans in enumerate(named)}
    return {(): UNNAMED, **colors}


def _characters(
    number: int, found: list[Grounding], colors: dict[tuple[tuple[int, int], ...], str]
) -> list[str]:
    of_character = ["black"] * number
    for grounding in reversed(found):
        for begin, end in grounding.spans:
            of_character[begin:end] = [colors[grounding.spans]] * (end - begin)
    return of_character


def _layout(caption: str, font: Font, width: int, line: int) -> tuple[list[tuple[float, int]], int]:
    """Where each character goes, in lines broken at spaces, and the height of all lines."""
    places: list[tuple[float, int]] = []
    x, y = 0.0, 0
    for word in caption.split(" "):
        if x and x + font.getlength(word) > width:
            x, y = 0.0, y + line
        for character in word + " ":
            places.append((x, y))
            x += font.getlength(character)
    return places[: len(caption)], y + line
