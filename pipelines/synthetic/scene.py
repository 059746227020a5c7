"""What one physical image shows: a background and a few objects on it.

Coordinates are those of a copy whose longest side is ``LONGEST`` pixels; every dataset's copy of
the image scales them. Sizes, colors and textures are drawn from classes that are easy to tell
apart, so that sentences about the scene can be answered from its pixels.
"""

from math import hypot, radians
from random import Random
from typing import NamedTuple

from pipelines.synthetic.shapes import OUTLINES, Outline, silhouette

LONGEST = 640
FORMATS = ((640, 480), (640, 427), (480, 640), (427, 640), (640, 360), (640, 640))

RGB = tuple[int, int, int]

#: Color -> shade -> RGB. Only shades that no other color's name would fit better.
COLORS: dict[str, dict[str, RGB]] = {
    "red": {"": (215, 30, 35), "dark": (140, 12, 20)},
    "green": {"": (40, 160, 60), "dark": (15, 88, 35), "light": (140, 220, 130)},
    "blue": {"": (35, 85, 215), "dark": (15, 35, 120), "light": (120, 180, 245)},
    "yellow": {"": (248, 218, 35)},
    "orange": {"": (245, 130, 20)},
    "purple": {"": (130, 45, 170), "dark": (75, 18, 105), "light": (190, 135, 225)},
    "pink": {"": (248, 120, 185), "light": (252, 180, 215)},
    "brown": {"": (130, 80, 40), "light": (185, 130, 80)},
    "black": {"": (18, 18, 20)},
    "white": {"": (250, 250, 250)},
    "gray": {"": (130, 130, 132), "dark": (75, 75, 78)},
}
TEXTURES = ("solid", "solid", "solid", "striped", "dotted", "outlined")
#: Radius as a share of the image's shorter side; gaps between the classes keep them apart.
RADII = {"small": (0.060, 0.075), "medium": (0.105, 0.130), "large": (0.185, 0.230)}
SIZES = ("small", "medium", "medium", "large")

BACKGROUNDS: dict[str, RGB] = {
    "beige": (226, 212, 182),
    "pale blue": (198, 216, 232),
    "pale green": (205, 224, 200),
    "slate": (98, 110, 122),
    "cream": (244, 238, 214),
    "lavender": (214, 206, 230),
    "charcoal": (52, 54, 60),
    "olive": (128, 128, 84),
}
PATTERNS = ("plain", "shaded", "speckled", "tiled")

FEWEST, MOST = 4, 9
#: An object takes over a shape or a color from an earlier one this often, so that a noun alone
#: often names several objects and sentences have to tell them apart.
REPEATED_SHARE = 0.28
#: Free space around every box, in pixels: objects never hide one another.
GAP = 4.0
LEAST_CONTRAST = 105.0
TILT = radians(14)

Box = tuple[float, float, float, float]


class SceneObject(NamedTuple):
    """One shape; ``box`` is (x0, y0, x1, y1) tight around ``outline``."""

    noun: str
    color: str
    shade: str
    texture: str
    size: str
    rgb: RGB
    outline: Outline
    box: Box

    @property
    def center(self) -> tuple[float, float]:
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2


class Background(NamedTuple):
    name: str
    pattern: str
    rgb: RGB
    seed: int


class Scene(NamedTuple):
    width: int
    height: int
    background: Background
    objects: list[SceneObject]


def copy_size(scene: Scene, longest: int) -> tuple[int, int]:
    """Width and height of a copy of the image, by its longest side."""
    scale = longest / LONGEST
    return round(scene.width * scale), round(scene.height * scale)


def compose(rng: Random) -> Scene:
    """A scene whose objects do not touch and differ from one another in some describable way."""
    width, height = rng.choice(FORMATS)
    name = rng.choice(list(BACKGROUNDS))
    background = Background(name, rng.choice(PATTERNS), BACKGROUNDS[name], rng.getrandbits(32))
    objects: list[SceneObject] = []
    wanted = rng.randint(FEWEST, MOST)
    while len(objects) < wanted:
        obj = _new_object(rng, objects, background.rgb, (width, height))
        if obj is not None:
            objects.append(obj)
        elif len(objects) >= FEWEST:  # an image that is nearly full gets fewer than wanted
            wanted -= 1
    return Scene(width, height, background, objects)


def bounds(outline: Outline) -> Box:
    xs, ys = [x for x, _ in outline], [y for _, y in outline]
    return min(xs), min(ys), max(xs), max(ys)


def _new_object(
    rng: Random, others: list[SceneObject], ground: RGB, image: tuple[int, int]
) -> SceneObject | None:
    """An object unlike the others, in a free place; None if the first look or place does not do."""
    noun, color, shade, texture, size = _look(rng, others, ground)
    look = (noun, color, texture, size)
    if any(look == (t.noun, t.color, t.texture, t.size) for t in others):
        return None
    outline = _place(rng, noun, size, image, others)
    if outline is None:
        return None
    rgb = _vary(rng, COLORS[color][shade])
    return SceneObject(noun, color, shade, texture, size, rgb, outline, bounds(outline))


def _look(rng: Random, others: list[SceneObject], ground: RGB) -> tuple[str, str, str, str, str]:
    """Shape, color, shade, texture and size, in colors that stand out from the ground."""
    noun, color = rng.choice(_SHAPES), rng.choice(_COLOR_NAMES)
    if others and rng.random() < REPEATED_SHARE:
        noun = rng.choice(others).noun
    if others and rng.random() < REPEATED_SHARE:
        color = rng.choice(others).color
    shade = rng.choice(list(COLORS[color]))
    while _distance(COLORS[color][shade], ground) < LEAST_CONTRAST:
        color = rng.choice(_COLOR_NAMES)
        shade = rng.choice(list(COLORS[color]))
    return noun, color, shade, rng.choice(TEXTURES), rng.choice(SIZES)


def _place(
    rng: Random, noun: str, size: str, image: tuple[int, int], others: list[SceneObject]
) -> Outline | None:
    """A free place for an object, or None if a few attempts find none."""
    least, most = RADII[size]
    width, height = image
    for _ in range(12):
        radius = min(image) * rng.uniform(least, most)
        center = (rng.uniform(radius, width - radius), rng.uniform(radius, height - radius))
        reach = radius + GAP
        near = (center[0] - reach, center[1] - reach, center[0] + reach, center[1] + reach)
        if not any(_overlap(near, other.box) for other in others):
            return silhouette(noun, center, radius, rng.uniform(-TILT, TILT))
    return None


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _distance(a: RGB, b: RGB) -> float:
    return hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2])


def _vary(rng: Random, rgb: RGB) -> RGB:
    r, g, b = (min(255, max(0, channel + rng.randint(-7, 7))) for channel in rgb)
    return r, g, b


_SHAPES = list(OUTLINES)
_COLOR_NAMES = list(COLORS)
