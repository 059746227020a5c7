"""LVIS version 1 on COCO's pictures: a class for each colour of each shape, some of them rare.

As in the real files, a picture tells its classes, some that it does not show, and some of whose
things not all are annotated; of all other classes it says nothing.
"""

from collections import Counter
from random import Random
from typing import Any

from pipelines.world.boxes import copy_of
from pipelines.world.coco import file_name
from pipelines.world.phrases import Language
from pipelines.world.plan import COCO_LONGEST, Picture
from pipelines.world.scene import COLOURS, MOST, Thing
from pipelines.world.shapes import OUTLINES

#: Classes that a picture does not show, in the mean.
NOT_SHOWN = 3
#: How often one of several things of a class is not annotated.
NOT_EXHAUSTIVE_SHARE = 0.2
#: Classes are frequent in more than the second number of pictures of train, and rare in at most
#: the first.
RARE_UP_TO, COMMON_UP_TO = 10, 100

NAMES = [f"{colour}_{noun.replace(' ', '_')}" for colour in COLOURS for noun in OUTLINES]
CLASS_IDS = {name: number for number, name in enumerate(NAMES, start=1)}

Record = dict[str, Any]


def class_of(thing: Thing) -> int:
    return CLASS_IDS[f"{thing.colour}_{thing.noun.replace(' ', '_')}"]


def describe(rng: Random, picture: Picture, language: Language) -> tuple[Record, list[Record]]:
    """A picture's row, and its annotations."""
    shown = Counter(class_of(thing) for thing in language.things)
    absent = [number for number in CLASS_IDS.values() if number not in shown]
    several = [number for number, count in shown.items() if count > 1]
    partly = [number for number in several if rng.random() < NOT_EXHAUSTIVE_SHARE]
    copy = copy_of(language.scene, COCO_LONGEST)
    image = {
        "id": picture.coco_id,
        "coco_url": f"http://images.example.org/{picture.coco}2014/{file_name(picture)}",
        "width": copy.width,
        "height": copy.height,
        "neg_category_ids": sorted(rng.sample(absent, rng.randint(0, 2 * NOT_SHOWN))),
        "not_exhaustive_category_ids": sorted(partly),
    }
    annotations: list[Record] = []
    for place, thing in enumerate(language.things):
        category = class_of(thing)
        if category in partly:
            partly.remove(category)  # the first of them is passed over
            continue
        x0, y0, x1, y1 = thing.box
        annotations.append(
            {
                "id": MOST * picture.number + place + 1,
                "image_id": picture.coco_id,
                "category_id": category,
                "bbox": [round(x0, 2), round(y0, 2), round(x1 - x0, 2), round(y1 - y0, 2)],
                "area": round((x1 - x0) * (y1 - y0), 2),
            }
        )
    rng.shuffle(annotations)
    return image, annotations


def categories(pictures: Counter[int]) -> list[Record]:
    """All classes, and in how many pictures of train each is."""
    return [
        {
            "id": number,
            "name": name,
            "synset": f"{name}.n.01",
            "synonyms": [name],
            "def": f"a shape, {name.replace('_', ' ')}",
            "image_count": pictures[number],
            "frequency": _frequency(pictures[number]),
        }
        for name, number in CLASS_IDS.items()
    ]


def _frequency(pictures: int) -> str:
    if pictures <= RARE_UP_TO:
        return "r"
    return "c" if pictures <= COMMON_UP_TO else "f"
