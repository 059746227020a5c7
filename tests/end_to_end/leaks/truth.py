"""Invented photos, the datasets that contain them, and what these state about them.

This is what the oracle compares shard sets with; nothing here is parsed from a file. Every
photo has a color of its own, which its image has in every dataset, at every size; and a noun of its
own, which is in every caption about it, with an adjective that no other caption about it has.
"""

import dataclasses
import io
import itertools
from collections.abc import Iterator
from random import Random

from PIL import Image

_NOUNS = (  # noqa: SIM905
    "bako delu fimo gatu hesi jolu kemi lopa mirt nuvo pelk rasi tovu vemi wolk zarb"
).split()
ADJECTIVES = (  # noqa: SIM905
    "red tall small wet dark old round green cold flat young heavy blue long dry pale short soft "
    "white black thick thin warm bright loud clean dirty narrow wide sharp sweet rough smooth "
    "yellow brown gray purple pink tiny huge empty full busy calm fresh strong weak deep shallow "
    "quiet fast slow plain fancy rusty shiny muddy sandy snowy rainy foggy sunny"
).split()
_COLORS = list(itertools.product((20, 90, 160, 235), repeat=3))
_SIZES = [(60, 40), (40, 60), (48, 48), (80, 40), (80, 60)]


@dataclasses.dataclass(eq=False)
class Photo:
    noun: str
    color: tuple[int, int, int]
    width: int
    height: int
    flickr: int  # id of the photo at Flickr


@dataclasses.dataclass(eq=False)
class ImageRow:
    """An image of a dataset.

    Attributes:
        part: The published part of the dataset that has it, such as ``train2014``.
        coco: The image of COCO that Visual Genome's ``coco_id`` states.
        no_coco: What ``coco_id`` is instead, if it states none; "missing" means no field.
        states_flickr: Whether the dataset states the id of the photo at Flickr.
        no_flickr: What its field is instead.
        flickr: The id of the photo at Flickr that it states; that of another photo is a mistake.
    """

    namespace: str
    id: int
    photo: Photo
    width: int
    height: int
    part: str = ""
    coco: "ImageRow | None" = None
    no_coco: object = None
    states_flickr: bool = False
    no_flickr: object = None
    flickr: int = 0

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.id}"

    @property
    def file(self) -> str:
        """The name of its file, as published."""
        if self.namespace == "coco":
            return f"COCO_{self.part}_{self.id:012}.jpg"
        return f"{self.id}.jpg"

    def content(self) -> bytes:
        """Returns its file, which differs from those of other images of its photo."""
        content = io.BytesIO()
        image = Image.new("RGB", (self.width, self.height), self.photo.color)
        image.save(content, "JPEG", quality=95, comment=self.key)
        return content.getvalue()


@dataclasses.dataclass
class Truth:
    photos: list[Photo]
    coco: list[ImageRow]
    vg: list[ImageRow]
    flickr30k: list[ImageRow]
    ids_collide: bool  # between the datasets: an id alone does not tell the dataset
    adjectives: dict[str, Iterator[str]]  # of the next caption about each photo

    @property
    def rows(self) -> list[ImageRow]:
        return [*self.coco, *self.vg, *self.flickr30k]

    def text(self, row: ImageRow) -> str:
        """Returns the words of a new caption about an image."""
        return f"{next(self.adjectives[row.photo.noun])} {row.photo.noun}"


def random_truth(rng: Random) -> Truth:
    ids_collide = rng.random() < 0.3
    count = rng.randint(5, 12)
    nouns, colors = rng.sample(_NOUNS, count), rng.sample(_COLORS, count)
    flickr_ids = _ids(rng, 10**8, ids_collide)
    photos = [
        Photo(noun, color, *rng.choice(_SIZES), flickr=next(flickr_ids))
        for noun, color in zip(nouns, colors, strict=True)
    ]
    truth = Truth(photos, [], [], [], ids_collide, {})
    truth.adjectives = {noun: iter(rng.sample(ADJECTIVES, len(ADJECTIVES))) for noun in nouns}
    coco_ids, vg_ids = _ids(rng, 10**5, ids_collide), _ids(rng, 2 * 10**6, ids_collide)
    no_id = [rng.choice([None, "missing", -1, 0]) for _ in range(3)]
    for photo in photos:
        coco = None
        if rng.random() < 0.7:
            coco = _row(rng, "coco", next(coco_ids), photo)
            coco.part = rng.choice(["train2014", "train2014", "train2014", "val2014", "test2015"])
            # No file states the photos of test2015.
            coco.states_flickr = coco.part != "test2015" and rng.random() < 0.8
            coco.no_flickr = no_id[0] if isinstance(no_id[0], str) else ""
            truth.coco.append(coco)
        if rng.random() < 0.75:
            vg = _row(rng, "vg", next(vg_ids), photo)
            if coco and coco.part != "test2015" and rng.random() < 0.7:
                vg.coco = coco
            vg.no_coco = no_id[1]
            vg.states_flickr, vg.no_flickr = rng.random() < 0.7, no_id[2]
            truth.vg.append(vg)
        if rng.random() < 0.45 or not (coco or any(row.photo is photo for row in truth.vg)):
            row = _row(rng, "flickr30k", photo.flickr, photo)
            row.part = rng.choice(["train", "train", "val", "test"])
            row.states_flickr = True
            truth.flickr30k.append(row)
    return truth


def _ids(rng: Random, start: int, ids_collide: bool) -> Iterator[int]:
    ids = range(1, 40) if ids_collide else range(start, 2 * start)
    return iter(rng.sample(ids, 30))


def _row(rng: Random, namespace: str, id_: int, photo: Photo) -> ImageRow:
    """Returns an image of a photo at some size; one in eight is a crop."""
    scale = rng.choice([0.5, 1, 1, 1.5, 2])
    width, height = int(photo.width * scale), int(photo.height * scale)
    if rng.random() < 1 / 8:
        width = int(width * 0.8)
    return ImageRow(namespace, id_, photo, width, height, flickr=photo.flickr)
