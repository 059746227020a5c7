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
# The camera's pitch: it is at about (7.2, -6.8, 5.1), with jitter in every scene.
ELEVATION = math.atan2(5.1, math.hypot(7.2, 6.8))

_Coordinate = Annotated[float, msgspec.Meta(ge=-1e4, le=1e4)]
_Distance = Annotated[float, msgspec.Meta(gt=0.1, le=1e4)]
_Vector = tuple[_Coordinate, _Coordinate, _Coordinate]


class SceneObject(ClevrObject, gc=False):
    """An object and its position; it stands on the ground, so its center is at half its height."""

    rotation: _Coordinate  # degrees, about the vertical axis
    pixel_coords: tuple[_Coordinate, _Coordinate, _Distance]  # of the center: x, y, distance
    center: _Vector = msgspec.field(name="3d_coords")


class _Directions(msgspec.Struct, gc=False):
    right: _Vector


class ClevrScene(msgspec.Struct, gc=False):
    """The objects of an image, and which are right of, left of, before and behind each."""

    image_filename: str
    objects: list[SceneObject]
    relationships: dict[str, list[list[int]]]
    directions: _Directions


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


def object_box(obj: SceneObject, right: tuple[float, float, float]) -> Box:
    """Returns the box of an object, xyxy in pixels, by a weak-perspective projection.

    Args:
        obj: the object.
        right: the direction in the scene that is right in the image.
    """
    x, y, distance = obj.pixel_coords
    half_size = obj.center[2]  # a sphere's radius, half a cube's side
    half_width = half_depth = half_size
    if obj.shape == "cube":
        angle = math.radians(obj.rotation) - math.atan2(right[1], right[0])
        half_width = half_depth = half_size * (abs(math.cos(angle)) + abs(math.sin(angle)))
    if obj.shape == "sphere":
        half_height = half_size
    else:  # the camera sees the upper and lower faces at a slant
        half_height = half_size * math.cos(ELEVATION) + half_depth * math.sin(ELEVATION)
    scale = FOCAL_LENGTH / distance
    return from_xywh(
        x - half_width * scale,
        y - half_height * scale,
        2 * half_width * scale,
        2 * half_height * scale,
    )
