"""LVIS version 1 on COCO's images: a class for each color of each shape, some of them rare.

As in the real files, an image tells its classes, some that it does not show, and some of whose
objects not all are annotated; of all other classes it says nothing.
"""

from collections import Counter
from random import Random
from typing import Any

from pipelines.synthetic.boxes import copy_of
from pipelines.synthetic.coco import file_name
from pipelines.synthetic.phrases import Language
from pipelines.synthetic.plan import COCO_LONGEST, SyntheticImage
from pipelines.synthetic.scene import COLORS, MOST, SceneObject
from pipelines.synthetic.shapes import OUTLINES

#: Classes that an image does not show, in the mean.
NOT_SHOWN = 3
#: How often one of several objects of a class is not annotated.
NOT_EXHAUSTIVE_SHARE = 0.2
#: Classes are frequent in more than the second number of images of train, and rare in at most
#: the first.
RARE_UP_TO, COMMON_UP_TO = 10, 100

NAMES = [f"{color}_{noun.replace(' ', '_')}" for color in COLORS for noun in OUTLINES]
CLASS_IDS = {name: number for number, name in enumerate(NAMES, start=1)}

Record = dict[str, Any]


def class_of(obj: SceneObject) -> int:
    return CLASS_IDS[f"{obj.color}_{obj.noun.replace(' ', '_')}"]


def describe(rng: Random, image: SyntheticImage, language: Language) -> tuple[Record, list[Record]]:
    """An image's row, and its annotations."""
    shown = Counter(class_of(obj) for obj in language.objects)
    absent = [number for number in CLASS_IDS.values() if number not in shown]
    several = [number for number, count in shown.items() if count > 1]
    partly = [number for number in several if rng.random() < NOT_EXHAUSTIVE_SHARE]
    copy = copy_of(language.scene, COCO_LONGEST)
    row = {
        "id": image.coco_id,
        "coco_url": f"http://images.example.org/{image.coco}2014/{file_name(image)}",
        "width": copy.width,
        "height": copy.height,
        "neg_category_ids": sorted(rng.sample(absent, rng.randint(0, 2 * NOT_SHOWN))),
        "not_exhaustive_category_ids": sorted(partly),
    }
    annotations: list[Record] = []
    for place, obj in enumerate(language.objects):
        category = class_of(obj)
        if category in partly:
            partly.remove(category)  # the first of them is passed over
            continue
        x0, y0, x1, y1 = obj.box
        annotations.append(
            {
                "id": MOST * image.number + place + 1,
                "image_id": image.coco_id,
                "category_id": category,
                "bbox": [round(x0, 2), round(y0, 2), round(x1 - x0, 2), round(y1 - y0, 2)],
                "area": round((x1 - x0) * (y1 - y0), 2),
            }
        )
    rng.shuffle(annotations)
    return row, annotations


def categories(images: Counter[int]) -> list[Record]:
    """All classes, and in how many images of train each is."""
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
    if images <= RARE_UP_TO:
        return "r"
    return "c" if images <= COMMON_UP_TO else "f"
