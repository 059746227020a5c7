"""The grounding JSON of ultralytics and of YOLO-World: MDETR's, with what trains a detector alone.

All images of a split are in one file, since these loaders know one folder of images a file; and
it has a name of its own, since ultralytics counts the boxes of files with the published names.
"""

from shards.export.caption_file import CaptionFile
from shards.export.output import coco_json
from shards.export.phrases import named
from shards.export.request import Request, Written


def export(of: Request) -> list[Written]:
    """Writes ``SPLIT.json``: captions that have a box, with their boxes inside the image.

    Raises:
        ShardError: see `Request.samples`.
        OSError: a file cannot be written.
    """
    return [_export_split(of, split) for split in of.splits]


def _export_split(of: Request, split: str) -> Written:
    path = of.out / f"{split}.json"
    with coco_json(path) as json:
        file = CaptionFile(json)
        for exported in of.samples(split):
            sample, name = exported.sample, exported.file_name()
            for caption in sample.captions:
                regions = named(caption, sample.width, sample.height)
                if not regions:
                    continue
                image = file.add_caption(
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
                    file.add_box(image, region.box, region.spans)
        file.end()
    return Written(path, file.captions, file.boxes)
