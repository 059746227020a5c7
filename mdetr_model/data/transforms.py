"""The image transforms of training and evaluation: crop, resize, horizontal flip (as in DETR).

The geometry is sampled first, from the image's size and boxes alone, and then applied at once: the
JPEG is decoded no larger than necessary, and resampled a single time.
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

from schemas.limits import MAX_IMAGE_PIXELS

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Pixels = Annotated[int, msgspec.Meta(ge=1)]
Scales = Annotated[tuple[Pixels, ...], msgspec.Meta(min_length=1)]
Size = tuple[int, int]

MIN_OVERLAP = 1e-3  # of a box and a crop, in pixels of the resized image
# left, leftmost, left-hand, topright, lefty, counterclockwise, and common abbreviations of them;
# but not leftovers, bright, upright or copyright. East and west, hours of a clock face, and the
# sides of cars and ships are mirrored, too. A caption that only seems to name a side costs nothing
# but its flip.
_SIDE = re.compile(
    r"(?<![^\W\d_])("
    r"(top|upper|bottom|lower|front|back|far|mid|middle|cent(er|re))?"
    r"(left|right)(t|s|er|most|side|hand|handed|hander|wards?|y|ie|ies)?"
    r"|lft|rgt|rt|lhs|rhs|l|r|(counter|anti)?clockwise"
    r"|(north|south)?(east|west)(ern|erly|ernmost|most|wards?|wardly|bound|side)?|[ns]?[ew]"
    r"|([0-2]?\d|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"
    r"(:\d\d)?\W?o\W{0,2}clock|\d?\d:00"
    r"|(driver|passenger)\W?s?\W{1,2}(side|seat|door|window|mirror|wheel)"
    r"|starboard|port\W(side|bow|quarter|beam)|portside|(near|off)\W?side"
    r")(?![^\W\d_])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class CropResizeFlip:
    """The geometry of a transformed image.

    Attributes:
        crop: xyxy in whole pixels of the original image.
        size: width and height in pixels that the crop is resized to.
        flip: whether the result is flipped horizontally.
    """

    crop: tuple[int, int, int, int]
    size: Size
    flip: bool

    def transform_boxes(self, boxes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Returns boxes (N, 4) in the transformed image: xyxy, 0 to 1, clipped to it.

        Args:
            boxes: (N, 4) as xyxy in pixels of the original image.
        """
        corners = np.asarray(boxes, np.float64).reshape(-1, 2, 2)
        origin, end = np.array(self.crop).reshape(2, 2)
        corners = ((corners - origin) / (end - origin)).clip(0, 1)
        if self.flip:
            corners[..., 0] = 1 - corners[:, ::-1, 0]
        return np.asarray(corners.reshape(-1, 4), np.float32)


class TrainTransform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The random transform of training; the defaults are the published ones.

    The image is resized to one of ``scales``, or, with probability ``crop_prob``, resized to one of
    ``crop_scales``, cropped so that a piece of every box remains, and then resized to one of
    ``scales``.

    Attributes:
        scales: lengths of the shortest side in pixels, of which one is sampled;
        max_size: limit of the longest side, which may leave the shortest side shorter, and of the
            sides of a crop.
        crop_prob: probability of a crop.
        crop_scales: lengths of the shortest side before a crop.
        crop_min_size: minimum length of the sides of a crop, where the image is as large.
        hflip_prob: probability of a horizontal flip, for captions that name no side (see
            ``names_a_side``). Published training flips no image.
    """

    scales: Scales = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    max_size: Pixels = 1333
    crop_prob: Probability = 0.5
    crop_scales: Scales = (400, 500, 600)
    crop_min_size: Pixels = 384
    hflip_prob: Probability = 0.0

    def sample(
        self, size: Size, boxes: npt.ArrayLike, caption: str, rng: np.random.Generator
    ) -> CropResizeFlip:
        """Samples a geometry that keeps a piece of every box that has area in the image.

        Args:
            size: width and height of the image in pixels.
            boxes: (N, 4) as xyxy in pixels; parts outside of the image may be cropped.
            caption: an image is not flipped if its caption names a side.
            rng: random generator.
        """
        crop, crop_size = (0, 0, *size), size
        if rng.random() < self.crop_prob:
            crop, crop_size = self._sample_crop(size, boxes, rng)
        resized = resized_size(crop_size, rng.choice(self.scales), self.max_size)
        flip = rng.random() < self.hflip_prob and not names_a_side(caption)
        return CropResizeFlip(crop=crop, size=resized, flip=flip)

    def _sample_crop(
        self, size: Size, boxes: npt.ArrayLike, rng: np.random.Generator
    ) -> tuple[tuple[int, int, int, int], Size]:
        """Samples a crop in pixels of the image, and its size in those of the resized image."""
        width, height = size
        resized = resized_size(size, rng.choice(self.crop_scales))
        corners = np.asarray(boxes, np.float64).reshape(-1, 2, 2) * np.array(resized) / size
        corners = corners.clip(0, resized)
        corners = corners[(corners[:, 1] > corners[:, 0]).all(-1)]
        across, down = resized
        left, right = self._sample_interval(across, corners[..., 0], rng)
        top, bottom = self._sample_interval(down, corners[..., 1], rng)
        crop = (
            left * width // across,
            top * height // down,
            -(-right * width // across),
            -(-bottom * height // down),
        )
        return crop, (right - left, bottom - top)

    def _sample_interval(
        self, side: int, sides: npt.NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[int, int]:
        """Samples the begin and end of a crop along one axis, with a piece of all boxes.

        The distribution is that of published training, which samples length and offset uniformly
        and rejects intervals that miss a box, up to a hundred times; then it drops the boxes that
        it has missed. Here it is sampled without rejection: the probability of a length is
        proportional to the fraction of its offsets that miss no box.

        Args:
            side: length of the image.
            sides: (N, 2), begin and end of each box.
            rng: random generator.
        """
        latest_begin, earliest_end = side, 0
        if len(sides):
            # A smaller overlap may have no width in float32.
            latest_begin = max(0, ceil(sides[:, 1].min() - MIN_OVERLAP) - 1)
            earliest_end = min(side, floor(sides[:, 0].max() + MIN_OVERLAP) + 1)
        max_length = max(min(side, self.max_size), earliest_end - latest_begin)
        lengths = np.arange(min(self.crop_min_size, max_length), max_length + 1)
        first = np.maximum(0, earliest_end - lengths)
        last = np.minimum(side - lengths, latest_begin)
        weights = np.maximum(0, last - first + 1) / (side - lengths + 1)
        drawn = rng.choice(len(lengths), p=weights / weights.sum())
        offset = int(rng.integers(first[drawn], last[drawn], endpoint=True))
        return offset, offset + int(lengths[drawn])


class EvalTransform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The resize of evaluation: the whole image, without randomness.

    Attributes:
        size: length of the shortest side in pixels,
        max_size: unless the longest side would exceed this.
    """

    size: Pixels = 800
    max_size: Pixels = 1333

    def sample(
        self, size: Size, boxes: npt.ArrayLike, caption: str, rng: np.random.Generator
    ) -> CropResizeFlip:
        """Returns the geometry for the width and height of an image; ignores other arguments."""
        resized = resized_size(size, self.size, self.max_size)
        return CropResizeFlip(crop=(0, 0, *size), size=resized, flip=False)


