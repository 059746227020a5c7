"""Merging all records of one image."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.captions.merge import MergedImage, merge
from pipelines.captions.rules import MDETR, PAPER, CaptionRules
from pipelines.dedup.image_registry import ImageRegistry
from schemas import (
    AbsentPhrase,
    Box,
    Caption,
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    Object,
    ObjectRegion,
    Phrase,
    Provenance,
    Question,
    Region,
    Rejected,
)
from shards import box_overlap

VG = ImageInfo("vg/1", "vg", "1.jpg", 800, 600, same_as="coco/9")
COCO = ImageInfo("coco/9", "coco", "9.jpg", 640, 480)
BOTH = ImageRegistry([VG, COCO], [], same_photo=True)
ONE_IMAGE = ImageRegistry([ImageInfo("vg/1", "vg", "1.jpg", 100, 80)], [], same_photo=True)


def caption(
    *regions: Region | ObjectRegion, text: str = "a cat", record: str = "1"
) -> GroundedCaption:
    return GroundedCaption(
        text,
        [region for region in regions if isinstance(region, Region)],
        [],
        "vg",
        record,
        object_regions=[region for region in regions if isinstance(region, ObjectRegion)],
    )


def region(box: Box, spans: Any = ((2, 5),), **more: Any) -> Region:
    return Region(list(spans), box, **more)


def object_region(object: str, spans: Any = ((2, 5),), **more: Any) -> ObjectRegion:
    return ObjectRegion(list(spans), object, **more)


def image_record(*captions: GroundedCaption, image: str = "vg/1", **fields: Any) -> ImageRecord:
    return ImageRecord(image, image.partition("/")[0], "train", list(captions), **fields)


def merged(
    *records: ImageRecord, image_registry: ImageRegistry = ONE_IMAGE, rules: CaptionRules = PAPER
) -> tuple[list[MergedImage], list[Rejected]]:
    """Returns the images and what was rejected; checks that each record is in one of them."""
    read = sum(len(p.captions) for p in records)
    items = list(merge(records, image_registry, rules))
    images = [item for item in items if isinstance(item, MergedImage)]
    rejected = [item for item in items if isinstance(item, Rejected)]
    kept_count = sum(len(m.captions) for m in images)
    assert kept_count + sum(r.records for r in rejected) == read
    assert all(len(m.captions) == len(m.sources) for m in images)
    return images, rejected


def boxes(images: list[MergedImage]) -> list[Box]:
    return [r.box for m in images for c in m.captions for r in c.regions]


# --- sizes ----------------------------------------------------------------------------------------


@given(st.tuples(*[st.floats(0, 600, width=32)] * 4))
def test_boxes_are_rescaled_in_float64_and_rounded_once(corners: Box) -> None:
    (x0, x1), (y0, y1) = sorted(corners[::2]), sorted(corners[1::2])
    rules = msgspec.structs.replace(PAPER, boxes="as_is")
    [merged_image], _ = merged(
        image_record(caption(region((x0, y0, x1, y1)))), image_registry=BOTH, rules=rules
    )
    assert merged_image.image == COCO
    expected = (x0 / 800 * 640, y0 / 600 * 480, x1 / 800 * 640, y1 / 600 * 480)
    assert boxes([merged_image]) == [tuple(float(np.float32(value)) for value in expected)]


def test_records_of_duplicates_merge_into_the_canonical_image() -> None:
    on_coco = image_record(
        caption(region((1, 2, 3, 4)), record="2"), image="coco/9", rank=(0, 0, 0)
    )
    on_vg = image_record(caption(region((100, 60, 200, 120))), rank=(1, 0, 0))
    [merged_image], rejected = merged(on_vg, on_coco, image_registry=BOTH)
    assert rejected == []
    assert merged_image.image.key == "coco/9"
    assert merged_image.sources == ["coco", "vg"]  # by rank, not in the order of arrival
    assert merged_image.keys == ["coco/9", "vg/1"]
    assert boxes([merged_image]) == [(1, 2, 3, 4), (80, 48, 160, 96)]


def test_crop_stays_a_separate_image() -> None:
    crop = msgspec.structs.replace(VG, width=820)  # 2.5 % wider than COCO's shape
    almost = msgspec.structs.replace(VG, width=812)  # 1.5 %
    records = [
        image_record(caption(region((10, 10, 20, 20)))),
        image_record(caption(record="2"), image="coco/9"),
    ]
    both, _ = merged(*records, image_registry=ImageRegistry([crop, COCO], [], same_photo=True))
    assert [m.image.key for m in both] == ["vg/1", "coco/9"]
    assert boxes(both) == [(10, 10, 20, 20)]
    one, _ = merged(*records, image_registry=ImageRegistry([almost, COCO], [], same_photo=True))
    assert [m.image.key for m in one] == ["coco/9"]


@pytest.mark.parametrize(("width", "key"), [(800, "coco/9"), (820, "vg/1")])
def test_absent_phrases_without_a_size_go_with_the_captions_of_their_image(
    width: int, key: str
) -> None:
    """As those of OpenImages, whose records of boxes alone have the size; 820 is that of a crop."""
    row = msgspec.structs.replace(VG, width=0, height=0)
    absent = image_record(rank=(1, 0, 0))
    absent.absent.append(AbsentPhrase("a dog", "vg", "1:dog", "class not shown"))
    on_coco = image_record(caption(record="2"), image="coco/9", rank=(2, 0, 0))
    with_boxes = image_record(caption(region((0, 0, 9, 9))), width=width, height=600)
    image_registry = ImageRegistry([row, COCO], [], same_photo=True)
    images, _ = merged(absent, on_coco, with_boxes, image_registry=image_registry)
    [with_absent] = [m for m in images if m.absent]
    assert with_absent.image.key == key and with_absent.captions
    assert "vg/1" in with_absent.keys


def test_mdetr_rules_rescale_crops_too() -> None:
    crop = msgspec.structs.replace(VG, width=1600)
    image_registry = ImageRegistry([crop, COCO], [], same_photo=True)
    one, _ = merged(
        image_record(caption(region((160, 60, 320, 120)))),
        image_registry=image_registry,
        rules=MDETR,
    )
    assert [m.image.key for m in one] == ["coco/9"]
    assert boxes(one) == [(64, 48, 128, 96)]


def test_size_of_a_record_overrides_the_table() -> None:
    row = ImageInfo("flickr30k/5", "flickr30k", "5.jpg", photo_id="5")
    image_registry = ImageRegistry([row], [], same_photo=True)
    sentence = image_record(
        caption(region((0, 0, 90, 90))), image="flickr30k/5", width=50, height=40
    )
    [merged_image], _ = merged(sentence, image_registry=image_registry)
    assert (merged_image.image.width, merged_image.image.height) == (50, 40)
    assert merged_image.image.file == "5.jpg"
    assert boxes([merged_image]) == [(0, 0, 50, 40)]


@pytest.mark.parametrize("size", [(50, 0), (0, 40), (0, 0)])
def test_record_with_half_a_size_has_that_of_the_table(size: tuple[int, int]) -> None:
    width, height = size
    sentence = image_record(caption(region((0, 0, 90, 70))), width=width, height=height)
    [merged_image], _ = merged(sentence)
    assert boxes([merged_image]) == [(0, 0, 90, 70)]


@pytest.mark.parametrize(
    ("height", "reason"), [(393, None), (408, None), (409, "another size"), (390, "another size")]
)
def test_record_of_another_shape_is_rejected(height: int, reason: str | None) -> None:
    sentence = image_record(caption(region((0, 0, 50, 40))), width=500, height=height)
    images, rejected = merged(sentence)
    assert [r.reason for r in rejected] == ([f"image of {reason}"] if reason else [])
    assert bool(images) == (reason is None)


@pytest.mark.parametrize("row", [VG, COCO])
def test_images_of_unknown_size_are_not_one(row: ImageInfo) -> None:
    unknown = msgspec.structs.replace(row, width=0, height=0)
    rows = [unknown if r is row else r for r in (VG, COCO)]
    images, _ = merged(
        image_record(caption()),
        image_record(caption(record="2"), image="coco/9"),
        image_registry=ImageRegistry(rows, [], same_photo=True),
    )
    assert [m.image.key for m in images] == ["vg/1", "coco/9"]


def test_crop_that_only_a_photo_joins_is_never_rescaled() -> None:
    crop = ImageInfo("vg/1", "vg", "1.jpg", 1600, 600, photo_id="5")
    photo = ImageInfo("flickr30k/5", "flickr30k", "5.jpg", 640, 480, photo_id="5")
    images, _ = merged(
        image_record(caption(region((160, 60, 320, 120)))),
        image_record(caption(record="2"), image="flickr30k/5"),
        image_registry=ImageRegistry([crop, photo], [], same_photo=True),
        rules=msgspec.structs.replace(MDETR, same_photo=True),
    )
    assert sorted(m.image.key for m in images) == ["flickr30k/5", "vg/1"]


def test_record_without_captions_makes_no_image() -> None:
    assert merged(image_record(), image_record(objects={"7": Object((1, 1, 5, 5))})) == ([], [])


def test_phrases_are_rescaled_with_their_boxes() -> None:
    sentence = caption()
    sentence.phrases = [Phrase([(2, 5)], "47", ["animals"], [(80, 60, 160, 120)])]
    [merged_image], _ = merged(image_record(sentence), image_registry=BOTH)
    assert merged_image.captions[0].phrases[0].boxes == [(64, 48, 128, 96)]


def test_areas_are_rescaled_or_computed_by_rule() -> None:
    inside = region((80, 60, 160, 120), area=1000.0)
    clipped_region = region((700, 500, 900, 700), area=1000.0)
    unstated = region((80, 60, 160, 120))
    [merged_image], _ = merged(
        image_record(caption(inside, clipped_region, unstated)), image_registry=BOTH
    )
    # In COCO's pixels, which are 0.64 of VG's; of a clipped box, and of none stated, the box's own.
    assert [r.area for r in merged_image.captions[0].regions] == [640.0, 80 * 80, 64 * 48]
    [merged_image], _ = merged(
        image_record(caption(inside, clipped_region, unstated)), image_registry=BOTH, rules=MDETR
    )
    assert [r.area for r in merged_image.captions[0].regions] == [1000.0, 1000.0, None]


@pytest.mark.parametrize(
    ("stated", "area"), [(0.0, 0.0), (-1.0, 1200.0), (1.237, 1.24), (1200.0, 1200.0), (1e6, 1200.0)]
)
def test_area_that_its_box_cannot_have_is_the_box_s(stated: float, area: float) -> None:
    [merged_image], _ = merged(image_record(caption(region((10, 10, 50, 40), area=stated))))
    assert [r.area for r in merged_image.captions[0].regions] == [area]


def test_largest_area_that_a_box_can_have_is_kept() -> None:
    box = (10.0, 10.0, 50.0, 40.0)
    [largest] = box_overlap.largest_area(box_overlap.as_array([box])).tolist()
    [merged_image], _ = merged(image_record(caption(region(box, area=largest))))
    assert [r.area for r in merged_image.captions[0].regions] == [round(largest, 2)]


def test_area_of_a_box_has_two_decimals() -> None:
    [merged_image], _ = merged(image_record(caption(region((10, 10, 11.125, 11.125)))))
    assert [r.area for r in merged_image.captions[0].regions] == [1.27]  # 1.265625


def test_area_in_an_image_of_unknown_size_is_the_stated_one() -> None:
    unsized = ImageRegistry([ImageInfo("vg/1", "vg", "1.jpg")], [], same_photo=True)
    record = image_record(caption(region((10, 10, 50, 40), area=300.0)))
    [merged_image], _ = merged(record, image_registry=unsized)
    assert merged_image.captions[0].regions == [region((10, 10, 50, 40), area=300.0)]


def test_same_region_twice_is_one_region() -> None:
    twice = caption(region((10, 10, 50, 40)), region((10, 10, 50, 40)), region((10, 10, 50, 41)))
    images, rejected = merged(image_record(twice))
    assert boxes(images) == [(10, 10, 50, 40), (10, 10, 50, 41)]
    assert [(r.reason, r.records, r.boxes) for r in rejected] == [("same region twice", 0, 1)]
    assert len(boxes(merged(image_record(twice), rules=MDETR)[0])) == 3


# --- objects --------------------------------------------------------------------------------------


def test_objects_are_bound_by_id_within_source_and_image() -> None:
    """Ids are local to a source and an image."""
    objects = image_record(
        objects={"7": Object((1, 1, 5, 5), 12.0, 17, True)}, rank=(0, 1, 0), image="vg/1"
    )
    others = ImageRecord(
        "vg/1", "gqa", "", objects={"7": Object((2, 2, 6, 6)), "8": Object((3, 3, 7, 7))}
    )
    sentence = image_record(
        caption(object_region("7", category=44), object_region("8")), rank=(0, 0, 0)
    )
    [merged_image], rejected = merged(others, objects, sentence)
    assert merged_image.captions[0].regions == [Region([(2, 5)], (1, 1, 5, 5), 12.0, 44, True)]
    assert [(r.reason, r.detail, r.records) for r in rejected] == [("unknown object", "8", 0)]


def test_first_object_of_one_id_is_kept() -> None:
    first, second = {"7": Object((1, 1, 5, 5))}, {"7": Object((2, 2, 6, 6))}
    records = [image_record(objects=first, rank=(0, 0, 0)), image_record(objects=second)]
    sentence = image_record(caption(object_region("7")))
    images, rejected = merged(sentence, records[0], records[0])
    assert (boxes(images), rejected) == ([(1, 1, 5, 5)], [])
    images, rejected = merged(sentence, *records)
    assert boxes(images) == [(1, 1, 5, 5)]
    assert [(r.record, r.reason, r.records, r.boxes) for r in rejected] == [
        ("7", "duplicate id", 0, 0)
    ]


def test_caption_that_loses_all_regions_is_rejected_once() -> None:
    sentence = caption(object_region("7"), region((50, 50, 40, 40)), record="33")
    merged_images, rejected = merged(image_record(sentence, caption(record="34")))
    assert [c.provenance[0].record for m in merged_images for c in m.captions] == ["34"]
    assert [(r.record, r.reason, r.records) for r in rejected] == [
        ("vg/33", "empty box", 1),
        ("vg/33", "unknown object", 0),
    ]
    assert {(r.source, r.image) for r in rejected} == {("vg", "vg/1")}


def test_caption_without_regions_keeps_its_other_fields() -> None:
    phrases = [Phrase([(2, 5)], "47", ["animals"], [(0, 0, 5, 5)])]
    question = Question("12", "yes", "obj", "verify")
    record = GroundedCaption("a cat", [], [(0, 5)], "gqa", "12", phrases, question)
    [merged_image], rejected = merged(image_record(record))
    provenance = [Provenance("gqa", "12", (0, 5))]
    assert merged_image.captions == [Caption("a cat", [], [(0, 5)], provenance, phrases, question)]
    assert rejected == []


# --- boxes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((math.nan, 0, 5, 5), "box is not of numbers"),
        ((0, 0, math.inf, 5), "box is not of numbers"),
        ((0, -math.inf, 5, 5), "box is not of numbers"),
        ((5, 5, 5, 9), "empty box"),
        ((5, 5, 9, 5), "empty box"),
        ((9, 5, 5, 9), "empty box"),
        ((0, 0, 0, 0), "empty box"),
        ((100, 0, 120, 20), "box outside the image"),
        ((0, 80, 20, 90), "box outside the image"),
        ((-20, 0, 0, 20), "box outside the image"),
        ((-20, -20, -1, -1), "box outside the image"),
    ],
)
def test_unusable_box_is_rejected(box: Box, reason: str) -> None:
    good = region((10, 10, 20, 20))
    [merged_image], rejected = merged(image_record(caption(region(box), good)))
    assert [r.box for r in merged_image.captions[0].regions] == [(10, 10, 20, 20)]
    assert [(r.record, r.reason, r.detail, r.records) for r in rejected] == [
        ("vg/1", reason, str(box), 0)
    ]


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        ((-5, -5, 20, 20), (0, 0, 20, 20)),
        ((90, 70, 130, 130), (90, 70, 100, 80)),
        ((-1e6, -1e6, 1e6, 1e6), (0, 0, 100, 80)),
        ((0, 0, 100, 80), (0, 0, 100, 80)),
        ((99.5, 79.25, 100.5, 80.5), (99.5, 79.25, 100, 80)),
    ],
)
def test_boxes_are_clipped_at_the_borders(box: Box, clipped: Box) -> None:
    merged_images, rejected = merged(image_record(caption(region(box))))
    assert (boxes(merged_images), rejected) == ([clipped], [])


def test_mdetr_rules_keep_boxes_as_they_are() -> None:
    box = (-5.0, 90.0, -5.0, 20.0)
    merged_images, rejected = merged(image_record(caption(region(box))), rules=MDETR)
    assert (boxes(merged_images), rejected) == ([box], [])


# --- records --------------------------------------------------------------------------------------


def test_first_record_by_rank_of_one_id_is_kept() -> None:
    later = image_record(caption(text="a dog"), caption(text="a mat", record="2"), rank=(0, 0, 900))
    first = image_record(caption(text="a cat"), rank=(0, 0, 0))
    [merged_image], rejected = merged(later, first)
    assert [c.text for c in merged_image.captions] == ["a cat", "a mat"]
    assert [(r.record, r.reason, r.records) for r in rejected] == [("vg/1", "duplicate id", 1)]


def test_ids_of_two_datasets_may_be_equal() -> None:
    other = msgspec.structs.replace(caption(), dataset="gqa")
    [merged_image], rejected = merged(image_record(caption(), other))
    assert (len(merged_image.captions), rejected) == (2, [])


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_empty_caption_is_rejected(text: str) -> None:
    merged_images, rejected = merged(image_record(caption(text=text)))
    assert [(r.reason, r.records) for r in rejected] == [("empty caption", 1)]
    assert [m.captions for m in merged_images] == [[]]


@pytest.mark.parametrize("span", [(-1, 3), (3, 3), (4, 3), (2, 6), (100, 103)])
def test_span_outside_the_caption_is_rejected(span: tuple[int, int]) -> None:
    sentence = caption(region((1, 1, 5, 5)), region((1, 1, 5, 5), spans=[(0, 1), span]))
    merged_images, rejected = merged(image_record(sentence))
    assert [(r.reason, r.records) for r in rejected] == [("span outside the caption", 1)]
    assert rejected[0].detail == f"{span} of 5 characters"
    assert boxes(merged_images) == []


def test_span_may_end_with_the_caption() -> None:
    merged_images, rejected = merged(image_record(caption(region((1, 1, 5, 5), spans=[(0, 5)]))))
    assert (boxes(merged_images), rejected) == ([(1, 1, 5, 5)], [])


def test_captions_of_an_unlisted_image_are_rejected() -> None:
    sentence = image_record(caption(region((1, 1, 5, 5))), caption(record="2"), image="vg/404")
    merged_images, rejected = merged(sentence, image_record(caption(record="3")))
    assert [m.image.key for m in merged_images] == ["vg/1"]
    assert [(r.record, r.reason, r.records) for r in rejected] == [("vg/404", "unknown image", 2)]


random_spans = st.lists(st.tuples(st.integers(-1, 6), st.integers(0, 6)), max_size=2)
random_boxes = st.tuples(*[st.sampled_from([-5.0, 0.0, 40.0, 90.0, 200.0, math.nan])] * 4)
random_regions = st.lists(
    st.builds(region, random_boxes, random_spans)
    | st.builds(object_region, st.sampled_from(["7", "8"]), random_spans),
    max_size=3,
)
random_captions = st.lists(
    st.builds(
        lambda regions, text, record: caption(*regions, text=text, record=record),
        random_regions,
        st.sampled_from(["a cat", "", " "]),
        st.sampled_from("123"),
    ),
    max_size=6,
)


@given(random_captions, random_captions, st.sampled_from([PAPER, MDETR]))
def test_every_record_is_kept_or_rejected_once(
    one: list[GroundedCaption], other: list[GroundedCaption], rules: CaptionRules
) -> None:
    records = [
        image_record(*one, rank=(0, 0, 0), objects={"7": Object((1, 1, 9, 9))}),
        image_record(*other, image="coco/9", rank=(1, 0, 0), objects={"8": Object((1, 1, 9, 9))}),
    ]
    images, _ = merged(*records, image_registry=BOTH, rules=rules)
    for c in (c for m in images for c in m.captions):
        assert c.text.strip()
        for r in c.regions:
            assert all(0 <= a < b <= len(c.text) for a, b in r.spans)
            if rules is PAPER:
                assert 0 <= r.box[0] < r.box[2] <= 640
                assert 0 <= r.box[1] < r.box[3] <= 480
