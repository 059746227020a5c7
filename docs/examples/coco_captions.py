"""A reader for COCO's caption files: sentences about images, without boxes.

The example of docs/new_source.md. Used in a recipe as::

    [sources.captions]
    reader = "docs.examples.coco_captions:CocoCaptions"
    captions.train = "annotations/captions_train2017.json"
    images = ["train2017"]
"""

from collections.abc import Iterator
from typing import ClassVar

import msgspec

from pipelines.io.json_records import Id, ImageId, decode_list, reject_malformed
from pipelines.io.slices import Input, Slice
from pipelines.sources.base import Context, SliceItem, Source
from schemas import GroundedCaption, ImageInfo, ImageRecord, RawCounts, Rejected
from schemas.image_ids import image_key


class _Image(msgspec.Struct):
    id: ImageId
    file_name: str
    width: int
    height: int


class _Sentence(msgspec.Struct):
    id: Id
    image_id: ImageId
    caption: str


class CocoCaptions(Source, kw_only=True):
    namespace: ClassVar[str] = "coco"

    captions: dict[str, str]  # split -> captions_*.json

    def paths(self) -> list[str]:
        return list(self.captions.values())

    def split_names(self) -> set[str]:
        return set(self.captions)

    def image_tables(self) -> list[Input]:
        return [Input(path, "list", within="images") for path in self.captions.values()]

    def read_image_table(self, raw_slice: Slice) -> Iterator[ImageInfo | Rejected]:
        images, bad = decode_list(raw_slice.content, _Image)
        yield from reject_malformed("captions", bad, raw_slice.input.path)
        for image in images:
            key = image_key("coco", image.id)
            yield ImageInfo(key, "captions", image.file_name, image.width, image.height)

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [
            Input(path, "list", within="annotations", role=split)
            for split, path in self.captions.items()
            if split in splits
        ]

    def read(self, raw_slice: Slice, context: Context) -> Iterator[SliceItem]:
        sentences, bad = decode_list(raw_slice.content, _Sentence)
        yield RawCounts("captions", captions=len(sentences) + len(bad), boxes=0)
        yield from reject_malformed("captions", bad, raw_slice.input.path)
        for sentence in sentences:
            text = " ".join(sentence.caption.split())
            caption = GroundedCaption(text, [], [(0, len(text))], "coco_captions", str(sentence.id))
            key = image_key("coco", sentence.image_id)
            yield ImageRecord(key, "captions", raw_slice.input.role, [caption])
