"""What training and evaluation see of an image: resized, cropped, mirrored (as in DETR).

The geometry is drawn first, from the image's size and boxes alone, and then applied at once: the
JPEG is decoded no larger than it has to be, and resampled one time.
"""

import io
import re
from dataclasses import dataclass
from math import ceil, floor, inf
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError

Chance = Annotated[float, msgspec.Meta(ge=0, le=1)]
Pixels = Annotated[tuple[Annotated[int, msgspec.Meta(ge=1)], ...], msgspec.Meta(min_length=1)]

# An image of more pixels than this is not decoded: it would take gigabytes.
MAX_PIXELS = 100_000_000

# left, leftmost, left-hand, topright, lefty, counterclockwise, and what people type for them; but
# not leftovers, bright, upright or copyright.
_SIDE = re.compile(
    r"(?<![^\W\d_])("
    r"(top|upper|bottom|lower|front|back|far|mid|middle|center|center)?"
    r"(left|right)(t|s|er|most|side|hand|handed|hander|wards?|y|ie|ies)?"
    r"|lft|rgt|rt|lhs|rhs|l|r|(counter|anti)?clockwise"
    r")(?![^\W\d_])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class View:
    """What is seen of an image.

    Attributes:
        crop: xyxy in whole pixels of the whole image.
        size: width and height, in pixels, that it is resized to.
        mirrored: whether left and right are exchanged.
    """

    crop: tuple[int, int, int, int]
    size: tuple[int, int]
    mirrored: bool

    def of_boxes(self, boxes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Boxes (N, 4) as the view has them: xyxy, 0 to 1, clipped to it.

        Args:
            boxes: (N, 4) as xyxy in pixels of the whole image.
        """
        corners = np.asarray(boxes, np.float64).reshape(-1, 2, 2)
        origin, end = np.array(self.crop).reshape(2, 2)
        corners = ((corners - origin) / (end - origin)).clip(0, 1)
        if self.mirrored:
            corners[..., 0] = 1 - corners[:, ::-1, 0]
        return corners.reshape(-1, 4).astype(np.float32)


class Augmentation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How views are drawn; the defaults are the published training, with mirroring.

    A view is the image resized or, with ``crop_chance``, the image resized to one of
    ``crop_shortest``, then cropped around all boxes, then resized.

    Attributes:
        shortest: one of these, in pixels, will be the shortest side,
        longest: unless the longest side would be longer than this; a crop's sides are not either.
        crop_chance: 0 to 1.
        crop_shortest: the shortest side before a crop.
        crop_least: a crop has sides of at least so many pixels, or the image's own.
        mirror_chance: 0 to 1, of an image whose caption names no side. Published training
            mirrors none.
    """

    shortest: Pixels = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    longest: Annotated[int, msgspec.Meta(ge=1)] = 1333
    crop_chance: Chance = 0.5
    crop_shortest: Pixels = (400, 500, 600)
    crop_least: Annotated[int, msgspec.Meta(ge=1)] = 384
    mirror_chance: Chance = 0.5

    def view(
        self,
        width: int,
        height: int,
        boxes: npt.ArrayLike,
        caption: str,
        rng: np.random.Generator,
    ) -> View:
        """A view of an image in which each of its boxes is whole.

        Args:
            width, height: of the image, in pixels.
            boxes: (N, 4) as xyxy in pixels; what lies outside of the image may be cut off.
            caption: left and right stay as they are where it names one of them.
        """
        crop = (0, 0, width, height)
        shape = width, height
        if rng.random() < self.crop_chance:
            crop, shape = self._crop(width, height, boxes, rng)
        size = resized(*shape, rng.choice(self.shortest), self.longest)
        mirrored = rng.random() < self.mirror_chance and not names_a_side(caption)
        return View(crop, size, mirrored)

    def _crop(
        self, width: int, height: int, boxes: npt.ArrayLike, rng: np.random.Generator
    ) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
        """A crop in pixels of the image, and its size in those of the image once resized."""
        sides = np.array(resized(width, height, rng.choice(self.crop_shortest)))
        corners = np.asarray(boxes, np.float64).reshape(-1, 2) * sides / [width, height]
        corners = corners.clip(0, sides)
        (left, right), (top, bottom) = (
            self._stretch(side, along, rng)
            for side, along in zip(sides.tolist(), corners.T, strict=True)
        )
        across, down = sides.tolist()
        crop = (
            left * width // across,
            top * height // down,
            -(-right * width // across),
            -(-bottom * height // down),
        )
        return crop, (right - left, bottom - top)

    def _stretch(
        self, side: int, corners: npt.NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[int, int]:
        """Begin and end of a crop along one side of an image that holds all the corners.

        Its length and then its place are drawn evenly, and drawn again until it holds them: that
        is how it is distributed. Nothing is drawn twice, though, for a length is as probable as
        the share of its places that hold the corners.
        """
        begin, end = (corners.min(), corners.max()) if len(corners) else (side, 0)
        begin, end = floor(begin), ceil(end)
        most = max(min(side, self.longest), end - begin)
        lengths = np.arange(min(self.crop_least, most), most + 1)
        first, last = np.maximum(0, end - lengths), np.minimum(side - lengths, begin)
        places = np.maximum(0, last - first + 1)
        chances = places / (side - lengths + 1)
        drawn = rng.choice(len(lengths), p=chances / chances.sum())
        place = int(rng.integers(first[drawn], last[drawn], endpoint=True))
        return place, place + int(lengths[drawn])


def whole_image(shortest: int = 800, longest: int = 1333) -> Augmentation:
    """How evaluation sees images: whole, and without chance; sides in pixels."""
    return Augmentation(shortest=(shortest,), longest=longest, crop_chance=0, mirror_chance=0)


EVALUATION = whole_image()


def resized(width: int, height: int, shortest: int, longest: float = inf) -> tuple[int, int]:
    """Width and height of a resized image: those that ``MdetrImageProcessor`` gives it.

    The shortest side becomes ``shortest``, or less where the longest would be over ``longest``; it
    is rounded, the other one cut off. An image whose shortest side has its length stays as it is.
    """
    short, long = sorted((width, height))
    exact = float(shortest)
    if long / short * shortest > longest:
        exact = longest * short / long
    if round(exact) == short:
        return width, height
    sides = max(1, round(exact)), max(1, int(exact * long / short))
    return sides if width < height else sides[::-1]


def names_a_side(caption: str) -> bool:
    """Whether a caption speaks of left or right, so that it is wrong of a mirrored image."""
    return _SIDE.search(caption) is not None


def pixels_of_view(
    image: bytes | memoryview, key: str, width: int, height: int, view: View
) -> npt.NDArray[np.uint8]:
    """The pixels (H, W, 3) of a view, RGB.

    The image is taken as it is stored, whatever its EXIF data says of turning it: that is what
    annotations speak of. Resampling is bilinear, and smooth when it shrinks; by PyTorch, whose
    vectorized code takes a quarter of Pillow's time for a result that is now and then one or two
    of 255 levels off. A crop of an image that is decoded smaller may have up to one of the pixels
    of that more on each side.

    Args:
        image: an encoded JPEG or PNG.
        key: the image's, for error messages.
        width, height: those that the annotations speak of, in pixels.

    Raises:
        ValueError: it cannot be decoded, has another size, or more than ``MAX_PIXELS``.
    """
    if width * height > MAX_PIXELS:
        raise ValueError(f"{key}: {width}x{height} pixels are too many")
    try:
        with Image.open(io.BytesIO(image), formats=("JPEG", "PNG")) as opened:
            if opened.size != (width, height):
                found = "x".join(map(str, opened.size))
                raise ValueError(f"an image of {found} pixels, annotated as {width}x{height}")
            scale = _decode(opened, view)
            pixels = torch.from_numpy(np.array(opened.convert("RGB")))
    except UnidentifiedImageError as error:
        raise ValueError(f"{key}: neither JPEG nor PNG") from error
    # Pillow's decoders raise any of these on files that are damaged.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{key}: {error}") from error
    # Where the image was decoded smaller, to no fewer pixels than the view has, the crop's edges
    # may lie within a pixel, which is then taken whole.
    left, top = (floor(side * scale) for side in view.crop[:2])
    right, bottom = (ceil(side * scale) for side in view.crop[2:])
    cropped = pixels[top:bottom, left:right]
    seen = F.interpolate(
        cropped.permute(2, 0, 1)[None], view.size[::-1], mode="bilinear", antialias=True
    )[0].permute(1, 2, 0)
    return (seen.flip(1) if view.mirrored else seen).numpy()


def _decode(opened: Image.Image, view: View) -> float:
    """Decodes an image, and tells at what share of its size.

    A JPEG is decoded at a half, a quarter or an eighth for less work; that is done where the view
    has no more pixels.
    """
    left, top, right, bottom = view.crop
    width, height = opened.size
    across, down = width / (right - left), height / (bottom - top)
    drafted = opened.draft(None, (ceil(view.size[0] * across), ceil(view.size[1] * down)))
    opened.load()
    return drafted[1][2] / width if drafted else 1.0
