"""The contents of a synthetic image: a background and a few objects on it.

Coordinates are pixels of an image whose longest side is ``SCENE_LONGEST``; the files of each
dataset are resized from it (`pipelines.synthetic.boxes`). Sizes, colors and textures belong to
classes that are easy to distinguish, so that texts about the scene can be answered from its pixels.
"""

from math import hypot, radians
from random import Random
from typing import NamedTuple

from pipelines.synthetic.shapes import OUTLINES, Outline, silhouette
from schemas import Box

SCENE_LONGEST = 640

RGB = tuple[int, int, int]

#: Color -> shade -> RGB, without shades that could pass for another color.
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
#: Radius as a share of the image's shorter side, with gaps between the classes.
RADII = {"small": (0.060, 0.075), "medium": (0.105, 0.130), "large": (0.185, 0.230)}

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


class SceneStyle(NamedTuple):
    """What scenes may show; each entry is drawn as often as it is listed.

    Attributes:
        image_sizes: widths and heights.
        objects: least and largest number of objects.
        nouns: keys of `OUTLINES`.
        colors: color -> shades, keys of COLORS.
        textures, sizes: words; sizes are keys of RADII.
        backgrounds: keys of BACKGROUNDS.
        patterns: of the background.
    """

    image_sizes: tuple[tuple[int, int], ...]
    objects: tuple[int, int]
    nouns: tuple[str, ...]
    colors: dict[str, tuple[str, ...]]
    textures: tuple[str, ...]
    sizes: tuple[str, ...]
    backgrounds: tuple[str, ...]
    patterns: tuple[str, ...]


#: "varied" has everything; a small model learns to ground the phrases of "simple" in minutes.
STYLES = {
    "varied": SceneStyle(
        image_sizes=((640, 480), (640, 427), (480, 640), (427, 640), (640, 360), (640, 640)),
        objects=(4, 9),
        nouns=tuple(OUTLINES),
        colors={color: tuple(shades) for color, shades in COLORS.items()},
        textures=("solid", "solid", "solid", "striped", "dotted", "outlined"),
        sizes=("small", "medium", "medium", "large"),
        backgrounds=tuple(BACKGROUNDS),
        patterns=("plain", "shaded", "speckled", "tiled"),
    ),
    "simple": SceneStyle(
        image_sizes=((640, 480),),
        objects=(3, 5),
        nouns=("circle", "square", "triangle", "star", "heart"),
        colors=dict.fromkeys(("red", "green", "blue", "yellow", "purple", "black"), ("",)),
        textures=("solid",),
        sizes=("medium", "large"),
        backgrounds=("beige", "pale blue", "cream"),
        patterns=("plain",),
    ),
}
MAX_OBJECTS = max(style.objects[1] for style in STYLES.values())

#: Probability that an object has the shape, or the color, of an earlier one: a noun alone then fits
#: several objects, and texts need adjectives or positions.
REPEATED_SHARE = 0.28
#: Free pixels around every box: objects never occlude one another.
GAP = 4.0
#: Least Euclidean distance, in RGB, of an object's color from the background's.
MIN_CONTRAST = 105.0
MAX_TILT = radians(14)
PLACEMENT_ATTEMPTS = 12


class SyntheticObject(NamedTuple):
    """One shape; ``box`` (xyxy pixels) is tight around ``outline``."""

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
        """The center of the box, (x, y)."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2


class Background(NamedTuple):
    """A pattern in one color; ``seed`` decides its details."""

    name: str
    pattern: str
    rgb: RGB
    seed: int


class Scene(NamedTuple):
    """The size of an image in pixels and what it shows."""

    width: int
    height: int
    background: Background
    objects: list[SyntheticObject]


class _Appearance(NamedTuple):
    noun: str
    color: str
    shade: str
    texture: str
    size: str


def make_scene(rng: Random, style: SceneStyle) -> Scene:
    """Returns a scene whose objects differ in noun, color, texture or size."""
    width, height = rng.choice(style.image_sizes)
    name = rng.choice(style.backgrounds)
    pattern = rng.choice(style.patterns)
    background = Background(name, pattern, BACKGROUNDS[name], rng.getrandbits(32))
    objects: list[SyntheticObject] = []
    least, most = style.objects
    target_count = rng.randint(least, most)
    while len(objects) < target_count:
        obj = _new_object(rng, style, objects, background.rgb, (width, height))
        if obj is not None:
            objects.append(obj)
        elif len(objects) >= least:  # an image that is nearly full gets fewer objects
            target_count -= 1
    return Scene(width, height, background, objects)


def bounds(outline: Outline) -> Box:
    """Returns the tight box (xyxy) of an outline."""
    xs, ys = [x for x, _ in outline], [y for _, y in outline]
    return min(xs), min(ys), max(xs), max(ys)


def _new_object(
    rng: Random,
    style: SceneStyle,
    others: list[SyntheticObject],
    ground: RGB,
    image_size: tuple[int, int],
) -> SyntheticObject | None:
    """Returns a further object; None if it would resemble another or finds no free position."""
    appearance = _draw_appearance(rng, style, others, ground)
    noun, color, shade, texture, size = appearance
    if any((noun, color, texture, size) == (o.noun, o.color, o.texture, o.size) for o in others):
        return None
    outline = _draw_outline(rng, noun, size, image_size, others)
    if outline is None:
        return None
    rgb = _jitter_color(rng, COLORS[color][shade])
    return SyntheticObject(*appearance, rgb=rgb, outline=outline, box=bounds(outline))


def _draw_appearance(
    rng: Random, style: SceneStyle, others: list[SyntheticObject], ground: RGB
) -> _Appearance:
    """Returns shape, color, shade, texture and size, in a color that contrasts with the ground."""
    color_names = tuple(style.colors)
    noun, color = rng.choice(style.nouns), rng.choice(color_names)
    if others and rng.random() < REPEATED_SHARE:
        noun = rng.choice(others).noun
    if others and rng.random() < REPEATED_SHARE:
        color = rng.choice(others).color
    shade = rng.choice(style.colors[color])
    while _color_distance(COLORS[color][shade], ground) < MIN_CONTRAST:
        color = rng.choice(color_names)
        shade = rng.choice(style.colors[color])
    texture, size = rng.choice(style.textures), rng.choice(style.sizes)
    return _Appearance(noun, color, shade, texture, size)


def _draw_outline(
    rng: Random, noun: str, size: str, image_size: tuple[int, int], others: list[SyntheticObject]
) -> Outline | None:
    """Returns the outline of an object at a free position, or None if no attempt finds one."""
    width, height = image_size
    for _ in range(PLACEMENT_ATTEMPTS):
        radius = min(image_size) * rng.uniform(*RADII[size])
        x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
        reach = radius + GAP
        needed = (x - reach, y - reach, x + reach, y + reach)
        if not any(_overlap(needed, other.box) for other in others):
            return silhouette(noun, (x, y), radius, rng.uniform(-MAX_TILT, MAX_TILT))
    return None


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _color_distance(a: RGB, b: RGB) -> float:
    return hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2])


def _jitter_color(rng: Random, rgb: RGB) -> RGB:
    r, g, b = (min(255, max(0, channel + rng.randint(-7, 7))) for channel in rgb)
    return r, g, b