def resized_size(size: Size, shortest: int, longest: float = inf) -> Size:
    """Returns width and height of a resized image, as ``MdetrImageProcessor`` computes them.

    The shortest side becomes ``shortest``, or less where the longest would exceed ``longest``. It
    is rounded, the other one truncated. An image whose shortest side has that length is unchanged.
    """
    short, long = sorted(size)
    exact = float(shortest)
    if long / short * shortest > longest:
        exact = longest * short / long
    if round(exact) == short:
        return size
    sides = max(1, round(exact)), max(1, int(exact * long / short))
    return sides if size[0] < size[1] else sides[::-1]


def names_a_side(caption: str) -> bool:
    """Returns whether a caption names a side that a flip would make wrong.

    >>> names_a_side("the cup at 3 o'clock"), names_a_side("a clock tower")
    (True, False)
    """
    return _SIDE.search(caption) is not None


def decode_transformed(
    image: bytes | memoryview, key: str, size: Size, geometry: CropResizeFlip
) -> npt.NDArray[np.uint8]:
    """Decodes an image and applies a geometry to it.

    The EXIF orientation is ignored: annotations refer to the pixels as stored. Resampling is
    bilinear with antialiasing, by PyTorch, whose vectorized code takes a quarter of Pillow's time;
    results occasionally differ from Pillow's by one or two of 255 levels. Where the image was
    decoded at a smaller scale, the crop may include up to one of its pixels more on each side.

    Args:
        image: an encoded JPEG or PNG.
        key: the image's, for error messages.
        size: width and height that the annotations state, in pixels.
        geometry: crop, size and flip.

    Returns:
        (H, W, 3) RGB.

    Raises:
        ValueError: the image cannot be decoded, has another size, or more than `MAX_IMAGE_PIXELS`.
    """
    width, height = size
    if width * height > MAX_IMAGE_PIXELS:
        raise ValueError(f"{key}: {width}x{height} pixels are too many")
    try:
        with Image.open(io.BytesIO(image), formats=("JPEG", "PNG")) as opened:
            if opened.size != size:
                actual = "x".join(map(str, opened.size))
                raise ValueError(f"an image of {actual} pixels, annotated as {width}x{height}")
            scale = _decode(opened, geometry)
            pixels = torch.from_numpy(np.array(opened.convert("RGB")))
    except UnidentifiedImageError as error:
        raise ValueError(f"{key}: neither JPEG nor PNG") from error
    # Pillow's decoders raise any of these on damaged files.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{key}: {error}") from error
    # The edges of the crop may be inside a pixel of the smaller scale, which is then included.
    left, top = (floor(side * scale) for side in geometry.crop[:2])
    right, bottom = (ceil(side * scale) for side in geometry.crop[2:])
    cropped = pixels[top:bottom, left:right].permute(2, 0, 1)[None]
    resized = F.interpolate(cropped, geometry.size[::-1], mode="bilinear", antialias=True)
    transformed = resized[0].permute(1, 2, 0)
    result: npt.NDArray[np.uint8] = (transformed.flip(1) if geometry.flip else transformed).numpy()
    return result


def _decode(opened: Image.Image, geometry: CropResizeFlip) -> float:
    """Decodes an image, and returns the scale at which it was decoded.

    A JPEG can be decoded at a half, a quarter or an eighth of its size with less work; that is done
    where the transformed image needs no more pixels.
    """
    left, top, right, bottom = geometry.crop
    width, height = opened.size
    across, down = width / (right - left), height / (bottom - top)
    needed = ceil(geometry.size[0] * across), ceil(geometry.size[1] * down)
    drafted = opened.draft(None, needed)
    opened.load()
    return drafted[1][2] / width if drafted else 1.0
