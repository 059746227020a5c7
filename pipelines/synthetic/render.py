"""A scene as pixels: one JPEG for each copy of the image, at the copy's size."""

from math import pi

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pipelines.synthetic.boxes import Copy
from pipelines.synthetic.scene import RGB, Background, Scene, SceneObject

#: Objects are drawn this many times larger and then averaged, for smooth borders.
OVERSAMPLING = 3
#: Cells of the speckled background along each side, the same in every copy of an image.
SPECKLES = 64


def render(scene: Scene, copy: Copy) -> Image.Image:
    """The copy's image, RGB."""
    canvas = Image.fromarray(_ground(scene.background, copy.width, copy.height))
    for obj in scene.objects:
        _draw(canvas, obj, copy)
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


def _draw(canvas: Image.Image, obj: SceneObject, copy: Copy) -> None:
    """Paints one object: its texture, seen through the mask of its outline."""
    x0, y0, x1, y1 = copy.scaled(obj.box)
    left, top = int(x0) - 1, int(y0) - 1
    width, height = int(x1) + 2 - left, int(y1) + 2 - top
    outline = [
        ((x * copy.scale_x - left) * OVERSAMPLING, (y * copy.scale_y - top) * OVERSAMPLING)
        for x, y in obj.outline
    ]
    large = (width * OVERSAMPLING, height * OVERSAMPLING)
    mask = Image.new("L", large)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    paint = Image.new("RGB", large, obj.rgb)
    _texture(ImageDraw.Draw(paint), obj, outline, large, copy.scale_x * OVERSAMPLING)
    canvas.paste(paint.reduce(OVERSAMPLING), (left, top), mask.reduce(OVERSAMPLING))


def _texture(
    draw: ImageDraw.ImageDraw,
    obj: SceneObject,
    outline: list[tuple[float, float]],
    size: tuple[int, int],
    scale: float,
) -> None:
    """Stripes, dots or a border in a tone that leaves no doubt about the object's color."""
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
    """A clearly darker tone of a light color, a clearly lighter one of a dark color."""
    dark = sum(rgb) < 200
    r, g, b = (int(c + (255 - c) * 0.55) if dark else int(c * 0.5) for c in rgb)
    return r, g, b
