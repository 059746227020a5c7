"""The JSON that MDETR was trained with, and that is known as GoldG.

One image a caption, with boxes and the characters that name them. Field by field as in the
published ``final_mixed_train.json`` and ``final_flickr_separateGT_train.json``, but for what is
wrong in these: ids and sizes are numbers, and ``categories`` has all that occur.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from schemas import Caption, Region, Sample, Span
from shards.export.output import CocoJson, coco_json
from shards.export.phrases import corners, xywh
from shards.export.request import Exported, Request, Written
from shards.manifest import Manifest

OBJECT = {"supercategory": "object", "id": 1, "name": "object"}
FLICKR = "flickr30k"  # the namespace of pictures that have a file of their own


def export(of: Request) -> list[Written]:
    """Writes a file for the pictures of Flickr30k, and one for all others, of each split.

    Raises:
        ShardError: see `Request.samples`.
        OSError: a file cannot be written.
    """
    return [written for split in of.splits for written in _export_split(of, split)]


def _export_split(of: Request, split: str) -> Iterator[Written]:
    with contextlib.ExitStack() as files:
        open_files: dict[Path, CaptionFile] = {}
        for exported in of.samples(split):
            is_flickr = exported.namespace == FLICKR
            path = of.out / (_flickr_name if is_flickr else _mixed_name)(of, split)
            if path not in open_files:
                file = CaptionFile(files.enter_context(coco_json(path)))
                files.callback(file.end)  # before the file is closed
                open_files[path] = file
            describe = _flickr_image if is_flickr else _mixed_image
            name = exported.file_name()
            for number, caption in enumerate(exported.sample.captions):
                open_files[path].add(describe(exported, name, number), caption.regions)
    for path, file in open_files.items():
        yield Written(path, file.captions, file.boxes)


class CaptionFile:
    """Captions and their boxes, in COCO's layout as MDETR uses it."""

    def __init__(self, json: CocoJson) -> None:
        self._json = json
        self._categories: Counter[int] = Counter()

    @property
    def captions(self) -> int:
        return self._json.images

    @property
    def boxes(self) -> int:
        return self._json.annotations

    def add(self, image: dict[str, Any], regions: Sequence[Region]) -> None:
        number = self._json.add_image(image)
        for region, box in zip(regions, corners(regions), strict=True):
            self._categories[region.category] += 1
            bbox = xywh(box)
            self._json.add_annotation(
                {
                    "area": bbox[2] * bbox[3] if region.area is None else region.area,
                    "iscrowd": int(region.crowd),
                    "image_id": number,
                    "category_id": region.category,
                    "bbox": bbox,
                    "tokens_positive": region.spans,
                }
            )

    def end(self) -> None:
        """Writes the classes. Of those of COCO a shard has the numbers, not the names."""
        others = sorted(self._categories.keys() - {OBJECT["id"]})
        self._json.end([OBJECT, *({"id": id_, "name": f"class {id_}"} for id_ in others)])


def _mixed_name(of: Request, split: str) -> str:
    return f"final_mixed_{split}{'_no_coco' if of.no_coco else ''}.json"


def _flickr_name(of: Request, split: str) -> str:
    return f"final_flickr_{ground_truth(of.shards.manifest)}GT_{split}.json"


def ground_truth(manifest: Manifest) -> str:
    """How boxes of Flickr30k's entities were read: ``separate`` or ``merged``."""
    sources = manifest.recipe.get("sources", {}).values()
    return next((s["ground_truth"] for s in sources if "ground_truth" in s), "separate")


def _mixed_image(of: Exported, name: str, number: int) -> dict[str, Any]:
    sample = of.sample
    caption = sample.captions[number]
    return {
        "file_name": name,
        "height": sample.height,
        "width": sample.width,
        "original_id": _id(sample),
        "caption": caption.text,
        "tokens_negative": caption.negative,
        "data_source": of.namespace,
        "dataset_name": "mixed",
    }


def _flickr_image(of: Exported, name: str, number: int) -> dict[str, Any]:
    sample = of.sample
    caption = sample.captions[number]
    return {
        "file_name": name,
        "height": sample.height,
        "width": sample.width,
        "caption": caption.text,
        "dataset_name": "flickr",
        "tokens_negative": caption.negative,
        "sentence_id": _sentence(caption, number),
        "original_img_id": _id(sample),
        "tokens_positive_eval": _phrases(caption),
    }


def _id(sample: Sample) -> int | str:
    """The picture's id in its data set, a number wherever it is one."""
    id_ = sample.key.partition("/")[2]
    return int(id_) if id_.isdecimal() else id_


def _sentence(caption: Caption, number: int) -> int:
    """Which of the picture's sentences it is; of joined ones, which of its captions."""
    if len(caption.parts) == 1:
        _, mark, sentence = caption.parts[0].record.rpartition("#")
        if mark and sentence.isdecimal():
            return int(sentence)
    return number


def _phrases(caption: Caption) -> list[list[Span]]:
    """The phrases to be grounded; where sentences were joined, the words of each box."""
    if caption.phrases:
        return [phrase.spans for phrase in caption.phrases]
    return [list(spans) for spans in dict.fromkeys(tuple(r.spans) for r in caption.regions)]
