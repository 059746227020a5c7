"""Boxes as annotators draw them: in the pixels of one dataset's resized image, and inexact."""

from random import Random
from typing import NamedTuple

from pipelines.synthetic.scene import SCENE_LONGEST, Scene
from schemas import Box

#: An annotator misses each side by at most this share of the object's size, and this many pixels.
JITTER_SHARE, JITTER_PIXELS = 0.02, 3.0


class ImageScale(NamedTuple):
    """The size of a resized image in pixels, and its pixels per pixel of the scene."""

    width: int
    height: int
    scale_x: float
    scale_y: float

    def scale_box(self, box: Box) -> Box:
        """Returns a box of the scene (xyxy) in pixels of the resized image."""
        x0, y0, x1, y1 = box
        return x0 * self.scale_x, y0 * self.scale_y, x1 * self.scale_x, y1 * self.scale_y


def scale_to_longest(scene: Scene, longest: int) -> ImageScale:
    """Returns the size of a scene's image when its longest side has ``longest`` pixels."""
    scale = longest / SCENE_LONGEST
    width, height = round(scene.width * scale), round(scene.height * scale)
    return ImageScale(
        width=width, height=height, scale_x=width / scene.width, scale_y=height / scene.height
    )


def enclosing_box(boxes: list[Box]) -> Box:
    """Returns the smallest box (xyxy) around all boxes."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def annotate_box(rng: Random, box: Box, scale: ImageScale) -> tuple[int, int, int, int]:
    """Returns an inexact (x, y, width, height) in whole pixels.

    Args:
        rng: decides how far each side is from the true one.
        box: xyxy pixels of the scene.
        scale: the resized image; the result lies inside it, at least 1 pixel wide and high.
    """
    x0, y0, x1, y1 = scale.scale_box(box)
    reach_x = min(JITTER_PIXELS, JITTER_SHARE * (x1 - x0))
    reach_y = min(JITTER_PIXELS, JITTER_SHARE * (y1 - y0))
    left = max(0, round(x0 + reach_x * (2 * rng.random() - 1)))
    top = max(0, round(y0 + reach_y * (2 * rng.random() - 1)))
    right = min(scale.width, max(left + 1, round(x1 + reach_x * (2 * rng.random() - 1))))
    bottom = min(scale.height, max(top + 1, round(y1 + reach_y * (2 * rng.random() - 1))))
    return left, top, right - left, bottom - top
