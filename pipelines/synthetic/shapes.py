"""The outlines of the shapes, as polygons.

Every outline is a list of (x, y) corners around the origin, y pointing down, inside the unit
circle. Scaled, tilted and moved, it is an object's silhouette, from which its box, its COCO polygon
and its pixels follow.
"""

from math import cos, pi, sin

Point = tuple[float, float]
Outline = list[Point]

CIRCLE_CORNERS = 48


def _regular(corners: int, first: float = -pi / 2) -> Outline:
    """Returns a regular polygon whose first corner is at the angle ``first``."""
    angles = (first + 2 * pi * k / corners for k in range(corners))
    return [(cos(a), sin(a)) for a in angles]


def _arc(start: float, stop: float, corners: int) -> Outline:
    angles = (start + (stop - start) * k / (corners - 1) for k in range(corners))
    return [(cos(a), sin(a)) for a in angles]


def _star() -> Outline:
    outer, inner = _regular(5), _regular(5, -pi / 2 + pi / 5)
    corners = zip(outer, inner, strict=True)
    return [p for far, (x, y) in corners for p in (far, (0.42 * x, 0.42 * y))]


def _heart() -> Outline:
    """Returns the usual parametric heart, scaled into the unit circle."""
    points = []
    for k in range(CIRCLE_CORNERS):
        t = 2 * pi * k / CIRCLE_CORNERS
        y = 13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)
        points.append((sin(t) ** 3 * 16 / 18, -(y + 2) / 18))
    return points


def _crescent() -> Outline:
    """Returns the unit disc without the disc of radius 0.737 around (0.5, 0).

    Their borders meet at 45°.
    """
    hollow = _arc(2 * pi - 1.287, 1.287, 20)
    return _arc(pi / 4, 2 * pi - pi / 4, 30) + [(0.5 + 0.737 * x, 0.737 * y) for x, y in hollow]


def _plus_sign() -> Outline:
    a, b = 0.3, 0.92
    return [
        (-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a),
        (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a),
    ]  # fmt: skip


def _arrow() -> Outline:
    head, shaft = 0.62, 0.25
    upper = [(-0.95, -shaft), (0.1, -shaft), (0.1, -head)]
    return [*upper, (1.0, 0.0), *((x, -y) for x, y in reversed(upper))]


def _rectangle(x: float, y: float) -> Outline:
    return [(-x, -y), (x, -y), (x, y), (-x, y)]


OUTLINES: dict[str, Outline] = {
    "circle": _regular(CIRCLE_CORNERS),
    "square": _rectangle(0.70, 0.70),
    "triangle": _regular(3),
    "rectangle": _rectangle(0.88, 0.44),
    "star": _star(),
    "pentagon": _regular(5),
    "hexagon": _regular(6, 0.0),
    "diamond": [(0.0, -1.0), (0.66, 0.0), (0.0, 1.0), (-0.66, 0.0)],
    "heart": _heart(),
    "arrow": _arrow(),
    "oval": [(x, 0.55 * y) for x, y in _regular(CIRCLE_CORNERS)],
    "crescent": _crescent(),
    "plus sign": _plus_sign(),
    "half circle": [(0.92 * x, 0.92 * y + 0.37) for x, y in _arc(pi, 2 * pi, 25)],
}


def silhouette(shape: str, center: Point, radius: float, tilt: float) -> Outline:
    """Returns the outline of a shape in the image; ``tilt`` in radians, clockwise."""
    c, s = radius * cos(tilt), radius * sin(tilt)
    cx, cy = center
    return [(cx + c * x - s * y, cy + s * x + c * y) for x, y in OUTLINES[shape]]
