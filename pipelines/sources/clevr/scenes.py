"""CLEVR's scenes: their objects, and the box of an object in the rendered image."""

import functools
import math
from typing import Annotated, NamedTuple

import msgspec

from pipelines.geometry.boxes import from_xywh
from pipelines.io.archives import map_file
from pipelines.io.json_records import decode_file
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import without_mark
from pipelines.sources.clevr.programs import ClevrObject
from schemas import Box
from schemas.decodable import decodable
from schemas.limits import MAX_SCENE_BYTES

WIDTH, HEIGHT = 480, 320
# Focal length in pixels: a lens of 35 mm and a sensor of 32 mm.
FOCAL_LENGTH = WIDTH * 35 / 32
# How far the camera is turned down: it is at about (7.2, -6.8, 5.1), with jitter in every scene.
ELEVATION = math.atan2(5.1, math.hypot(7.2, 6.8))
# Of the angles without jitter, as of a squared distance between objects: positions in the image are
# rounded to pixels, which is about a sixth of the effect of the jitter at a distance of 1.
JITTER_WEIGHT = 0.03
ANGLE_ITERATIONS = 5
CIRCLE_STEPS = 36
MIN_DISTANCE = 0.1

_Coordinate = Annotated[float, msgspec.Meta(ge=-1e4, le=1e4)]
_Distance = Annotated[float, msgspec.Meta(gt=0.1, le=1e4)]
_Vector = tuple[_Coordinate, _Coordinate, _Coordinate]
Vector = tuple[float, float, float]


class SceneObject(ClevrObject, gc=False):
    """An object and its position; it stands on the ground, so its center is at half its height."""

    rotation: _Coordinate  # degrees, about the vertical axis
    pixel_coords: tuple[_Coordinate, _Coordinate, _Distance]  # of the center: x, y, distance
    center: _Vector = msgspec.field(name="3d_coords")


class Directions(msgspec.Struct, gc=False):
    """Directions of the image in the scene."""

    right: _Vector


class ClevrScene(msgspec.Struct, gc=False):
    """The objects of an image, and which are right of, left of, before and behind each."""

    image_filename: str
    objects: list[SceneObject]
    relationships: dict[str, list[list[int]]]
    directions: Directions


class _SceneImage(msgspec.Struct, gc=False):
    image_filename: str


class _SceneFile(msgspec.Struct):
    scenes: list[msgspec.Raw]


class Scenes(NamedTuple):
    """The undecoded scenes of a file by the names of their images, and errors of the others."""

    by_image: dict[str, msgspec.Raw]
    malformed: list[str]

    def scene(self, image: str) -> ClevrScene:
        """Returns the scene of an image.

        Raises:
            ValueError: there is no such scene, or it is malformed or too large.
        """
        if image in self.by_image:
            size = len(memoryview(self.by_image[image]))
            if size > MAX_SCENE_BYTES:
                raise ValueError(f"a scene of {size} bytes")
            return msgspec.json.decode(self.by_image[image], type=decodable(ClevrScene))
        message = f"there is no scene of {image}"
        if self.malformed:
            message += f", and {len(self.malformed)} without a name, such as {self.malformed[0]}"
        raise ValueError(message)


@functools.lru_cache(maxsize=1)
def read_scenes(path: str) -> Scenes:
    """Returns the scenes of a file, which refer to the mapped file.

    Raises:
        RawFileError: it is not a scene file.
    """
    try:
        scenes = decode_file(without_mark(map_file(path)), _SceneFile).scenes
    except (ValueError, RecursionError) as error:
        raise RawFileError(f"{path}: not a CLEVR scene file: {error}") from error
    by_image: dict[str, msgspec.Raw] = {}
    malformed: list[str] = []
    for position, scene in enumerate(scenes):
        try:
            image = msgspec.json.decode(scene, type=decodable(_SceneImage))
        except ValueError as error:
            malformed.append(f"scene {position}: {error}")
        else:
            by_image[image.image_filename] = scene
    return Scenes(by_image, malformed)


class CameraAngles(NamedTuple):
    """How a scene's camera is turned; it has no roll.

    Attributes:
        right: the direction on the ground, of length 1, that is right in the image.
        elevation: the angle in radians by which the camera is turned down.
    """

    right: tuple[float, float]
    elevation: float

    def from_scene(self, vector: Vector) -> Vector:
        """Returns a vector of the scene as seen by the camera: right, down, forward."""
        x, y, up = vector
        across = x * self.right[0] + y * self.right[1]
        away = y * self.right[0] - x * self.right[1]
        sine, cosine = math.sin(self.elevation), math.cos(self.elevation)
        return across, -away * sine - up * cosine, away * cosine - up * sine


