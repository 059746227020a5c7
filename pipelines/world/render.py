"""A scene as pixels: one JPEG for each copy of the picture, at the copy's size."""

from math import pi

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pipelines.world.boxes import Copy
from pipelines.world.scene import RGB, Background, Scene, Thing

#: Things are drawn this many times larger and then averaged, for smooth borders.
OVERSAMPLING = 3
#: Cells of the speckled background along each side, the same in every copy of a picture.
SPECKLES = 64


def render(scene: Scene, copy: Copy) -> Image.Image:
    """The copy's picture, RGB."""
    canvas = Image.fromarray(_ground(scene.background, copy.width, copy.height))
    for thing in scene.things:
        _draw(canvas, thing, copy)
    return canvas


def _ground(background: Background, width: int, height: int) -> npt.NDArray[np.uint8]:
    """The background, shape (height, width, 3)."""
    rng = np.random.default_rng(background.seed)
    x = np.linspace(0, 1, width)[None, :]
    y = np.linspace(0, 1, height)[:, None]
    if background.pattern == "shaded":
        angle = rng.uniform(0, 2 * pi)
        light = 44 * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))
    elif background.pattern == "speckled":
        cells = Image.fromarray(rng.normal(0, 11, (SPECKLES, SPECKLES)).astype(np.float32))
        light = np.asarray(cells.resize((width, height), Image.Resampling.BICUBIC))
    elif background.pattern == "tiled":
        tiles = rng.integers(8, 15)
        light = 9.0 * ((np.floor(tiles * x) + np.floor(tiles * y)) % 2) - 4.5
    else:
        light = np.zeros((height, width))
    pixels = np.array(background.rgb) + light[..., None]
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _draw(canvas: Image.Image, thing: Thing, copy: Copy) -> None:
    """Paints one thing: its texture, seen through the mask of its outline."""
    x0, y0, x1, y1 = copy.scaled(thing.box)
    left, top = int(x0) - 1, int(y0) - 1
    width, height = int(x1) + 2 - left, int(y1) + 2 - top
    outline = [
        ((x * copy.scale_x - left) * OVERSAMPLING, (y * copy.scale_y - top) * OVERSAMPLING)
        for x, y in thing.outline
    ]
    large = (width * OVERSAMPLING, height * OVERSAMPLING)
    mask = Image.new("L", large)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    paint = Image.new("RGB", large, thing.rgb)
    _texture(ImageDraw.Draw(paint), thing, outline, large, copy.scale_x * OVERSAMPLING)
    canvas.paste(paint.reduce(OVERSAMPLING), (left, top), mask.reduce(OVERSAMPLING))


def _texture(
    draw: ImageDraw.ImageDraw,
    thing: Thing,
    outline: list[tuple[float, float]],
    size: tuple[int, int],
    scale: float,
) -> None:
    """Stripes, dots or a border in a tone that leaves no doubt about the thing's colour."""
    tone = _tone(thing.rgb)
    x0, _, x1, _ = thing.box
    step = max(9.0, (x1 - x0) / 7) * scale
    if thing.texture == "striped":
        for k in range(1 + int((size[0] + size[1]) / step)):
            start = (k + 0.5) * step
            draw.line([(start, 0), (start - size[1], size[1])], fill=tone, width=int(step / 3))
    elif thing.texture == "dotted":
        radius = step / 4.5
        for row in range(1 + int(size[1] / step)):
            for column in range(1 + int(size[0] / step)):
                x, y = (column + 0.5) * step, (row + 0.5) * step
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tone)
    elif thing.texture == "outlined":
        draw.line(
            [*outline, outline[0], outline[1]], fill=tone, width=int(7 * scale), joint="curve"
        )


def _tone(rgb: RGB) -> RGB:
    """A clearly darker tone of a light colour, a clearly lighter one of a dark colour."""
    dark = sum(rgb) < 200
    r, g, b = (int(c + (255 - c) * 0.55) if dark else int(c * 0.5) for c in rgb)
    return r, g, b
