"""The source Visual Genome: region descriptions, with the boxes of the objects they name.

Layouts: visualgenome.org, ``image_data.json`` with ``region_graphs.json``, or with
``region_descriptions.json``, which has no objects. The id of an image is ``image_id``, or ``id`` in
version 1.0 and in ``region_descriptions.json``.
"""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import msgspec

from pipelines.captions.text_cleanup import clean
from pipelines.dedup.joins import TableIds
from pipelines.geometry.boxes import from_xywh
from pipelines.io.json_records import (
    BadRecord,
    Id,
    ImageId,
    decode_list,
    decode_parts,
    reject_malformed,
)
from pipelines.io.slices import Input, Slice
from pipelines.sources.base import Context, SliceItem, Source
from pipelines.sources.image_licenses import web_address
from pipelines.sources.visual_genome.boxes import float32_area
from pipelines.sources.visual_genome.deduplication import deduplicate_captions
from pipelines.sources.visual_genome.published_text_rules import PublishedTextRules
from pipelines.sources.visual_genome.regions import (
    AnyRegion,
    RawRegion,
    RegionCaption,
    RegionDescription,
    RejectedRegion,
    box_count,
    check_region,
    preprocess_region,
)
from pipelines.sources.visual_genome.text_rules import TextRules, TokenTextRules
from schemas import (
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    NotAskedFor,
    RawCounts,
    Region,
    Rejected,
    Synonyms,
)
from schemas.decodable import decodable
from schemas.image_ids import image_key, optional_image_key, photo_id
from schemas.joins import COCO_ID, PHOTO_ID
from schemas.limits import MAX_IMAGE_REGIONS

TEXT_RULES: dict[str, type[TokenTextRules] | type[PublishedTextRules]] = {
    "tokens": TokenTextRules,
    "characters": PublishedTextRules,
}


class _OfImage(msgspec.Struct, gc=False, kw_only=True):
    image_id: ImageId = 0
    id: ImageId = 0

    def __post_init__(self) -> None:
        if not self.image_id:
            if not self.id:
                raise ValueError("Object missing required field `image_id`")
            self.image_id = self.id


class _ImageIds(_OfImage, gc=False, kw_only=True):
    coco_id: Id | None = None
    flickr_id: Id | None = None


class _ImageData(_ImageIds, gc=False, kw_only=True):
    width: int
    height: int
    url: msgspec.Raw = msgspec.Raw()


class _RegionGraph(_OfImage, gc=False, kw_only=True):
    region_type: ClassVar[Any] = RawRegion

    regions: list[RawRegion]


class _RegionDescriptions(_OfImage, gc=False, kw_only=True):
    region_type: ClassVar[Any] = RegionDescription

    regions: list[RegionDescription]


_Regions = _RegionGraph | _RegionDescriptions


class _UndecodedRegions(_OfImage, gc=False, kw_only=True):
    regions: msgspec.Raw


class _CleanedRegion(msgspec.Struct, gc=False):
    region: AnyRegion
    caption: str


class VisualGenome(Source, kw_only=True):
    """Visual Genome's regions as captions of one split: Visual Genome has no splits of its own.

    Of ``region_graphs``, the words of a caption get the boxes of the objects that they name. Of
    ``region_descriptions``, its root phrase gets the box of the region.
    """

    namespace: ClassVar[str] = "vg"
    uses_parser: ClassVar[bool] = True

    image_data: str  # image_data.json or its .zip
    region_graphs: str = ""  # region_graphs.json or its .zip
    region_descriptions: str = ""  # or, instead, region_descriptions.json or its .zip
    split: str = "train"  # that its captions are for

    def __post_init__(self) -> None:
        if bool(self.region_graphs) == bool(self.region_descriptions):
            count = "both" if self.region_graphs else "none"
            raise ValueError(f"state region_graphs or region_descriptions; it has {count} of them")

    def paths(self) -> list[str]:
        return [self.image_data, self.region_graphs or self.region_descriptions]

    def split_names(self) -> set[str]:
        return {self.split}

    def image_ids(self) -> TableIds:
        return {"vg": frozenset({COCO_ID, PHOTO_ID})}

    def image_tables(self) -> list[Input]:
        return [Input(self.image_data, "list")]

    def read_image_table(self, raw_slice: Slice) -> Iterator[ImageInfo | Rejected]:
        images, bad = decode_list(raw_slice.content, _ImageData)
        yield from reject_malformed(self.namespace, bad, raw_slice.input.path)
        for image in images:
            yield ImageInfo(
                key=_key(image.image_id),
                source=self.namespace,
                file=f"{image.image_id}.jpg",
                width=image.width,
                height=image.height,
                photo_id=photo_id(image.flickr_id),
                same_as=optional_image_key("coco", image.coco_id),
                url=web_address(image.url),
            )
        for ids in filter(
            None, decode_parts(raw_slice.content, bad, _ImageIds)
        ):  # GQA may have the image
            photo, coco_key = photo_id(ids.flickr_id), optional_image_key("coco", ids.coco_id)
            if photo or coco_key:
                key = _key(ids.image_id)
                yield ImageInfo(
                    key, self.namespace, "", photo_id=photo, same_as=coco_key, joins_only=True
                )

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        if self.split not in splits:
            return []
        role = "" if self.region_graphs else "descriptions"
        return [Input(self.region_graphs or self.region_descriptions, "list", role=role)]

    def read(self, raw_slice: Slice, context: Context) -> Iterator[SliceItem]:
        regions_by_image: list[tuple[int, list[_CleanedRegion]]] = []
        read = RawCounts(self.namespace, captions=0, boxes=0)
        unnamed = NotAskedFor(self.namespace, "boxes that no words of their region name", 0, 0)
        for item in _decode(raw_slice):
            if isinstance(item, Rejected):
                read.captions += item.records
                yield item
                continue
            read.captions += len(item.regions)
            read.boxes += sum(map(box_count, item.regions))
            if len(item.regions) > MAX_IMAGE_REGIONS:
                yield Rejected(
                    source=self.namespace,
                    record=str(item.image_id),
                    reason="too many regions",
                    detail=f"{len(item.regions)}, more than {MAX_IMAGE_REGIONS}",
                    image=_key(item.image_id),
                    records=len(item.regions),
                    boxes=sum(map(box_count, item.regions)),
                )
                continue
            regions, rejected = _clean_regions(item.regions)
            yield from _reject(rejected, item.image_id)
            regions_by_image.append((item.image_id, regions))
            if context.negatives:
                yield from _synonyms(item.regions)

        # One call of the language model for all images of the slice.
        all_regions = [region for _, regions in regions_by_image for region in regions]
        rules = _parse_captions(all_regions, context)

        for image_id, regions in regions_by_image:
            captions, rejected = _caption_image(regions, rules)
            yield from _reject(rejected, image_id)
            named_boxes = sum(caption.named_boxes for caption in captions)
            unnamed.boxes += sum(box_count(cleaned.region) for cleaned in regions)
            unnamed.boxes -= named_boxes + sum(region.boxes for region in rejected)
            if captions:
                yield ImageRecord(
                    image=_key(image_id),
                    source=self.namespace,
                    split=self.split,
                    captions=[_to_grounded_caption(caption) for caption in captions],
                    merged=sum(len(caption.region_ids) - 1 for caption in captions),
                    merged_boxes=named_boxes - sum(len(caption.boxes) for caption in captions),
                )
        yield read
        if unnamed.boxes:
            yield unnamed


