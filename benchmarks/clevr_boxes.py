"""Compares the boxes of CLEVR's objects with a real scene and a real image.

A scene states the position and the distance of every object in the image, to which a camera with
six parameters is fitted; the outlines of its solids then have boxes. An image has no positions:
they are fitted, with the camera, to the outlines of the objects, which are found by their color.

    python benchmarks/clevr_boxes.py SCENES.json IMAGE.png --objects OBJECTS --output DRAWING.png

OBJECTS are size, color and shape of the image's objects, each of another color and none of them
gray, for example "large purple sphere,small cyan cylinder". The drawing shows the boxes of the
outlines (white), those of a build (yellow), and the feature grid of stride 32.
"""

import argparse
import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.ndimage import find_objects, label
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from pipelines.sources.clevr.scenes import (
    FOCAL_LENGTH,
    HEIGHT,
    WIDTH,
    ClevrScene,
    Directions,
    SceneObject,
    camera_angles,
    object_box,
    read_scenes,
)
from shards.box_overlap import iou

Points = npt.NDArray[np.float64]

HALF_SIZES = {"large": 0.7, "small": 0.35}
NOMINAL = np.array([7.2, -6.8, 5.1])  # the camera's position before its jitter
TARGET = np.array([0.0, 0.0, 0.35])  # what it is directed at, nearly
# Hues of CLEVR's colors, of 256.
HUES = {"red": 0, "brown": 20, "yellow": 39, "green": 80, "cyan": 128, "blue": 163, "purple": 195}
SATURATION = 80  # of 255; the ground, its shadows and its highlights have less
DRAWING_SCALE = 3
STRIDE = 32


class Camera(NamedTuple):
    """A camera; the rows of ``axes`` are right, down and forward."""

    position: Points
    axes: Points

    def project(self, points: Points) -> Points:
        """Maps (N, 3) to (N, 3): x and y in pixels, and the distance along the view axis."""
        right, down, distance = ((points - self.position) @ self.axes.T).T
        scale = FOCAL_LENGTH / distance
        return np.stack([WIDTH / 2 + right * scale, HEIGHT / 2 + down * scale, distance], axis=1)


def camera(parameters: Points) -> Camera:
    """Returns a camera: the nominal one, moved by three parameters and turned by three."""
    forward = TARGET - NOMINAL
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward])
    turn = Rotation.from_rotvec(parameters[3:]).as_matrix()
    return Camera(NOMINAL + parameters[:3], axes @ turn)


def outline(shape: str, center: Points, degrees: float) -> Points:
    """Returns points (N, 3) whose projections span the box of a solid on the ground."""
    half = center[2]
    angles = np.linspace(0, 2 * np.pi, 181)
    if shape == "sphere":
        heights = np.linspace(-np.pi / 2, np.pi / 2, 91)[:, None]
        unit = np.stack(
            [
                np.cos(heights) * np.cos(angles),
                np.cos(heights) * np.sin(angles),
                np.broadcast_to(np.sin(heights), (91, 181)),
            ],
            axis=-1,
        ).reshape(-1, 3)
    elif shape == "cylinder":
        rim = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        unit = np.vstack([np.insert(rim, 2, side, axis=1) for side in (-1.0, 1.0)])
    else:
        corners = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
        unit = corners @ Rotation.from_euler("z", degrees, degrees=True).as_matrix().T
    return center + half * unit


def exact_box(seen_by: Camera, shape: str, center: Points, degrees: float) -> Points:
    """Returns the box of a solid's outline, xyxy in pixels."""
    pixels = seen_by.project(outline(shape, center, degrees))[:, :2]
    return np.concatenate([pixels.min(0), pixels.max(0)])


def print_errors(solids: list[tuple[str, str]], built: Points, exact: Points) -> None:
    """Prints the IoU of the boxes of a build with the exact ones, and the errors of their sides."""
    overlaps = np.diagonal(iou(built.astype(np.float32), exact.astype(np.float32)))
    for (size, shape), overlap, sides in zip(solids, overlaps, built - exact, strict=True):
        print(f"  {size} {shape}: IoU {overlap:.3f}, sides off by {np.round(sides, 1)}")


def compare_scene(path: str) -> None:
    """Prints the IoU of the boxes of a file's first scene with those of its exact outlines."""
    scenes = read_scenes(path)
    scene = scenes.scene(next(iter(scenes.by_image)))
    centers = np.array([obj.center for obj in scene.objects])
    stated = np.array([obj.pixel_coords for obj in scene.objects])

    def residuals(parameters: Points) -> Points:
        difference: Points = camera(parameters).project(centers) - stated
        return (difference * [1, 1, 50]).ravel()  # a pixel is about a fiftieth of a unit

    fitted = least_squares(residuals, np.zeros(6))
    seen_by = camera(fitted.x)
    error = np.abs(seen_by.project(centers) - stated)[:, :2].max()
    moved = np.round(fitted.x[:3], 2)
    print(f"{scene.image_filename}: camera moved by {moved}, centers within {error:.2f} pixels")
    exact = np.array(
        [exact_box(seen_by, o.shape, np.array(o.center), o.rotation) for o in scene.objects]
    )
    angles = camera_angles(scene)
    built = np.array([object_box(obj, angles) for obj in scene.objects])
    print_errors([(obj.size, obj.shape) for obj in scene.objects], built, exact)


