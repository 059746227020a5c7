"""The JSON that MDETR was trained with, and that is known as GoldG.

One image a caption, with boxes and the characters that name them. Field by field as in the
published ``final_mixed_train.json`` and ``final_flickr_separateGT_train.json``, but for what is
wrong in these: ids and sizes are numbers, and ``categories`` has all that occur.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from schemas import Caption, Sample, Span
from shards.export.caption_file import CaptionFile
from shards.export.output import coco_json
from shards.export.phrases import corners
from shards.export.request import Exported, Request, Written

FLICKR = "flickr30k"  # the namespace of images that have a file of their own
_DIGITS = 18  # of numbers that JSON's readers take for integers


def export(of: Request) -> list[Written]:
    """Writes a file for the images of Flickr30k, and one for all others, of each split.

    Raises:
        ShardError: see `Request.samples`.
        OSError: a file cannot be written.
    """
    return [written for split in of.splits for written in _export_split(of, split)]


def _export_split(of: Request, split: str) -> Iterator[Written]:
    flickr = of.out / f"final_flickr_{_ground_truth(of)}GT_{split}.json"
    mixed = of.out / f"final_mixed_{split}{'_no_coco' if of.no_coco else ''}.json"
    files: dict[Path, CaptionFile] = {}
    with contextlib.ExitStack() as stack:
        for exported in of.samples(split):
            path = flickr if exported.namespace == FLICKR else mixed
            if path not in files:
                files[path] = CaptionFile(stack.enter_context(coco_json(path)))
            images = _images(exported, exported.file_name())
            for fields, caption in zip(images, exported.sample.captions, strict=True):
                image = files[path].add_caption(fields)
                for region, box in zip(caption.regions, corners(caption.regions), strict=True):
                    files[path].add_box(
                        image,
                        box,
                        region.spans,
                        area=region.area,
                        crowd=region.crowd,
                        category=region.category,
                    )
        for file in files.values():
            file.end()
    for path, file in files.items():
        yield Written(path, file.captions, file.boxes)


def _ground_truth(of: Request) -> str:
    """How boxes of Flickr30k's entities were read, by the recipe: ``separate`` or ``merged``."""
    sources = of.shards.manifest.recipe.get("sources", {}).values()
    return next((s["ground_truth"] for s in sources if "ground_truth" in s), "separate")


def _images(of: Exported, name: str) -> Iterator[dict[str, Any]]:
    """The fields of each caption's image."""
    sample = of.sample
    for caption, sentence in zip(sample.captions, _sentences(sample.captions), strict=True):
        fields = {
            "file_name": name,
            "height": sample.height,
            "width": sample.width,
            "caption": caption.text,
            "tokens_negative": caption.tokens_negative,
        }
        if of.namespace == FLICKR:
            fields |= {
                "dataset_name": "flickr",
                "sentence_id": sentence,
                "original_img_id": _id(sample),
                "tokens_positive_eval": _phrases(caption),
            }
        else:
            fields |= {
                "dataset_name": "mixed",
                "original_id": _id(sample),
                "data_source": of.namespace,
            }
        yield fields


def _id(sample: Sample) -> int | str:
    """The image's id in its data set, a number wherever that says the same."""
    id_ = sample.key.partition("/")[2]
    is_number = id_.isdecimal() and len(id_) <= _DIGITS and str(int(id_)) == id_
    return int(id_) if is_number else id_


def _sentences(captions: Sequence[Caption]) -> list[int]:
    """Which of the image's sentences each caption is; if any are joined, which caption it is."""
    marked = [
        caption.provenance[0].record.rpartition("#") for caption in captions if caption.provenance
    ]
    apart = [
        int(number) for _, mark, number in marked if mark and re.fullmatch("[0-9]{1,9}", number)
    ]
    if len(apart) == len(captions) == sum(len(caption.provenance) for caption in captions):
        return apart
    return list(range(len(captions)))


def _phrases(caption: Caption) -> list[list[Span]]:
    """The phrases to be grounded; where sentences were joined, the words of each box."""
    if caption.phrases:
        return [phrase.spans for phrase in caption.phrases]
    return [list(spans) for spans in dict.fromkeys(tuple(r.spans) for r in caption.regions)]
