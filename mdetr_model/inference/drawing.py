"""Draws grounded objects on an image, and the caption below it in the colors of their boxes."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mdetr_model.inference.ground import GroundedObject
from shards.atomic import atomic_write

# Distinct and readable on white and on most images.
COLORS = ("#d1242f", "#1f6feb", "#1a7f37", "#8250df", "#bc4c00", "#0f7b7b", "#bf3989", "#6e5600")
NO_PHRASE_COLOR = "#57606a"
MARGIN = 8

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Spans = tuple[tuple[int, int], ...]


def draw_objects(
    image: Image.Image, caption: str, objects: Sequence[GroundedObject]
) -> Image.Image:
    """Returns the image with the boxes of objects, and the caption below.

    Objects of the same phrase share a color; a character in phrases of several objects has the
    color of the best one.
    """
    size = max(12, image.width // 40)
    font = ImageFont.load_default(size)
    colors = _phrase_colors(objects)
    positions, height = _layout(caption, font, image.width - 2 * MARGIN, size * 3 // 2)
    canvas = Image.new("RGB", (image.width, image.height + height + 2 * MARGIN), "white")
    canvas.paste(image)
    draw = ImageDraw.Draw(canvas)
    for obj in reversed(objects):
        color = colors[obj.spans]
        draw.rectangle(obj.box, outline=color, width=max(2, size // 6))
        left, top = obj.box[:2]
        draw.text((left + 4, top + 4), f"{obj.score:.2f}", color, font)
    character_colors = _character_colors(len(caption), objects, colors)
    for character, (x, y), color in zip(caption, positions, character_colors, strict=True):
        draw.text((MARGIN + x, image.height + MARGIN + y), character, color, font)
    return canvas


def save_image(image: Image.Image, path: Path) -> None:
    """Writes an image completely or not at all, in the format of the path's extension.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_write(path) as file:
        image.save(file, Image.registered_extensions()[path.suffix.lower()])


def _phrase_colors(objects: Sequence[GroundedObject]) -> dict[Spans, str]:
    phrases = dict.fromkeys(obj.spans for obj in objects if obj.spans)
    colors = {spans: COLORS[i % len(COLORS)] for i, spans in enumerate(phrases)}
    return {(): NO_PHRASE_COLOR, **colors}


def _character_colors(
    length: int, objects: Sequence[GroundedObject], colors: dict[Spans, str]
) -> list[str]:
    character_colors = ["black"] * length
    for obj in reversed(objects):
        for begin, end in obj.spans:
            character_colors[begin:end] = [colors[obj.spans]] * (end - begin)
    return character_colors


def _layout(caption: str, font: Font, width: int, line: int) -> tuple[list[tuple[float, int]], int]:
    """Returns the position of each character, wrapped at spaces, and the total height."""
    positions: list[tuple[float, int]] = []
    x, y = 0.0, 0
    for word in caption.split(" "):
        if x and x + font.getlength(word) > width:
            x, y = 0.0, y + line
        for character in word + " ":
            positions.append((x, y))
            x += font.getlength(character)
    return positions[: len(caption)], y + line