def segmented_boxes(image: Image.Image, colors: list[str]) -> Points:
    """Returns the box (N, 4) of the largest region of each color."""
    hue, saturation, _ = np.moveaxis(np.array(image.convert("HSV")).astype(int), -1, 0)
    distances = np.abs(hue - np.array([HUES[color] for color in colors])[:, None, None])
    nearest = np.minimum(distances, 256 - distances).argmin(0)
    boxes = []
    for number in range(len(colors)):
        regions, _ = label((nearest == number) & (saturation > SATURATION))
        sizes = np.bincount(regions.ravel())
        rows, columns = find_objects(regions)[int(sizes[1:].argmax())]
        boxes.append([columns.start, rows.start, columns.stop, rows.stop])
    return np.array(boxes, np.float64)


def compare_image(path: str, objects: list[list[str]], output: Path) -> None:
    """Prints the IoU of boxes with those of an image's outlines, and draws both."""
    image = Image.open(path).convert("RGB")
    segmented = segmented_boxes(image, [color for _, color, _ in objects])
    solids = [(size, shape) for size, _, shape in objects]
    halves = np.array([HALF_SIZES[size] for size, _ in solids])

    def placed(parameters: Points) -> tuple[Camera, Points, Points]:
        ground = parameters[6:].reshape(-1, 3)
        centers = np.column_stack([ground[:, :2], halves])
        return camera(parameters[:6]), centers, ground[:, 2]

    def residuals(parameters: Points) -> Points:
        seen_by, centers, degrees = placed(parameters)
        boxes = [
            exact_box(seen_by, shape, center, turn)
            for (_, shape), center, turn in zip(solids, centers, degrees, strict=True)
        ]
        # The jitter of the camera is less than half a unit.
        jitter = [2 * parameters[:3], 50 * parameters[3:6]]
        return np.concatenate([(np.array(boxes) - segmented).ravel(), *jitter])

    start = np.concatenate([np.zeros(6), _ground_points(segmented, halves)])
    fits = []
    for degrees in (10.0, 30.0, 50.0, 70.0):
        start[8::3] = degrees
        fits.append(least_squares(residuals, start))
    fitted = min(fits, key=lambda fit: fit.cost)
    seen_by, centers, degrees = placed(fitted.x)
    error = np.abs(fitted.fun[: segmented.size]).max()
    moved = np.round(fitted.x[:3], 2)
    print(f"{path}: camera moved by {moved}, outlines within {error:.1f} pixels")
    scene = ClevrScene(path, [], {}, Directions(tuple(seen_by.axes[0].tolist())))
    for (size, shape), center, turn in zip(solids, centers, degrees, strict=True):
        x, y, distance = seen_by.project(center[None])[0]
        pixels = (round(x), round(y), distance)  # as a scene file has them
        scene.objects.append(SceneObject(size, "", "", shape, turn, pixels, tuple(center)))
    angles = camera_angles(scene)
    built = [object_box(obj, angles) for obj in scene.objects]
    print_errors(solids, np.array(built), segmented)
    _draw(image, segmented, np.array(built)).save(output)


def _ground_points(boxes: Points, halves: Points) -> Points:
    """Returns x, y and an angle of each object: where the nominal camera sees the box's center."""
    seen_by = camera(np.zeros(6))
    points = []
    for box, half in zip(boxes, halves, strict=True):
        x, y = (box[:2] + box[2:]) / 2
        ray = np.array([x - WIDTH / 2, y - HEIGHT / 2, FOCAL_LENGTH]) @ seen_by.axes
        distance = (half - seen_by.position[2]) / ray[2]
        points.append([*(seen_by.position + distance * ray)[:2], 0.0])
    return np.concatenate(points)


def _draw(image: Image.Image, segmented: Points, built: Points) -> Image.Image:
    drawing = image.resize((WIDTH * DRAWING_SCALE, HEIGHT * DRAWING_SCALE))
    draw = ImageDraw.Draw(drawing)
    for x in range(0, WIDTH, STRIDE):
        draw.line([x * DRAWING_SCALE, 0, x * DRAWING_SCALE, drawing.height], fill="gray")
    for y in range(0, HEIGHT, STRIDE):
        draw.line([0, y * DRAWING_SCALE, drawing.width, y * DRAWING_SCALE], fill="gray")
    for boxes, color in ((segmented, "white"), (built, "yellow")):
        for box in boxes * DRAWING_SCALE:
            draw.rectangle(box.tolist(), outline=color, width=2)
    return drawing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes")
    parser.add_argument("image")
    parser.add_argument("--objects", required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    compare_scene(args.scenes)
    objects = [description.split() for description in args.objects.split(",")]
    compare_image(args.image, objects, args.output)


if __name__ == "__main__":
    main()
