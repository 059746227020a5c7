"""LVIS: classes as captions, and few-shot subsets."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.captions.parsing import SpacyParser
from pipelines.captions.rules import PAPER
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import SliceRange, find_slices, read_slice
from pipelines.sources.base import Context
from pipelines.sources.lvis import Lvis, _Annotation, _Image, few_shot_subset
from schemas import ImageInfo, ImageRecord, Rejected
from shards.format.placement import position
from tests.pipelines.sources.conservation import conserved

CLASSES = [
    {"id": 3, "name": "aerosol_can"},
    {"id": 5, "name": "bow_(weapon)"},
    {"id": 8, "name": "cup"},
]


def image(number: int, **fields: Any) -> dict[str, Any]:
    url = f"http://images.cocodataset.org/train2017/{number:012d}.jpg"
    return {"id": number, "coco_url": url, "width": 640, "height": 480, **fields}


def obj(number: int, image: int, category: int, **fields: Any) -> dict[str, Any]:
    box = {"bbox": [10.5, 20, 30, 40], "area": 800.0, "segmentation": [[1, 2, 3, 4, 5, 6]]}
    return {"id": number, "image_id": image, "category_id": category, **box, **fields}


def write(folder: Path, **tables: Any) -> Lvis:
    path = folder / "lvis.json"
    content = {"images": [], "annotations": [], "categories": CLASSES, **tables}
    path.write_text(json.dumps(content))
    return Lvis(annotations={"train": str(path)})


def read(source: Lvis, **negatives: bool) -> list[ImageRecord | Rejected]:
    context = Context(PAPER, ("train",), SpacyParser(), frozenset(), **negatives)
    [input_] = source.inputs(("train", "val"))
    [slice_range] = find_slices("lvis", 0, input_, "")
    assert isinstance(slice_range, SliceRange)
    return conserved(source.read(read_slice(slice_range), context))


def test_each_positive_and_negative_class_becomes_a_caption(tmp_path: Path) -> None:
    """The boxes of a class may be anywhere in the file."""
    source = write(
        tmp_path,
        images=[image(9, neg_category_ids=[8]), image(4)],
        annotations=[obj(1, 9, 5), obj(2, 4, 3), obj(3, 9, 5, bbox=[0, 0, 5, 5])],
    )
    records = [record for record in read(source) if isinstance(record, ImageRecord)]
    assert [(record.image, record.split, record.width) for record in records] == [
        ("coco/9", "train", 640),
        ("coco/4", "train", 640),
    ]
    bow, cup = records[0].captions
    assert (bow.text, bow.record, cup.text, cup.regions) == ("bow", "9:5", "cup", [])
    assert [region.box for region in bow.regions] == [(10.5, 20, 40.5, 60), (0, 0, 5, 5)]
    assert {(*region.spans[0], region.category) for region in bow.regions} == {(0, 3, 5)}
    assert [caption.text for caption in records[1].captions] == ["aerosol can"]


def test_classes_not_shown_are_absent_phrases_of_a_recipe_with_negatives(tmp_path: Path) -> None:
    """Those with a qualifier, or with the name of another class, are ambiguous."""
    fish = [{"id": 10, "name": "fish"}, {"id": 11, "name": "fish_(food)", "synonyms": ["fish"]}]
    source = write(
        tmp_path,
        categories=[*CLASSES, *fish],
        images=[
            image(9, neg_category_ids=[8, 5, 77, 10]),
            image(4, neg_category_ids=[8]),
            image(6, neg_category_ids=[8, 3]),
            image(7),
        ],
        annotations=[obj(1, 9, 3), obj(2, 6, 3)],
    )
    items = read(source, negatives=True, proven=True)
    records = [item for item in items if isinstance(item, ImageRecord)]
    assert {p.strength for record in records for p in record.absent} == {"proven"}
    absent = {
        record.image: [(p.text, p.record, p.reason, p.is_ambiguous) for p in record.absent]
        for record in records
    }
    assert absent == {
        "coco/9": [
            ("bow", "9:5", "class not shown", True),
            ("cup", "9:8", "class not shown", False),
            ("fish", "9:10", "class not shown", True),
        ],
        "coco/4": [("cup", "4:8", "class not shown", False)],
        "coco/6": [("cup", "6:8", "class not shown", False)],
    }
    assert [[c.text for c in record.captions] for record in records] == [["aerosol can"], [], []]
    rejected = {item.reason: item.records for item in items if isinstance(item, Rejected)}
    assert rejected == {"unknown class": 0, "class both shown and not shown": 1, "no classes": 1}


def test_classes_not_shown_stay_captions_where_no_proven_negatives_are_asked_for(
    tmp_path: Path,
) -> None:
    source = write(tmp_path, images=[image(9, neg_category_ids=[8])], annotations=[obj(1, 9, 3)])
    [plain] = read(source)
    [record] = (item for item in read(source, negatives=True) if isinstance(item, ImageRecord))
    assert record == plain
    assert [caption.text for caption in record.captions] == ["aerosol can", "cup"]
    assert record.absent == []


def test_image_table_has_coco_2017_file_names(tmp_path: Path) -> None:
    source = write(tmp_path, images=[image(9), {"id": "x"}])
    [table] = source.image_tables()
    row, bad = (
        item
        for slice_range in find_slices("lvis", 0, table, "")
        if isinstance(slice_range, SliceRange)
        for item in source.read_image_table(read_slice(slice_range))
    )
    assert (row.key, row.file, row.width) == ("coco/9", "000000000009.jpg", 640)
    assert isinstance(bad, Rejected)


def test_unusable_records_are_rejected_with_their_reason(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        images=[image(9, neg_category_ids=[8, 77]), image(4), {"id": "x"}],
        annotations=[
            obj(1, 9, 8),
            obj(2, 6, 8),
            obj(3, 9, 66),
            obj(4, 9, 3, bbox=[1, 2, 3]),
            obj(5, 9, 3, bbox=[1, 2, None, 3]),
            obj(6, 9, 3),
        ],
    )
    results = read(source)
    rejected = [(r.record, r.reason) for r in results if isinstance(r, Rejected)]
    assert rejected == [
        ("annotations/3", "malformed record"),
        ("annotations/4", "malformed record"),
        ("images/2", "malformed record"),
        ("6:8", "unknown image"),
        ("9:8", "class both shown and not shown"),
        ("9:66", "unknown class"),
        ("9:77", "unknown class"),
        ("4", "no classes"),
    ]
    [record] = [r for r in results if isinstance(r, ImageRecord)]
    assert [(caption.text, len(caption.regions)) for caption in record.captions] == [
        ("aerosol can", 1)
    ]


def test_unknown_classes_that_an_image_does_not_show_are_one_row(tmp_path: Path) -> None:
    source = write(tmp_path, images=[image(9, neg_category_ids=[8, *range(100, 200)])])
    row, record = read(source)
    assert isinstance(row, Rejected) and isinstance(record, ImageRecord)
    assert (row.record, row.reason, row.records) == ("9:100", "unknown class", 100)
    assert row.detail == "and 99 more that it does not show"
    assert [caption.text for caption in record.captions] == ["cup"]


def test_image_of_too_many_bytes_is_rejected_and_costs_only_its_captions(tmp_path: Path) -> None:
    ids = [*range(200_000)]
    images = [image(9, neg_category_ids=ids), image(4), {"id": "x"}, image(7, neg_category_ids=ids)]
    source = write(tmp_path, images=images, annotations=[obj(1, 9, 5), obj(2, 4, 3)])
    *rejected, record = read(source)
    rows = [(r.record, r.reason, r.records) for r in rejected if isinstance(r, Rejected)]
    assert rows == [
        ("images/0", "malformed record", 0),
        ("images/2", "malformed record", 1),
        ("images/3", "malformed record", 1),
        ("9:5", "unknown image", 1),
    ]
    assert "bytes, at most 65,536 are read" in rejected[0].detail  # type: ignore[union-attr]
    assert isinstance(record, ImageRecord) and record.image == "coco/4"


def test_class_name_that_is_too_long_is_rejected(tmp_path: Path) -> None:
    classes = [{"id": 3, "name": "a" * 10_001}]
    source = write(tmp_path, images=[image(4)], annotations=[obj(2, 4, 3)], categories=classes)
    [row] = read(source)
    assert isinstance(row, Rejected) and (row.reason, row.boxes) == ("text too long", 1)


def test_malformed_image_loses_the_captions_of_its_annotations(tmp_path: Path) -> None:
    """An image that states none counts as one caption."""
    images = [
        image(9) | {"coco_url": 5},
        image(4) | {"width": None},
        image(7, neg_category_ids=[8]),
    ]
    source = write(tmp_path, images=images, annotations=[obj(1, 9, 5), obj(2, 9, 5), obj(3, 9, 3)])
    *rejected, record = read(source)
    assert [
        (r.record, r.reason, r.records, r.boxes) for r in rejected if isinstance(r, Rejected)
    ] == [
        ("images/0", "malformed record", 0, 0),
        ("images/1", "malformed record", 1, 0),
        ("9:5", "unknown image", 1, 2),
        ("9:3", "unknown image", 1, 1),
    ]
    assert isinstance(record, ImageRecord)


def test_class_that_loses_all_its_boxes_is_rejected(tmp_path: Path) -> None:
    bad = obj(1, 9, 3, bbox=[1, 2, None, 3])
    source = write(tmp_path, images=[image(9)], annotations=[bad, obj(2, 9, 5), obj(3, 9, 8)])
    *rejected, record = read(source)
    assert [
        (r.record, r.reason, r.records, r.boxes) for r in rejected if isinstance(r, Rejected)
    ] == [
        ("annotations/0", "malformed record", 0, 1),
        ("9:3", "all boxes lost", 1, 0),
    ]
    assert isinstance(record, ImageRecord)
    assert len(record.captions) == 2


def test_duplicate_image_id_uses_the_first_row(tmp_path: Path) -> None:
    rows = [image(9, neg_category_ids=[3]), image(9, neg_category_ids=[5])]
    rejected, record = read(write(tmp_path, images=rows))
    assert isinstance(rejected, Rejected)
    assert (rejected.record, rejected.reason) == ("9", "duplicate id")
    assert isinstance(record, ImageRecord)
    assert [caption.text for caption in record.captions] == ["aerosol can"]


def test_negative_class_with_the_name_of_a_positive_one_is_rejected(tmp_path: Path) -> None:
    classes = [{"id": 1, "name": "fish"}, {"id": 2, "name": "fish_(food)"}]
    rows, objects = [image(9, neg_category_ids=[2])], [obj(1, 9, 1)]
    source = write(tmp_path, images=rows, annotations=objects, categories=classes)
    rejected, record = read(source)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == "class not shown has the name of one shown"
    assert isinstance(record, ImageRecord)
    assert [(caption.text, len(caption.regions)) for caption in record.captions] == [("fish", 1)]


def test_percent_of_a_split_without_annotations_is_refused() -> None:
    with pytest.raises(ValueError, match="percent is set for val"):
        Lvis(annotations={"train": "lvis.json"}, percent={"val": 10.0})


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"categories": []}, "it has no categories"),
        ({"categories": [{"id": 1}]}, "not in the layout of LVIS"),
        ({"images": {}}, "not in the layout of LVIS"),
    ],
)
def test_files_of_another_layout_are_refused(
    tables: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RawFileError, match=message):
        read(write(tmp_path, **tables))


Annotations = dict[int, dict[int, list[_Annotation]]]


@st.composite
def annotated_images(
    draw: st.DrawFn, image_count: int, class_count: int
) -> tuple[list[_Image], Annotations]:
    """Images, some without classes, and the classes that they show; negative ids may repeat."""
    category = st.integers(1, class_count)
    images, annotations = [], {}
    for number in range(1, image_count + 1):
        positive = draw(st.sets(category, max_size=3))
        negative = draw(st.lists(category, max_size=2))
        negative = [id_ for id_ in negative if id_ not in positive]
        images.append(_Image(number, "", 640, 480, negative))
        annotations[number] = {id_: [_Annotation(0, number, id_, (0, 0, 1, 1))] for id_ in positive}
    return images, annotations


def plain_subset(images: list[_Image], annotations: Annotations, percent: float) -> list[int]:
    """Selects by the definition: looks through all images and all classes for each next image."""
    shown = {image.id: list(annotations[image.id]) for image in images}
    not_shown = {image.id: image.neg_category_ids for image in images}
    order = sorted(shown, key=lambda id_: position(f"coco/{id_}", "lvis"))
    selected: list[int] = []

    def next_image(classes: dict[int, list[int]]) -> int | None:
        unselected = [id_ for id_ in order if id_ not in selected and classes[id_]]
        if not unselected:
            return None
        counts = {category: 0 for id_ in unselected for category in classes[id_]}
        for id_ in selected:
            for category in classes[id_]:
                if category in counts:
                    counts[category] += 1
        fewest = min(counts, key=lambda category: (counts[category], category))
        return next(id_ for id_ in unselected if fewest in classes[id_])

    while len(selected) < round(len(images) * percent / 100):
        kinds = [shown, not_shown] if len(selected) % 10 < 9 else [not_shown, shown]
        chosen = [id_ for id_ in map(next_image, kinds) if id_ is not None]
        selected.append(chosen[0] if chosen else next(i for i in order if i not in selected))
    return selected


@settings(max_examples=60)
@given(st.data(), st.integers(2, 40), st.integers(1, 8), st.integers(1, 99))
def test_few_shot_subset_is_that_of_the_plain_definition(
    data: st.DataObject, image_count: int, class_count: int, percent: int
) -> None:
    images, annotations = data.draw(annotated_images(image_count, class_count))
    subset = [image.id for image in few_shot_subset(images, annotations, percent)]
    if len(subset) < image_count:
        assert subset == plain_subset(images, annotations, percent)


def test_share_of_100000_images_takes_seconds() -> None:
    """Half of them have no classes, the others two of LVIS's 1,203."""
    images = [_Image(number, "", 640, 480, [number % 1203]) for number in range(1, 50_001)]
    images += [_Image(number, "", 640, 480) for number in range(50_001, 100_001)]
    annotations: Annotations = {image.id: {} for image in images}
    for number in range(1, 50_001):
        category = (number * 7 + 1) % 1203
        annotations[number][category] = [_Annotation(0, number, category, (0, 0, 1, 1))]
    started = time.process_time()
    assert len(few_shot_subset(images, annotations, 99.0)) == 99_000
    assert time.process_time() - started < 10


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 120), st.integers(1, 12))
def test_few_shot_subset_shows_all_classes(
    data: st.DataObject, image_count: int, class_count: int
) -> None:
    images, annotations = data.draw(annotated_images(image_count, class_count))

    def select(percent: float) -> list[int]:
        return [image.id for image in few_shot_subset(images, annotations, percent)]

    almost_all = 100 * (1 - 1e-9) if image_count > 1 else 100  # the selection runs to the end
    assert sorted(select(almost_all)) == list(range(1, image_count + 1))
    shown_classes = {id_ for by_category in annotations.values() for id_ in by_category}
    for percent in (1.0, 10.0, 50.0):
        subset = select(percent)
        assert len(subset) == round(image_count * percent / 100)
        reverse_order = few_shot_subset(images[::-1], annotations, percent)
        assert [image.id for image in reverse_order] == subset
        # Nine of ten images are for the class with the fewest: no class is left out for long.
        if len(subset) >= 2 * len(shown_classes) + 1 and len(subset) < image_count:
            assert {id_ for number in subset for id_ in annotations[number]} == shown_classes
    tenth = select(10)
    assert select(50)[: len(tenth)] == tenth


def test_image_table_states_the_photo_of_an_image(tmp_path: Path) -> None:
    url = "http://farm7.staticflickr.com/6116/6255196340_da26cf2c9e_z.jpg"
    source = write(tmp_path, images=[image(9, flickr_url=url)])
    [table] = source.image_tables()
    [slice_range] = find_slices("lvis", 0, table, "")
    assert isinstance(slice_range, SliceRange)
    rows = source.read_image_table(read_slice(slice_range))
    assert [row.photo_id for row in rows if isinstance(row, ImageInfo)] == ["6255196340"]
