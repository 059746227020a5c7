"""CLEVR's scenes: objects on a plane, the relations between them, and their image."""

import math
from random import Random
from typing import Any

import msgspec
from PIL import Image, ImageDraw

from pipelines.sources.clevr.scenes import (
    ELEVATION,
    FOCAL_LENGTH,
    HEIGHT,
    WIDTH,
    CameraAngles,
    SceneObject,
    outline,
)
from schemas.decodable import decodable

COLORS = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
SHAPES, MATERIALS, SIZES = ("cube", "sphere", "cylinder"), ("rubber", "metal"), ("small", "large")
HALF_HEIGHTS = {"small": 0.35, "large": 0.7}
#: Distance of the camera from the middle of the plane.
CAMERA_DISTANCE = 11.0
BACKGROUND = (150, 150, 150)
#: Directions on the plane as seen by the camera, which looks along the plane's diagonal.
RIGHT, BEHIND = (0.7, 0.714), (-0.714, 0.7)
ANGLES = CameraAngles(RIGHT, ELEVATION)
DIRECTIONS = {"right": [*RIGHT, 0.0], "behind": [*BEHIND, 0.0]}
MIN_OBJECTS, MAX_OBJECTS = 3, 6
#: Least distance between two objects on the plane, and along an axis where a relation holds.
GAP, MIN_OFFSET = 0.4, 0.2

#: An object as in the scene files: size, color, material, shape, rotation, 3d_coords, pixel_coords.
ClevrRecord = dict[str, Any]


def make_objects(rng: Random) -> list[ClevrRecord]:
    """Returns three to six objects that stand apart from one another."""
    objects: list[ClevrRecord] = []
    for _ in range(60):
        size = rng.choice(SIZES)
        x, y = rng.uniform(-3, 3), rng.uniform(-3, 3)
        half = HALF_HEIGHTS[size]
        others = [obj["3d_coords"] for obj in objects]
        if any(math.dist((x, y), other[:2]) < half + other[2] + GAP for other in others):
            continue
        objects.append(
            {
                "size": size,
                "color": rng.choice(sorted(COLORS)),
                "material": rng.choice(MATERIALS),
                "shape": rng.choice(SHAPES),
                "rotation": math.degrees(math.atan2(RIGHT[1], RIGHT[0])),  # faces the camera
                "3d_coords": [x, y, half],
                "pixel_coords": _project(x, y, half),
            }
        )
        if len(objects) == MAX_OBJECTS or (len(objects) >= MIN_OBJECTS and rng.random() < 0.25):
            break
    return objects


def _project(x: float, y: float, z: float) -> list[float]:
    """Returns where the camera sees a point: pixels from the left and from the top, distance."""
    across, away = x * RIGHT[0] + y * RIGHT[1], x * BEHIND[0] + y * BEHIND[1]
    distance = CAMERA_DISTANCE + away * math.cos(ELEVATION) - z * math.sin(ELEVATION)
    up = away * math.sin(ELEVATION) + z * math.cos(ELEVATION)
    scale = FOCAL_LENGTH / distance
    return [round(WIDTH / 2 + across * scale), round(HEIGHT / 2 - up * scale), distance]


def relationships(objects: list[ClevrRecord]) -> dict[str, list[list[int]]]:
    """Returns, for each relation and object, the objects that are in this relation to it."""
    axes = {"right": (RIGHT, 1), "left": (RIGHT, -1), "behind": (BEHIND, 1), "front": (BEHIND, -1)}

    def along(obj: ClevrRecord, axis: tuple[float, float]) -> float:
        x, y, _ = obj["3d_coords"]
        return float(x * axis[0] + y * axis[1])

    return {
        name: [
            [
                i
                for i, other in enumerate(objects)
                if sign * (along(other, axis) - along(obj, axis)) > MIN_OFFSET
            ]
            for obj in objects
        ]
        for name, (axis, sign) in axes.items()
    }


def render(objects: list[ClevrRecord]) -> Image.Image:
    """Returns the image of flat shapes, distant ones first; metal has a bright spot."""
    image = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for obj in sorted(objects, key=lambda obj: -obj["pixel_coords"][2]):
        x, y, distance = obj["pixel_coords"]
        half = obj["3d_coords"][2] * FOCAL_LENGTH / distance
        color = COLORS[obj["color"]]
        darker = tuple(int(0.75 * channel) for channel in color)
        points = outline(msgspec.convert(obj, decodable(SceneObject)), ANGLES)
        if obj["shape"] == "sphere":
            draw.polygon(points, fill=color)
        else:
            lower, upper = points[: len(points) // 2], points[len(points) // 2 :]
            for side in range(len(lower)):
                draw.polygon(
                    [lower[side - 1], lower[side], upper[side], upper[side - 1]], fill=darker
                )
            draw.polygon(upper, fill=color)
        if obj["material"] == "metal":
            spot = half / 4
            left, top = x - half / 3, y - half / 2
            draw.ellipse((left - spot, top - spot, left + spot, top + spot), fill=(255, 255, 255))
    return image
