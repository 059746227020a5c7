"""LVIS version 1 on COCO's images: a class for each color of each shape, some of them rare.

As in the real files, an image states the classes that it shows, some that it does not show, and
some whose objects are not all annotated; about all other classes it states nothing.
"""

from collections import Counter
from random import Random
from typing import Any

from pipelines.synthetic.boxes import scale_to_longest
from pipelines.synthetic.coco import file_name, license_id
from pipelines.synthetic.phrases import Language
from pipelines.synthetic.plan import COCO_LONGEST, SyntheticImage
from pipelines.synthetic.scene import COLORS, MAX_OBJECTS, SyntheticObject
from pipelines.synthetic.shapes import OUTLINES

#: Mean number of classes that an image states not to show.
MEAN_NEGATIVES = 3
#: Probability that one of several objects of a class is not annotated.
NOT_EXHAUSTIVE_SHARE = 0.2
#: A class is rare in up to the first number of training images, and frequent above the second.
MAX_RARE, MAX_COMMON = 10, 100

NAMES = [f"{color}_{noun.replace(' ', '_')}" for color in COLORS for noun in OUTLINES]
CLASS_IDS = {name: number for number, name in enumerate(NAMES, start=1)}

Record = dict[str, Any]


def class_id(obj: SyntheticObject) -> int:
    """Returns the category id of an object."""
    return CLASS_IDS[f"{obj.color}_{obj.noun.replace(' ', '_')}"]


def image_and_annotations(
    rng: Random, image: SyntheticImage, language: Language
) -> tuple[Record, list[Record]]:
    """Returns an image's element of the list of images, and its annotations."""
    shown = Counter(class_id(obj) for obj in language.objects)
    absent = [number for number in CLASS_IDS.values() if number not in shown]
    repeated = [number for number, count in shown.items() if count > 1]
    incomplete = [number for number in repeated if rng.random() < NOT_EXHAUSTIVE_SHARE]
    scale = scale_to_longest(language.scene, COCO_LONGEST)
    row = {
        "id": image.coco_id,
        "license": license_id(image),
        "coco_url": f"http://images.example.org/{image.coco}2014/{file_name(image)}",
        "width": scale.width,
        "height": scale.height,
        "neg_category_ids": sorted(rng.sample(absent, rng.randint(0, 2 * MEAN_NEGATIVES))),
        "not_exhaustive_category_ids": sorted(incomplete),
    }
    annotations: list[Record] = []
    for i, obj in enumerate(language.objects):
        category = class_id(obj)
        if category in incomplete:
            incomplete.remove(category)  # omits the first of them
            continue
        x0, y0, x1, y1 = obj.box
        annotations.append(
            {
                "id": MAX_OBJECTS * image.number + i + 1,
                "image_id": image.coco_id,
                "category_id": category,
                "bbox": [round(x0, 2), round(y0, 2), round(x1 - x0, 2), round(y1 - y0, 2)],
                "area": round((x1 - x0) * (y1 - y0), 2),
            }
        )
    rng.shuffle(annotations)
    return row, annotations


def categories(images: Counter[int]) -> list[Record]:
    """Returns all classes, from the number of training images that show each."""
    return [
        {
            "id": number,
            "name": name,
            "synset": f"{name}.n.01",
            "synonyms": [name],
            "def": f"a shape, {name.replace('_', ' ')}",
            "image_count": images[number],
            "frequency": _frequency(images[number]),
        }
        for name, number in CLASS_IDS.items()
    ]


def _frequency(images: int) -> str:
    if images <= MAX_RARE:
        return "r"
    return "c" if images <= MAX_COMMON else "f"
