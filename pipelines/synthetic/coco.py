"""COCO 2014: instances_train2014.json and instances_val2014.json.

Shapes are the categories. Segmentations are the outlines with two decimals; a few groups of
shapes are one crowd annotation, whose mask is an uncompressed run-length encoding.
"""

from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pipelines.synthetic import corruption
from pipelines.synthetic.boxes import ImageScale, scale_to_longest
from pipelines.synthetic.phrases import Language
from pipelines.synthetic.plan import COCO_LONGEST, SyntheticImage
from pipelines.synthetic.scene import bounds
from pipelines.synthetic.shapes import OUTLINES, Outline

#: Share of images with several objects of one shape that get a crowd annotation as well.
CROWD_SHARE = 0.25
#: Ids of annotations: every image has an interval of them.
IDS_PER_IMAGE = 20

CATEGORY_IDS = {noun: number for number, noun in enumerate(OUTLINES, start=1)}
CATEGORIES = [
    {"supercategory": "shape", "id": number, "name": noun} for noun, number in CATEGORY_IDS.items()
]
LICENSES: list[dict[str, Any]] = [
    {"url": f"http://example.org/licenses/{number}/", "id": number, "name": f"Synthetic {name}"}
    for number, name in enumerate(("Attribution License", "No Known Restrictions"), start=1)
]

Record = dict[str, Any]


def file_name(image: SyntheticImage) -> str:
    """Returns the name of the image's file."""
    return f"COCO_{image.coco}2014_{image.coco_id:012d}.jpg"


def annotation_id(image: SyntheticImage, number: int) -> int:
    """Returns the id of an annotation, by its number in the image: an object's is its index."""
    return IDS_PER_IMAGE * image.number + number + 1


def license_id(image: SyntheticImage) -> int:
    """Returns the id of the image's license."""
    number: int = LICENSES[image.number % len(LICENSES)]["id"]
    return number


def info(split: str) -> Record:
    """Returns what a file states about itself."""
    return {"description": f"Synthetic images in the layout of COCO {split}2014", "year": 2014}


def image_row(image: SyntheticImage, language: Language) -> Record:
    """Returns the image's element of the list of images."""
    scale = scale_to_longest(language.scene, COCO_LONGEST)
    return {
        "license": license_id(image),
        "file_name": file_name(image),
        "coco_url": f"http://mscoco.org/images/{image.coco_id}",
        "height": scale.height,
        "width": scale.width,
        "date_captured": "2013-11-21 23:06:41",
        "flickr_url": f"http://farm6.staticflickr.com/5062/{image.photo_id}_a326e96ea9_z.jpg",
        "id": image.coco_id,
    }


def annotations(
    rng: Random, image: SyntheticImage, language: Language, mean_count: float
) -> list[Record]:
    """Returns one annotation per object, in some images a crowd, and the corrupted ones.

    ``mean_count`` is the mean number of objects of an image.
    """
    objects = language.objects
    corrupted = corruption.plan_corruption(
        rng, corruption.ANNOTATIONS, image.number, mean_count, len(objects)
    )
    records = [
        _annotation(image, number, obj.noun, _jittered(rng, obj.outline))
        for number, obj in enumerate(objects)
    ]
    for number, kind in corrupted.items():
        if kind == "crossed polygon":
            _cross(records[number])
        else:
            noun, center = objects[number].noun, objects[number].center
            records.append(_zero_area(image, len(records), noun, center))
    crowds = [members for description, members in language.groups if not description.color]
    if crowds and rng.random() < CROWD_SHARE:
        outlines = [objects[i].outline for i in crowds[0]]
        noun = objects[crowds[0][0]].noun
        scale = scale_to_longest(language.scene, COCO_LONGEST)
        records.append(_crowd(image, len(records), noun, outlines, scale))
    return records


def _jittered(rng: Random, outline: Outline) -> Outline:
    """Returns the outline as an annotator clicks it: shifted by less than half a pixel."""
    dx, dy = 0.9 * (rng.random() - 0.5), 0.9 * (rng.random() - 0.5)
    return [(round(x + dx, 2), round(y + dy, 2)) for x, y in outline]


def _annotation(image: SyntheticImage, number: int, noun: str, outline: Outline) -> Record:
    x0, y0, x1, y1 = bounds(outline)
    return {
        "segmentation": [[coordinate for corner in outline for coordinate in corner]],
        "area": _area(outline),
        "iscrowd": 0,
        "image_id": image.coco_id,
        "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
        "category_id": CATEGORY_IDS[noun],
        "id": annotation_id(image, number),
    }


def _area(outline: Outline) -> float:
    """Returns the area of a polygon by the shoelace formula."""
    doubled = sum(
        x0 * y1 - x1 * y0
        for (x0, y0), (x1, y1) in zip(outline, outline[1:] + outline[:1], strict=True)
    )
    return abs(doubled) / 2


def _cross(record: Record) -> None:
    """Exchanges two neighboring corners, so that the borders of most shapes cross themselves."""
    polygon = record["segmentation"][0]
    polygon[0:2], polygon[2:4] = polygon[2:4], polygon[0:2]


def _zero_area(
    image: SyntheticImage, number: int, noun: str, center: tuple[float, float]
) -> Record:
    """Returns an annotation whose corners are all at one point."""
    x, y = (round(c, 2) for c in center)
    return _annotation(image, number, noun, [(x, y), (x, y), (x, y)])


def _crowd(
    image: SyntheticImage, number: int, noun: str, outlines: list[Outline], scale: ImageScale
) -> Record:
    mask = Image.new("1", (scale.width, scale.height))
    draw = ImageDraw.Draw(mask)
    for outline in outlines:
        draw.polygon(outline, fill=1)
    pixels = np.asarray(mask)
    rows, columns = np.nonzero(pixels.any(axis=1))[0], np.nonzero(pixels.any(axis=0))[0]
    x, y = int(columns[0]), int(rows[0])
    return {
        "segmentation": {"counts": run_lengths(pixels), "size": [scale.height, scale.width]},
        "area": int(pixels.sum()),
        "iscrowd": 1,
        "image_id": image.coco_id,
        "bbox": [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
        "category_id": CATEGORY_IDS[noun],
        "id": annotation_id(image, number),
    }


def run_lengths(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Returns COCO's uncompressed encoding: run lengths down the columns, background first.

    >>> run_lengths(np.array([[0, 1], [1, 1]], bool))
    [1, 3]
    """
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    lengths: list[int] = np.diff(changes, prepend=0, append=len(pixels)).tolist()
    return [0, *lengths] if pixels[0] else lengths
