"""The JSON that MDETR was trained with, known as GoldG.

One entry of ``images`` per caption, with boxes and the character spans that name them. The fields
are those of the published ``final_mixed_train.json`` and ``final_flickr_separateGT_train.json``,
except that ids and sizes are numbers and ``categories`` lists all that occur.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from schemas import Caption, Sample, Span
from shards.export.coco_json import GroundingJsonWriter, open_coco_json
from shards.export.job import ExportedFile, ExportedSample, ExportJob
from shards.export.regions import float32_boxes

FLICKR = "flickr30k"  # the namespace of the images that are written to a separate file
_MAX_DIGITS = 18  # digits of an integer that every JSON reader represents exactly


def export(job: ExportJob) -> list[ExportedFile]:
    """Writes, for each split, a file for the images of Flickr30k and one for all others.

    Raises:
        ShardError: see `ExportJob.samples`.
        OSError: a file cannot be written.
    """
    return [file for split in job.splits for file in _export_split(job, split)]


def _export_split(job: ExportJob, split: str) -> Iterator[ExportedFile]:
    flickr = job.output_folder / f"final_flickr_{_ground_truth(job)}GT_{split}.json"
    mixed = job.output_folder / f"final_mixed_{split}{'_no_coco' if job.no_coco else ''}.json"
    writers: dict[Path, GroundingJsonWriter] = {}
    with contextlib.ExitStack() as stack:
        for exported in job.samples(split):
            path = flickr if exported.namespace == FLICKR else mixed
            if path not in writers:
                json = stack.enter_context(open_coco_json(path))
                writers[path] = GroundingJsonWriter(json)
            _write_sample(writers[path], exported)
        for writer in writers.values():
            writer.finish()
    for path, writer in writers.items():
        yield ExportedFile(path, writer.caption_count, writer.box_count)


def _write_sample(writer: GroundingJsonWriter, exported: ExportedSample) -> None:
    image_fields = _image_fields(exported, exported.file_name())
    for fields, caption in zip(image_fields, exported.sample.captions, strict=True):
        image_id = writer.add_caption(fields)
        for region, box in zip(caption.regions, float32_boxes(caption.regions), strict=True):
            writer.add_box(
                image_id,
                box,
                region.spans,
                area=region.area,
                crowd=region.crowd,
                category=region.category,
            )


def _ground_truth(job: ExportJob) -> str:
    """Returns the recipe's ``ground_truth`` of Flickr30k: ``separate`` or ``merged`` boxes."""
    sources = job.shards.manifest.recipe.get("sources", {}).values()
    return next((s["ground_truth"] for s in sources if "ground_truth" in s), "separate")


def _image_fields(exported: ExportedSample, file_name: str) -> Iterator[dict[str, Any]]:
    """Yields the ``images`` entry of each caption."""
    sample = exported.sample
    sentence_ids = _sentence_ids(sample.captions)
    for caption, sentence_id in zip(sample.captions, sentence_ids, strict=True):
        fields = {
            "file_name": file_name,
            "height": sample.height,
            "width": sample.width,
            "caption": caption.text,
            "tokens_negative": caption.tokens_negative,
        }
        if exported.namespace == FLICKR:
            fields |= {
                "dataset_name": "flickr",
                "sentence_id": sentence_id,
                "original_img_id": _image_id(sample),
                "tokens_positive_eval": _phrase_spans(caption),
            }
        else:
            fields |= {
                "dataset_name": "mixed",
                "original_id": _image_id(sample),
                "data_source": exported.namespace,
            }
        yield fields


def _image_id(sample: Sample) -> int | str:
    """Returns the image's id in its dataset, as a number if the conversion is lossless."""
    id_ = sample.key.partition("/")[2]
    is_number = id_.isdecimal() and len(id_) <= _MAX_DIGITS and str(int(id_)) == id_
    return int(id_) if is_number else id_


def _sentence_ids(captions: Sequence[Caption]) -> list[int]:
    """Returns the number of each caption's sentence in Flickr30k; its index if any were combined.

    The record of a sentence is ``IMAGE#NUMBER``.
    """
    records = [caption.provenance[0].record for caption in captions if len(caption.provenance) == 1]
    matches = [re.fullmatch(r".*#([0-9]{1,9})", record, re.DOTALL) for record in records]
    numbers = [int(match[1]) for match in matches if match]
    return numbers if len(numbers) == len(captions) else list(range(len(captions)))


def _phrase_spans(caption: Caption) -> list[list[Span]]:
    """Returns the spans of the phrases to ground; those of the boxes if sentences were combined."""
    if caption.phrases:
        return [phrase.spans for phrase in caption.phrases]
    return [list(spans) for spans in dict.fromkeys(tuple(r.spans) for r in caption.regions)]
