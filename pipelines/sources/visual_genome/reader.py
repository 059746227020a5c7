"""Visual Genome region graphs: phrases about parts of an image, with the objects they name.

Layout: visualgenome.org, version 1.4 (``image_data.json``, ``region_graphs.json``).
"""

from collections.abc import Iterator
from typing import ClassVar

import msgspec

from pipelines.captions.parsing import clean, lower
from pipelines.geometry.boxes import from_xywh
from pipelines.sources.base import Context, Input, Slice, Source
from pipelines.sources.decoding import Id, decode_list, malformed
from pipelines.sources.visual_genome.boxes import area
from pipelines.sources.visual_genome.characters import Characters
from pipelines.sources.visual_genome.regions import (
    Description,
    RawRegion,
    Refusal,
    TextRules,
    describe,
    merge,
    refusal_of_text,
)
from pipelines.sources.visual_genome.tokens import Tokens
from schemas import GroundedCaption, ImageInfo, ImageRecord, Region, Rejected

TEXT_RULES: dict[str, type[Tokens] | type[Characters]] = {
    "tokens": Tokens,
    "characters": Characters,
}


class _ImageData(msgspec.Struct, gc=False):
    image_id: Id
    width: int
    height: int
    coco_id: Id | None = None
    flickr_id: Id | None = None


class _RegionGraph(msgspec.Struct, gc=False):
    image_id: Id
    regions: list[RawRegion]


class _UndecodedRegionGraph(msgspec.Struct, gc=False):
    image_id: Id
    regions: msgspec.Raw


class VisualGenome(Source, kw_only=True):
    """Regions serve the split ``train`` only: Visual Genome has no other."""

    namespace: ClassVar[str] = "vg"
    parses: ClassVar[bool] = True

    image_data: str  # image_data.json or its .zip
    region_graphs: str  # region_graphs.json or its .zip

    def paths(self) -> list[str]:
        return [self.image_data, self.region_graphs]

    def image_inputs(self) -> list[Input]:
        return [Input(self.image_data, "list")]

    def read_images(self, piece: Slice) -> Iterator[ImageInfo | Rejected]:
        images, bad = decode_list(piece.content, _ImageData)
        yield from malformed(self.namespace, bad, piece.input.path)
        for image in images:
            yield ImageInfo(
                key=_key(image.image_id),
                source=self.namespace,
                file=f"{image.image_id}.jpg",
                width=image.width,
                height=image.height,
                photo="" if image.flickr_id is None else str(image.flickr_id),
                same_as="" if image.coco_id is None else f"coco/{image.coco_id}",
            )

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [Input(self.region_graphs, "list")] if "train" in splits else []

    def read(self, piece: Slice, context: Context) -> Iterator[ImageRecord | Rejected]:
        images: list[_RegionGraph] = []
        for item in _decode(piece):
            if isinstance(item, Rejected):
                yield item
            else:
                images.append(item)

        captions: list[list[tuple[RawRegion, str]]] = [[] for _ in images]
        for image, of_image in zip(images, captions, strict=True):
            for region in image.regions:
                caption = clean(region.phrase)
                refusal = refusal_of_text(region, caption)
                if refusal is None:
                    of_image.append((region, caption))
                else:
                    yield _refused(refusal, image)

        # One call of the language model for all images of the slice.
        text_rules = TEXT_RULES[context.rules.vg_text]
        distinct = dict.fromkeys(caption for of_image in captions for _, caption in of_image)
        parses = context.parse(
            text for caption in distinct for text in (lower(caption), *text_rules.texts(caption))
        )
        rules: TextRules = text_rules(parses, context.stop_words)

        for image, of_image in zip(images, captions, strict=True):
            descriptions: list[Description] = []
            for region, caption in of_image:
                result = describe(region, caption, parses[lower(caption)], rules)
                if isinstance(result, Refusal):
                    yield _refused(result, image)
                else:
                    descriptions.append(result)
            merged, refused = merge(descriptions, rules)
            for refusal in refused:
                yield _refused(refusal, image)
            if merged:
                yield ImageRecord(
                    image=_key(image.image_id),
                    source=self.namespace,
                    split="train",
                    captions=[_caption(description) for description in merged],
                    merged=sum(len(description.records) - 1 for description in merged),
                )


def _decode(piece: Slice) -> Iterator[_RegionGraph | Rejected]:
    """The images of a slice; what cannot be decoded takes nothing else with it."""
    try:
        good = msgspec.json.decode(piece.content, type=list[_RegionGraph])
    except ValueError:
        yield from _decode_one_by_one(piece)
    else:
        yield from good


def _decode_one_by_one(piece: Slice) -> Iterator[_RegionGraph | Rejected]:
    images, bad = decode_list(piece.content, _UndecodedRegionGraph)
    yield from malformed("vg", bad, piece.input.path)
    for image in images:
        try:
            regions, bad = decode_list(bytes(image.regions), RawRegion)
        except ValueError as fault:
            regions, bad = [], [("", str(fault))]
        named = [(f"{image.image_id}/regions/{position}", fault) for position, fault in bad]
        yield from malformed("vg", named, piece.input.path, image=_key(image.image_id))
        yield _RegionGraph(image.image_id, regions)


def _caption(description: Description) -> GroundedCaption:
    return GroundedCaption(
        text=description.text,
        regions=[
            Region(spans=spans, box=from_xywh(*box), area=area(box))
            for box, spans in zip(description.boxes, description.spans, strict=True)
        ],
        negative=description.negative,
        dataset="vg",
        record=str(description.records[0]),
    )


def _key(image_id: int) -> str:
    return f"vg/{image_id}"


def _refused(refusal: Refusal, image: _RegionGraph) -> Rejected:
    key = _key(image.image_id)
    return Rejected("vg", str(refusal.record), refusal.reason, refusal.detail, key)
