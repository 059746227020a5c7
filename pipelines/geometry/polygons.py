"""Box of a COCO segmentation: a list of polygons, or a run-length encoded mask.

Formats as in cocodataset/cocoapi, PythonAPI/pycocotools/mask.py. A polygon is a flat list
``x0, y0, x1, y1, ...`` in pixels; a mask is ``{"size": [height, width], "counts": ...}`` whose
counts are a list of run lengths or the compressed string.
"""

import re
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import shapely
from pycocotools import mask

from schemas import Box

# Each character of compressed counts has five bits and a continuation bit. The decoder of
# pycocotools reads past the end of a string whose last character has that bit set.
_COMPRESSED = re.compile(r"(?:[P-o]{0,6}[0-O])*")

MAX_COORDINATE = 1e6  # in pixels; beyond are infinities and overflows
ROUNDING = 2.0**-48  # of the area, for each corner, as a share of the box's area
MAX_CANCELLED_CORNERS = 50  # of a polygon whose loops cancel out, whose area takes long to find


class Runs(msgspec.Struct, gc=False):
    """A run-length encoded mask, column by column, beginning with a run of zeros."""

    size: tuple[int, int]
    counts: str | list[int]


Segmentation = list[list[float]] | Runs


def extent(segmentation: Segmentation) -> Box:
    """Returns the bounding box, xyxy, of what a segmentation covers.

    It takes time in proportion to the segmentation's length, also if polygons cross themselves and
    each other a million times.

    >>> extent([[10, 10, 30, 10, 30, 20, 10, 20], [20, 10, 40, 10, 40, 20, 20, 20]])
    (10.0, 10.0, 40.0, 20.0)

    Raises:
        ValueError: The segmentation covers nothing or is malformed.
    """
    if isinstance(segmentation, Runs):
        return _extent_of_runs(segmentation)
    return _extent_of_polygons(segmentation)


def _extent_of_polygons(polygons: list[list[float]]) -> Box:
    corners = [_corners(polygon) for polygon in polygons]
    if not any(map(_covers_something, corners)):
        raise ValueError("the polygons cover nothing")
    every_corner = np.concatenate(corners)
    low, high = every_corner.min(0).tolist(), every_corner.max(0).tolist()
    return (low[0], low[1], high[0], high[1])


def _corners(polygon: list[float]) -> npt.NDArray[np.float64]:
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"a polygon of {len(polygon)} numbers")
    corners = np.array(polygon, np.float64).reshape(-1, 2)
    if not np.abs(corners).max() < MAX_COORDINATE:
        raise ValueError("a polygon with a corner out of bounds")
    return corners


def _covers_something(corners: npt.NDArray[np.float64]) -> bool:
    polygon = shapely.polygons(corners)
    # An outline that retraces itself may have an area that is a rounding error.
    rounding = ROUNDING * len(corners) * np.ptp(corners, axis=0).prod()
    if polygon.area > rounding:
        return True
    # The loops of an eight cancel out.
    is_short = len(corners) <= MAX_CANCELLED_CORNERS
    return is_short and bool(shapely.make_valid(polygon).area > rounding)


def _extent_of_runs(runs: Runs) -> Box:
    height, width = runs.size
    pixels = height * width
    if not (height > 0 and width > 0 and pixels < 2**31):
        raise ValueError(f"a mask of {height} x {width} pixels")
    encoded: dict[str, Any]
    if isinstance(runs.counts, str):
        if not _COMPRESSED.fullmatch(runs.counts):
            raise ValueError("compressed counts that end early or have invalid characters")
        encoded = {"size": [height, width], "counts": runs.counts.encode()}
    else:
        if min(runs.counts, default=0) < 0 or sum(runs.counts) != pixels:
            raise ValueError(f"counts that do not add up to {pixels} pixels")
        encoded = mask.frPyObjects({"size": [height, width], "counts": runs.counts}, height, width)
    area = float(mask.area(encoded))
    x, y, w, h = mask.toBbox(encoded).tolist()
    if not (0 < area <= pixels and x >= 0 and y >= 0 and x + w <= width and y + h <= height):
        raise ValueError("the mask covers nothing, or more than its size")
    return (x, y, x + w, y + h)