def _decode(raw_slice: Slice) -> Iterator[_Regions | Rejected]:
    """Decodes the images of a slice; a bad region does not affect the others."""
    layout = _RegionDescriptions if raw_slice.input.role == "descriptions" else _RegionGraph
    try:
        images = msgspec.json.decode(raw_slice.content, type=decodable(list[layout]))  # type: ignore[valid-type]
    except ValueError:
        yield from _decode_one_by_one(raw_slice, layout)
    else:
        yield from images


def _decode_one_by_one(
    raw_slice: Slice, layout: type[_RegionGraph] | type[_RegionDescriptions]
) -> Iterator[_Regions | Rejected]:
    path = raw_slice.input.path
    images, bad = decode_list(raw_slice.content, _UndecodedRegions)
    yield from reject_malformed("vg", bad, path)
    for image in images:
        try:
            regions, bad = decode_list(bytes(image.regions), layout.region_type)
        except ValueError as error:
            regions, bad = [], [BadRecord("", str(error))]
        bad = [BadRecord(f"{image.image_id}/regions/{key}", error) for key, error in bad]
        yield from reject_malformed("vg", bad, path, image=_key(image.image_id))
        yield layout(image_id=image.image_id, regions=regions)


def _synonyms(regions: Iterable[AnyRegion]) -> Iterator[Synonyms]:
    """Yields words of phrases with the first word of their synset: "couch" with "sofa"."""
    for region in regions:
        for synset in region.synsets:
            words = region.phrase[synset.entity_idx_start : synset.entity_idx_end].strip().lower()
            name = synset.synset_name.partition(".")[0].replace("_", " ")
            if words and name and words != name:
                yield Synonyms("vg", [name, words])


def _clean_regions(
    regions: Iterable[AnyRegion],
) -> tuple[list[_CleanedRegion], list[RejectedRegion]]:
    cleaned: list[_CleanedRegion] = []
    rejected: list[RejectedRegion] = []
    for region in regions:
        caption = clean(region.phrase)
        rejection = check_region(region, caption)
        if rejection is None:
            cleaned.append(_CleanedRegion(region, caption))
        else:
            rejected.append(rejection)
    return cleaned, rejected


def _parse_captions(regions: Iterable[_CleanedRegion], context: Context) -> TextRules:
    """Returns the text rules of the recipe, with the parses of all captions."""
    rules = TEXT_RULES[context.rules.vg_text]
    captions = dict.fromkeys(region.caption for region in regions)
    parses = context.parse(text for caption in captions for text in rules.texts_to_parse(caption))
    return rules(parses, context.stop_words)


def _caption_image(
    regions: Iterable[_CleanedRegion], rules: TextRules
) -> tuple[list[RegionCaption], list[RejectedRegion]]:
    """Returns the captions of an image, and the regions that give none."""
    captions: list[RegionCaption] = []
    rejected: list[RejectedRegion] = []
    for cleaned in regions:
        result = preprocess_region(cleaned.region, cleaned.caption, rules)
        if isinstance(result, RejectedRegion):
            rejected.append(result)
        else:
            captions.append(result)
    merged, rejected_captions = deduplicate_captions(captions, rules)
    return merged, rejected + rejected_captions


def _to_grounded_caption(caption: RegionCaption) -> GroundedCaption:
    return GroundedCaption(
        text=caption.text,
        regions=[
            Region(spans=spans, box=from_xywh(*box), area=float32_area(box))
            for box, spans in zip(caption.boxes, caption.spans, strict=True)
        ],
        tokens_negative=caption.tokens_negative,
        dataset="vg",
        record=str(caption.region_ids[0]),
    )


def _reject(regions: Iterable[RejectedRegion], image_id: int) -> Iterator[Rejected]:
    for region in regions:
        yield Rejected(
            source="vg",
            record=str(region.region_id),
            reason=region.reason,
            detail=region.detail,
            image=_key(image_id),
            boxes=region.boxes,
        )


def _key(image_id: int) -> str:
    return image_key("vg", image_id)
