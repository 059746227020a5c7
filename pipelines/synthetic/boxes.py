"""Boxes as annotators draw them: in the pixels of one copy, not quite exact."""

from random import Random
from typing import NamedTuple

from pipelines.synthetic.scene import Box, Scene, copy_size

#: An annotator misses each side by at most this share of the object's size, and this many pixels.
JITTER_SHARE, JITTER_PIXELS = 0.02, 3.0


class Copy(NamedTuple):
    """The size of one dataset's copy of an image, and its pixels per pixel of the scene."""

    width: int
    height: int
    scale_x: float
    scale_y: float

    def scaled(self, box: Box) -> Box:
        x0, y0, x1, y1 = box
        return x0 * self.scale_x, y0 * self.scale_y, x1 * self.scale_x, y1 * self.scale_y


def copy_of(scene: Scene, longest: int) -> Copy:
    width, height = copy_size(scene, longest)
    return Copy(width, height, width / scene.width, height / scene.height)


def hull(boxes: list[Box]) -> Box:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def annotate(rng: Random, box: Box, copy: Copy) -> tuple[int, int, int, int]:
    """(x, y, width, height) in whole pixels inside the copy, at least 1 wide and high."""
    x0, y0, x1, y1 = copy.scaled(box)
    reach_x = min(JITTER_PIXELS, JITTER_SHARE * (x1 - x0))
    reach_y = min(JITTER_PIXELS, JITTER_SHARE * (y1 - y0))
    left = max(0, round(x0 + reach_x * (2 * rng.random() - 1)))
    top = max(0, round(y0 + reach_y * (2 * rng.random() - 1)))
    right = min(copy.width, max(left + 1, round(x1 + reach_x * (2 * rng.random() - 1))))
    bottom = min(copy.height, max(top + 1, round(y1 + reach_y * (2 * rng.random() - 1))))
    return left, top, right - left, bottom - top
