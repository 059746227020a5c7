"""What a caption names in a picture: as a list, as a table, and drawn."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mdetr_model.modeling import MdetrForGrounding
from mdetr_model.processing import MdetrProcessor

# A picture of more pixels than this is not decoded: it would take gigabytes.
MAX_PIXELS = 100_000_000
# Distinct and readable on white and on most pictures.
COLOURS = ("#d1242f", "#1f6feb", "#1a7f37", "#8250df", "#bc4c00", "#0f7b7b", "#bf3989", "#6e5600")
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


def open_picture(path: Path) -> Image.Image:
    """The picture in RGB, turned as its EXIF data says.

    Raises:
        OSError: there is no such file, or it is no picture.
        ValueError: it has more than ``MAX_PIXELS``, or is damaged, or its pixels are numbers of
            which one cannot say what white is.
    """
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"{path}: {picture.width} x {picture.height} pixels are too many")
            if picture.mode in ("I", "F"):
                raise ValueError(f"{path}: pixels of 32 bits; 8 or 16 can be read")
            return _with_8_bits(ImageOps.exif_transpose(picture)).convert("RGB")
    # Pillow raises the last two for damaged chunks and EXIF data.
    except (Image.DecompressionBombError, SyntaxError, struct.error) as error:
        raise ValueError(f"{path}: {error}") from error


def _with_8_bits(picture: Image.Image) -> Image.Image:
    """The picture, scaled where it has 16 bits a pixel: converted, all of it would be white."""
    if not picture.mode.startswith("I;16"):
        return picture
    return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))


@torch.inference_mode()
def ground(
    picture: Image.Image,
    caption: str,
    model: MdetrForGrounding,
    processor: MdetrProcessor,
    threshold: float,
) -> list[Grounding]:
    """What the model finds with a score above ``threshold``, best first."""
    inputs = processor(images=picture, text=[caption], return_tensors="pt").to(model.device)
    [found] = processor.post_process_grounding(
        model(**inputs), threshold, [(picture.height, picture.width)], [caption]
    )
    columns = (found["phrases"], found["spans"], found["boxes"].tolist(), found["scores"].tolist())
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


def drawing(picture: Image.Image, caption: str, found: list[Grounding]) -> Image.Image:
    """The picture with its boxes, and the caption below it in the colours of the boxes.

    Objects of the same phrase share a colour; a character that several of them are named by has
    that of the best.
    """
    size = max(12, picture.width // 40)
    font = ImageFont.load_default(size)
    colours = _colours(found)
    places, height = _layout(caption, font, picture.width - 2 * MARGIN, size * 3 // 2)
    canvas = Image.new("RGB", (picture.width, picture.height + height + 2 * MARGIN), "white")
    canvas.paste(picture)
    draw = ImageDraw.Draw(canvas)
    for grounding in reversed(found):
        colour = colours[grounding.spans]
        draw.rectangle(grounding.box, outline=colour, width=max(2, size // 6))
        left, top = grounding.box[:2]
        draw.text((left + 4, top + 4), f"{grounding.score:.2f}", colour, font)
    of_character = _characters(len(caption), found, colours)
    for character, (x, y), colour in zip(caption, places, of_character, strict=True):
        draw.text((MARGIN + x, picture.height + MARGIN + y), character, colour, font)
    return canvas


def _colours(found: list[Grounding]) -> dict[tuple[tuple[int, int], ...], str]:
    named = dict.fromkeys(grounding.spans for grounding in found if grounding.spans)
    colours = {spans: COLOURS[i % len(COLOURS)] for i, spans in enumerate(named)}
    return {(): UNNAMED, **colours}


def _characters(
    number: int, found: list[Grounding], colours: dict[tuple[tuple[int, int], ...], str]
) -> list[str]:
    of_character = ["black"] * number
    for grounding in reversed(found):
        for begin, end in grounding.spans:
            of_character[begin:end] = [colours[grounding.spans]] * (end - begin)
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
