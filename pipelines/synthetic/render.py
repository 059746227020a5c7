"""Renders a scene at the size of one dataset's image."""

from math import pi

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pipelines.synthetic.boxes import ImageScale
from pipelines.synthetic.scene import RGB, Background, Scene, SyntheticObject

#: Objects are drawn this many times larger and then averaged, for smooth borders.
OVERSAMPLING = 3
#: Speckles of the background along each side, the same at every size.
SPECKLES = 64


def render(scene: Scene, scale: ImageScale) -> Image.Image:
    """Returns the RGB image of a scene at a size."""
    canvas = Image.fromarray(_background(scene.background, scale.width, scale.height))
    for obj in scene.objects:
        _draw(canvas, obj, scale)
    return canvas


def _background(background: Background, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Returns the background, shape (height, width, 3)."""
    rng = np.random.default_rng(background.seed)
    x = np.linspace(0, 1, width)[None, :]
    y = np.linspace(0, 1, height)[:, None]
    if background.pattern == "shaded":
        angle = rng.uniform(0, 2 * pi)
        light = 44 * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))
    elif background.pattern == "speckled":
        speckles = Image.fromarray(rng.normal(0, 11, (SPECKLES, SPECKLES)).astype(np.float32))
        light = np.asarray(speckles.resize((width, height), Image.Resampling.BICUBIC))
    elif background.pattern == "tiled":
        tiles = rng.integers(8, 15)
        light = 9.0 * ((np.floor(tiles * x) + np.floor(tiles * y)) % 2) - 4.5
    else:
        light = np.zeros((height, width))
    pixels: npt.NDArray[np.float64] = np.array(background.rgb) + light[..., None]
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _draw(canvas: Image.Image, obj: SyntheticObject, scale: ImageScale) -> None:
    """Paints one object: its texture, masked by its outline."""
    x0, y0, x1, y1 = scale.scale_box(obj.box)
    left, top = int(x0) - 1, int(y0) - 1
    width, height = int(x1) + 2 - left, int(y1) + 2 - top
    outline = [
        ((x * scale.scale_x - left) * OVERSAMPLING, (y * scale.scale_y - top) * OVERSAMPLING)
        for x, y in obj.outline
    ]
    large = (width * OVERSAMPLING, height * OVERSAMPLING)
    mask = Image.new("L", large)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    paint = Image.new("RGB", large, obj.rgb)
    _texture(ImageDraw.Draw(paint), obj, outline, large, scale.scale_x * OVERSAMPLING)
    canvas.paste(paint.reduce(OVERSAMPLING), (left, top), mask.reduce(OVERSAMPLING))


def _texture(
    draw: ImageDraw.ImageDraw,
    obj: SyntheticObject,
    outline: list[tuple[float, float]],
    size: tuple[int, int],
    scale: float,
) -> None:
    """Draws stripes, dots or a border in another tone of the object's color."""
    tone = _tone(obj.rgb)
    x0, _, x1, _ = obj.box
    step = max(9.0, (x1 - x0) / 7) * scale
    if obj.texture == "striped":
        for k in range(1 + int((size[0] + size[1]) / step)):
            start = (k + 0.5) * step
            draw.line([(start, 0), (start - size[1], size[1])], fill=tone, width=int(step / 3))
    elif obj.texture == "dotted":
        radius = step / 4.5
        for row in range(1 + int(size[1] / step)):
            for column in range(1 + int(size[0] / step)):
                x, y = (column + 0.5) * step, (row + 0.5) * step
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tone)
    elif obj.texture == "outlined":
        draw.line(
            [*outline, outline[0], outline[1]], fill=tone, width=int(7 * scale), joint="curve"
        )


def _tone(rgb: RGB) -> RGB:
    """Returns a clearly darker tone of a light color, a clearly lighter one of a dark color."""
    dark = sum(rgb) < 200
    r, g, b = (int(c + (255 - c) * 0.55) if dark else int(c * 0.5) for c in rgb)
    return r, g, b