def camera_angles(scene: ClevrScene) -> CameraAngles:
    """Returns the angles that agree best with the positions of the objects in the image.

    The stated directions are those of the camera before its jitter. With few objects, or objects
    that are close together, the angles are nearly those without jitter.
    """
    x, y = scene.directions.right[:2]
    length = math.hypot(x, y)
    stated = angles = CameraAngles((x / length, y / length) if length else (1.0, 0.0), ELEVATION)
    centers = _centered([obj.center for obj in scene.objects])
    seen = _centered([_seen_center(obj) for obj in scene.objects])
    for _ in range(ANGLE_ITERATIONS):
        angles = _turned(_tilted(angles, centers, seen), stated, centers, seen)
    return angles


def _tilted(angles: CameraAngles, centers: list[Vector], seen: list[Vector]) -> CameraAngles:
    """Returns the angles with the best elevation for their ``right``."""
    cosine, sine = JITTER_WEIGHT * math.cos(ELEVATION), JITTER_WEIGHT * math.sin(ELEVATION)
    for (x, y, up), (_, down, forward) in zip(centers, seen, strict=True):
        away = y * angles.right[0] - x * angles.right[1]
        cosine += away * forward - up * down
        sine -= away * down + up * forward
    return angles._replace(elevation=math.atan2(sine, cosine))


def _turned(
    angles: CameraAngles, stated: CameraAngles, centers: list[Vector], seen: list[Vector]
) -> CameraAngles:
    """Returns the angles with the best ``right`` for their elevation."""
    right_x, right_y = (JITTER_WEIGHT * side for side in stated.right)
    for (x, y, _), (across, down, forward) in zip(centers, seen, strict=True):
        away = forward * math.cos(angles.elevation) - down * math.sin(angles.elevation)
        right_x += across * x + away * y
        right_y += across * y - away * x
    length = math.hypot(right_x, right_y)
    return angles._replace(right=(right_x / length, right_y / length)) if length else angles


def _seen_center(obj: SceneObject) -> Vector:
    """Returns the center of an object as seen by the camera: right, down, forward."""
    x, y, distance = obj.pixel_coords
    scale = distance / FOCAL_LENGTH
    return (x - WIDTH / 2) * scale, (y - HEIGHT / 2) * scale, distance


def _centered(points: list[Vector]) -> list[Vector]:
    middle = [sum(axis) / len(points) for axis in zip(*points, strict=True)]
    return [(x - middle[0], y - middle[1], z - middle[2]) for x, y, z in points]


def outline(obj: SceneObject, angles: CameraAngles) -> list[tuple[float, float]]:
    """Returns points of an object's outline, and inside it, in pixels of the image.

    Those of a cube and of a cylinder are the corners or the rim of its lower face, and then as many
    of its upper face.
    """
    half_size = obj.center[2]  # a sphere's radius, half a cube's side
    right, down, forward = _seen_center(obj)
    points = []
    for unit in _unit_outline(obj.shape, obj.rotation, angles):
        across, below, behind = angles.from_scene((unit[0], unit[1], unit[2]))
        # Distances are positive in all scenes but damaged ones.
        scale = FOCAL_LENGTH / max(forward + half_size * behind, MIN_DISTANCE)
        x = WIDTH / 2 + (right + half_size * across) * scale
        y = HEIGHT / 2 + (down + half_size * below) * scale
        points.append((x, y))
    return points


def _unit_outline(shape: str, rotation: float, angles: CameraAngles) -> list[Vector]:
    """Returns points of the outline of a solid of size 2 around the origin of the scene."""
    if shape == "cube":
        turn = math.radians(rotation)
        circle = [turn + math.pi * (0.25 + 0.5 * corner) for corner in range(4)]
        radius = math.sqrt(2)
    else:
        circle = [2 * math.pi * step / CIRCLE_STEPS for step in range(CIRCLE_STEPS)]
        radius = 1.0
    rim = [(radius * math.cos(angle), radius * math.sin(angle)) for angle in circle]
    if shape != "sphere":
        return [(x, y, height) for height in (-1.0, 1.0) for x, y in rim]
    # The great circle that faces the camera.
    sine, cosine = math.sin(angles.elevation), math.cos(angles.elevation)
    (right_x, right_y) = angles.right
    return [
        (
            across * right_x - up * sine * right_y,
            across * right_y + up * sine * right_x,
            up * cosine,
        )
        for across, up in rim
    ]


def object_box(obj: SceneObject, angles: CameraAngles) -> Box:
    """Returns the box of an object in the rendered image, xyxy in pixels.

    Args:
        obj: the object.
        angles: those of its scene's camera.
    """
    xs, ys = zip(*outline(obj, angles), strict=True)
    return from_xywh(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
