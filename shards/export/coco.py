"""COCO's detection layout (``instances_SPLIT.json``), for pycocotools and its users.

One entry of ``images`` per image. The categories are the phrases that name the boxes, in lower
case: for LVIS its classes, for captions one per distinct phrase. For class-agnostic
average precision set ``useCats = 0``.
"""

from shards.export.coco_json import open_coco_json
from shards.export.job import ExportedFile, ExportedSample, ExportJob
from shards.export.regions import to_xywh, visible_regions

#: The category of a box that no phrase names.
UNNAMED = "object"

#: Phrase, box (xyxy) and whether it is a crowd.
BoxKey = tuple[str, tuple[float, ...], bool]


def export(job: ExportJob) -> list[ExportedFile]:
    """Writes ``instances_SPLIT.json``; category ids start at 1 and are the same in all files.

    A box that several captions name with the same phrase is written once. Memory grows with the
    number of distinct phrases.

    Raises:
        ShardError: see `ExportJob.samples`.
        OSError: a file cannot be written.
    """
    category_ids: dict[str, int] = {}
    return [_export_split(job, split, category_ids) for split in job.splits]


def _export_split(job: ExportJob, split: str, category_ids: dict[str, int]) -> ExportedFile:
    path = job.output_folder / f"instances_{split}.json"
    caption_count = left_out = 0
    # When pycocotools matches boxes, an annotation with id 0 counts as unmatched.
    with open_coco_json(path, first_id=1) as writer:
        for exported in job.samples(split):
            sample = exported.sample
            caption_count += len(sample.captions)
            left_out += sum(len(caption.absent) for caption in sample.captions)
            image_id = writer.add_image(
                {
                    "file_name": exported.file_name(),
                    "height": sample.height,
                    "width": sample.width,
                }
            )
            for (phrase, box, crowd), area in _unique_boxes(exported).items():
                bbox = to_xywh(list(box))
                writer.add_annotation(
                    {
                        "image_id": image_id,
                        "category_id": category_ids.setdefault(phrase, len(category_ids) + 1),
                        "bbox": bbox,
                        "area": bbox[2] * bbox[3] if area is None else area,
                        "iscrowd": int(crowd),
                    }
                )
        writer.finish([{"id": id_, "name": phrase} for phrase, id_ in category_ids.items()])
    return ExportedFile(path, caption_count, writer.annotation_count, left_out)


def _unique_boxes(exported: ExportedSample) -> dict[BoxKey, float | None]:
    """Returns the stated area of each distinct box of an image."""
    sample = exported.sample
    areas: dict[BoxKey, float | None] = {}
    for caption in sample.captions:
        for box, _, phrase, region in visible_regions(caption, sample.width, sample.height):
            name = phrase.strip().lower() or UNNAMED
            areas.setdefault((name, tuple(box), region.crowd), region.area)
    return areas
