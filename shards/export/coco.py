"""COCO's detection layout, for pycocotools and what reads with it.

One image an image. The classes of boxes are the words that name them, in small letters: of a set
of LVIS its classes, of captions as many as there are different phrases. For class-agnostic average
precision set ``useCats = 0``.
"""

from shards.export.output import coco_json
from shards.export.phrases import visible, xywh
from shards.export.request import Exported, Request, Written

#: The class of a box that no words name.
NAMELESS = "object"


def export(of: Request) -> list[Written]:
    """Writes ``instances_SPLIT.json``. Classes have the same ids, from 1 on, in all its files.

    A box that several captions call the same is there once. Memory grows with the number of
    different phrases.

    Raises:
        ShardError: see `Request.samples`.
        OSError: a file cannot be written.
    """
    classes: dict[str, int] = {}
    return [_export_split(of, split, classes) for split in of.splits]


def _export_split(of: Request, split: str, classes: dict[str, int]) -> Written:
    path = of.out / f"instances_{split}.json"
    captions = 0
    # pycocotools takes an annotation of id 0 for none at all when it matches boxes.
    with coco_json(path, first_id=1) as file:
        for exported in of.samples(split):
            sample = exported.sample
            captions += len(sample.captions)
            image = file.add_image(
                {
                    "file_name": exported.file_name(),
                    "height": sample.height,
                    "width": sample.width,
                }
            )
            for (phrase, box, crowd), area in _boxes(exported).items():
                bbox = xywh(list(box))
                file.add_annotation(
                    {
                        "image_id": image,
                        "category_id": classes.setdefault(phrase, len(classes) + 1),
                        "bbox": bbox,
                        "area": bbox[2] * bbox[3] if area is None else area,
                        "iscrowd": int(crowd),
                    }
                )
        file.end([{"id": id_, "name": name} for name, id_ in classes.items()])
    return Written(path, captions, file.annotations)


def _boxes(of: Exported) -> dict[tuple[str, tuple[float, ...], bool], float | None]:
    """The stated area of each box, by what it is called, where it is, and whether it is a crowd."""
    sample = of.sample
    found: dict[tuple[str, tuple[float, ...], bool], float | None] = {}
    for caption in sample.captions:
        for box, _, phrase, region in visible(caption, sample.width, sample.height):
            name = phrase.strip().lower() or NAMELESS
            found.setdefault((name, tuple(box), region.crowd), region.area)
    return found
