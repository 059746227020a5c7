"""The grounding JSON of ultralytics and YOLO-World: MDETR's, reduced for training a detector.

All images of a split are in one file, because these loaders support one image folder per file. Its
name differs from the published ones, because ultralytics checks the box counts of those files.
"""

from shards.export.coco_json import GroundingJsonWriter, open_coco_json
from shards.export.job import ExportedFile, ExportJob
from shards.export.regions import groundable_regions


def export(job: ExportJob) -> list[ExportedFile]:
    """Writes ``SPLIT.json``: captions that have a box, with boxes clipped to the image.

    Raises:
        ShardError: see `ExportJob.samples`.
        OSError: a file cannot be written.
    """
    return [_export_split(job, split) for split in job.splits]


def _export_split(job: ExportJob, split: str) -> ExportedFile:
    path = job.output_folder / f"{split}.json"
    left_out = 0
    with open_coco_json(path) as json:
        writer = GroundingJsonWriter(json)
        for exported in job.samples(split):
            sample, name = exported.sample, exported.file_name()
            for caption in sample.captions:
                regions = groundable_regions(caption, sample.width, sample.height)
                if not regions:
                    left_out += len(caption.absent)
                    continue
                image_id = writer.add_caption(
                    {
                        "file_name": name,
                        "height": sample.height,
                        "width": sample.width,
                        "caption": caption.text,
                        "data_source": exported.namespace,
                        "dataset_name": "mixed",
                    }
                )
                for region in regions:
                    writer.add_box(image_id, region.box, region.spans)
        writer.finish()
    return ExportedFile(path, writer.caption_count, writer.box_count, left_out)
