"""COCO's detection layout, for pycocotools and what reads with it.

One image a picture. The classes of boxes are the words that name them, in small letters: of a set
of LVIS its classes, of captions as many as there are different phrases. For class-agnostic average
precision set ``useCats = 0``, or tell pycocotools one class.
"""

from shards.export.output import coco_json
from shards.export.phrases import Numbers, corners, pieces, xywh
from shards.export.request import Exported, Request, Written

#: The class of a box that no words name.
NAMELESS = "object"


def export(of: Request) -> list[Written]:
    """Writes ``instances_SPLIT.json``. Classes have the same ids, from 1 on, in all splits.

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
                file.add_annotation(
                    {
                        "image_id": image,
                        "category_id": classes.setdefault(phrase, len(classes) + 1),
                        "bbox": xywh(list(box)),
                        "area": area,
                        "iscrowd": int(crowd),
                    }
                )
        file.end([{"id": id_, "name": name} for name, id_ in classes.items()])
    return Written(path, captions, file.annotations)


def _boxes(of: Exported) -> dict[tuple[str, tuple[float, ...], bool], float]:
    """The area (square pixels) of each box, by what it is called, where it is, if it is a crowd."""
    found: dict[tuple[str, tuple[float, ...], bool], float] = {}
    for caption in of.sample.captions:
        for region, box in zip(caption.regions, corners(caption.regions), strict=True):
            words = [caption.text[start:stop] for start, stop in pieces(region.spans, caption.text)]
            phrase = " ".join(words).lower() or NAMELESS
            own = _area(box) if region.area is None else region.area
            found.setdefault((phrase, tuple(box), region.crowd), own)
    return found


def _area(box: Numbers) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
