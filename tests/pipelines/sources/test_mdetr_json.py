"""MDETR's JSON files as a source."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipelines.captions.parsing import SpacyParser
from pipelines.captions.rules import MDETR
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import SliceRange, find_slices, read_slice
from pipelines.sources.base import Context
from pipelines.sources.mdetr_json import MdetrJson
from schemas import GroundedCaption, ImageInfo, ImageRecord, Phrase, Region, Rejected
from tests.pipelines.sources.conservation import conserved


def image(number: int, **fields: Any) -> dict[str, Any]:
    """Returns an image entry as in final_mixed_train.json."""
    return {
        "file_name": "COCO_train2014_000000581857.jpg",
        "height": 640,
        "width": 427,
        "id": number,
        "original_id": "581857",
        "caption": "a shop. a man",
        "tokens_negative": [[0, 1], [2, 6]],
        "data_source": "coco",
        "dataset_name": "mixed",
        **fields,
    }


def box(number: int, image: int, **fields: Any) -> dict[str, Any]:
    return {
        "area": 1200.0,
        "iscrowd": 0,
        "image_id": image,
        "category_id": 1,
        "id": number,
        "bbox": [10, 20, 30, 40],
        "tokens_positive": [[0, 1], [2, 6]],
        **fields,
    }


def write(folder: Path, images: list[Any], annotations: list[Any]) -> MdetrJson:
    content = {"images": images, "annotations": annotations}
    (folder / "final.json").write_text(json.dumps({"info": [], **content, "categories": []}))
    return MdetrJson(files={"train": [str(folder / "final.json")]})


def read(source: MdetrJson) -> list[ImageRecord | Rejected]:
    context = Context(MDETR, ("train",), SpacyParser(), frozenset())
    [input] = source.inputs(("train", "val"))
    ranges = find_slices("mdetr_json", 0, input, "")
    raw_slices = [read_slice(item) for item in ranges if isinstance(item, SliceRange)]
    return [
        record for raw_slice in raw_slices for record in conserved(source.read(raw_slice, context))
    ]


def test_captions_get_their_annotations_in_any_order(tmp_path: Path) -> None:
    """The published annotations are in the order of their images; others need not be."""
    source = write(
        tmp_path,
        [image(0), image(1, caption="a hat"), image(7, original_id="9", data_source="vg")],
        [
            box(4, 7, bbox=[0.5, 1, 2, 3], category_id=3, iscrowd=1),
            box(0, 0),
            box(1, 7, tokens_positive=[]),
            box(2, 0, area=None),
        ],
    )
    spans = [(0, 1), (2, 6)]
    expected = {
        "coco/581857": [
            GroundedCaption(
                "a shop. a man",
                [
                    Region(spans, (10, 20, 40, 60), 1200),
                    Region(spans, (10, 20, 40, 60), None),
                ],
                spans,
                "mixed",
                "final:0",
            ),
            GroundedCaption("a hat", [], spans, "mixed", "final:1"),
        ],
        "vg/9": [
            GroundedCaption(
                "a shop. a man",
                [
                    Region(spans, (0.5, 1, 2.5, 4), 1200, 3, True),
                    Region([], (10, 20, 40, 60), 1200),
                ],
                spans,
                "mixed",
                "final:7",
            )
        ],
    }
    records = read(source)
    captions: dict[str, list[GroundedCaption]] = {}
    for part in records:
        assert isinstance(part, ImageRecord)
        assert (part.split, part.width, part.height) == ("train", 427, 640)
        captions.setdefault(part.image, []).extend(part.captions)
    assert captions == expected


def test_flickr30k_sentences_have_phrases_with_boxes(tmp_path: Path) -> None:
    """Its sizes are strings, and its image id is ``original_img_id``."""
    fields = {
        "file_name": "33.jpg",
        "height": "334",
        "width": "500",
        "id": 27,
        "caption": "Two men and a dog",
        "dataset_name": "flickr",
        "tokens_negative": [[0, 17]],
        "sentence_id": 2,
        "original_img_id": 33,
        "tokens_positive_eval": [[[0, 7]], [[12, 17]]],
    }
    men = [
        box(0, 27, tokens_positive=[[0, 7]]),
        box(1, 27, tokens_positive=[[0, 7]], bbox=[1, 1, 5, 5]),
    ]
    source = write(tmp_path, [fields], [*men, box(2, 27, tokens_positive=[[12, 17]])])
    [part] = read(source)
    assert isinstance(part, ImageRecord)
    assert (part.image, part.width, part.height) == ("flickr30k/33", 500, 334)
    [caption] = part.captions
    assert (caption.dataset, caption.record) == ("flickr", "33#2")
    assert caption.phrases == [
        Phrase([(0, 7)], "", [], [(10, 20, 40, 60), (1, 1, 6, 6)]),
        Phrase([(12, 17)], "", [], [(10, 20, 40, 60)]),
    ]


def test_image_table_lists_each_image_once(tmp_path: Path) -> None:
    source = write(tmp_path, [image(0), image(1), image(2, original_id="9", file_name="x")], [])
    rows = []
    for slice_range in find_slices("mdetr_json", 0, source.image_tables()[0], ""):
        assert isinstance(slice_range, SliceRange)
        rows += list(source.read_image_table(read_slice(slice_range)))
    name = "COCO_train2014_000000581857.jpg"
    images = {(row.key, row.source, row.file) for row in rows if isinstance(row, ImageInfo)}
    assert images == {("coco/581857", "mdetr_json", name), ("coco/9", "mdetr_json", "x")}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"caption": 7}, "malformed record"),
        ({"id": "x"}, "malformed record"),
        ({"width": "wide"}, "bad image size"),
        ({"data_source": "", "dataset_name": "mixed"}, "bad image id"),
        ({"original_id": None}, "bad image id"),
        ({"original_id": 0}, "bad image id"),
        ({"original_id": 2.5}, "bad image id"),
        ({"data_source": "coca"}, "bad image id"),
        ({"data_source": "vg", "original_id": "vg_2320633"}, "bad image id"),
        ({"data_source": "vg", "original_id": "-3"}, "bad image id"),
    ],
)
def test_unusable_caption_is_rejected_with_its_reason(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    records = read(write(tmp_path, [image(3), image(4, **fields)], [box(0, 3)]))
    [rejected] = [record for record in records if isinstance(record, Rejected)]
    assert (rejected.reason, rejected.records) == (reason, 1)
    [part] = [record for record in records if isinstance(record, ImageRecord)]
    assert len(part.captions) == 1


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"original_id": "000000581857"}, "coco/581857"),
        ({"original_id": 581857.0, "data_source": "COCO"}, "coco/581857"),
        ({"data_source": "", "dataset_name": "refcoco+"}, "coco/581857"),
        ({"data_source": "", "dataset_name": "lvis"}, "coco/581857"),
        ({"data_source": "", "dataset_name": "phrasecut", "original_id": 7}, "vg/7"),
        ({"data_source": "", "dataset_name": "gqa", "original_id": "n9"}, "coco/9"),
        ({"data_source": "flickr", "original_id": "0033"}, "flickr30k/33"),
        ({"data_source": "mine", "original_id": "img_07.jpg"}, "mine/img_07"),
        ({"data_source": "vg", "original_id": "yard-3"}, "vg/yard-3"),
        ({"data_source": "", "dataset_name": "crops", "original_id": 7}, "vg/7"),
    ],
)
def test_images_have_the_keys_of_their_datasets(
    tmp_path: Path, fields: dict[str, Any], key: str
) -> None:
    source = write(tmp_path, [image(3, **fields)], [box(0, 3)])
    source.namespaces = {"mine": "mine", "crops": "vg"}
    [record] = read(source)
    assert isinstance(record, ImageRecord)
    assert record.image == key


def test_unknown_dataset_is_named_with_the_known_ones(tmp_path: Path) -> None:
    records = read(write(tmp_path, [image(3, data_source="mine")], []))
    [rejected] = [record for record in records if isinstance(record, Rejected)]
    assert "data_source 'mine'" in rejected.detail
    assert "known are clevr, coco" in rejected.detail


def test_own_namespace_must_be_a_plain_name() -> None:
    with pytest.raises(ValueError, match=r"namespaces\.mine: 'my/set' cannot begin the key"):
        MdetrJson(files={}, namespaces={"mine": "my/set"})


def test_records_have_ids_with_their_file(tmp_path: Path) -> None:
    """Ids are of a file; files of one name in two folders are numbered in their order."""
    paths = [tmp_path / name for name in ("a/x.json", "b/x.json", "c/x~2.json", "y.json")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": [image(0)], "annotations": []}))
    source = MdetrJson(files={"train": [str(path) for path in paths]})
    context = Context(MDETR, ("train",), SpacyParser(), frozenset())
    records = []
    for input in source.inputs(("train",)):
        [slice_range] = find_slices("mdetr_json", 0, input, "")
        assert isinstance(slice_range, SliceRange)
        records += conserved(source.read(read_slice(slice_range), context))
    captions = [c for record in records if isinstance(record, ImageRecord) for c in record.captions]
    assert [caption.record for caption in captions] == ["x:0", "x~2:0", "x~2~2:0", "y:0"]


def test_ids_of_a_file_may_be_floats_or_strings(tmp_path: Path) -> None:
    images = [image(0) | {"id": 0.0, "height": 640.0}, image(1) | {"id": "1"}]
    boxes = [box(0, 0) | {"image_id": 0.0, "id": 5.0}, box(1, 1) | {"image_id": "1"}]
    records = read(write(tmp_path, images, boxes))
    captions = [c for record in records if isinstance(record, ImageRecord) for c in record.captions]
    assert [(c.record, len(c.regions)) for c in captions] == [("final:0", 1), ("final:1", 1)]


def test_malformed_annotation_costs_only_its_box(tmp_path: Path) -> None:
    records = read(write(tmp_path, [image(3)], [box(0, 3, bbox=[1, 2]), box(1, 3)]))
    [rejected] = [record for record in records if isinstance(record, Rejected)]
    assert (rejected.reason, rejected.records) == ("malformed record", 0)
    [part] = [record for record in records if isinstance(record, ImageRecord)]
    assert len(part.captions[0].regions) == 1


def test_annotations_of_unknown_images_are_reported_once(tmp_path: Path) -> None:
    """For any number of slices of the images."""
    last = 2**63 - 1
    images = [image(n, caption="a hat" * 20) for n in (*range(200), last)]
    records = read(write(tmp_path, images, [box(0, 7), box(1, 998), box(2, last), box(3, -1)]))
    rejected = [record for record in records if isinstance(record, Rejected)]
    assert [(r.record, r.detail, r.records) for r in rejected] == [
        ("annotations/1", "image_id 998", 0),
        ("annotations/3", "image_id -1", 0),
    ]
    captions = [c for part in records if isinstance(part, ImageRecord) for c in part.captions]
    assert [c.record for c in captions if c.regions] == ["final:7", f"final:{last}"]


def test_zipped_file_gives_the_same_records(tmp_path: Path) -> None:
    source = write(tmp_path, [image(3)], [box(0, 3)])
    [path] = source.files["train"]
    with zipfile.ZipFile(f"{path}.zip", "w") as archive:
        archive.write(path, "final.json")
    zipped = MdetrJson(files={"train": [f"{path}.zip"]})
    [input] = zipped.inputs(("train",))
    [slice_range] = find_slices("mdetr_json", 0, input, str(tmp_path / "scratch"))
    assert isinstance(slice_range, SliceRange)
    context = Context(MDETR, ("train",), SpacyParser(), frozenset())
    assert conserved(zipped.read(read_slice(slice_range), context)) == read(source)


@pytest.mark.parametrize("image_id", [None, "x", 2**70, [], 1.5])
def test_annotation_without_image_id_costs_only_itself(tmp_path: Path, image_id: Any) -> None:
    boxes = [box(0, 3), box(1, 3) | {"image_id": image_id}, box(2, 4)]
    rejected, *records = read(write(tmp_path, [image(3), image(4, original_id=9)], boxes))
    assert isinstance(rejected, Rejected)
    assert (rejected.record, rejected.reason) == ("annotations/1", "malformed record")
    assert (rejected.records, rejected.boxes) == (0, 0)  # no caption refers to it
    assert sum(len(r.captions) for r in records if isinstance(r, ImageRecord)) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"tokens_positive": [2, 5]},
        {"tokens_positive": [[2, 10**30]]},
        {"bbox": ["1", "2", "3", "4"]},
        {"bbox": [1, 2, 3, 1e300]},
        {"bbox": [1, 2, 3]},
    ],
)
def test_caption_that_loses_all_its_boxes_is_rejected(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    boxes = [box(0, 3) | change, box(1, 4) | change, box(2, 4)]
    results = read(write(tmp_path, [image(3), image(4, original_id=9)], boxes))
    rejected = [r for r in results if isinstance(r, Rejected)]
    assert {(r.record, r.reason, r.records, r.boxes) for r in rejected} == {
        ("annotations/0", "malformed record", 0, 1),
        ("annotations/1", "malformed record", 0, 1),
        ("mixed/final:3", "all boxes lost", 1, 0),
    }
    [record] = [r for r in results if isinstance(r, ImageRecord)]
    assert [len(caption.regions) for caption in record.captions] == [1]


def test_spans_take_in_whole_graphemes(tmp_path: Path) -> None:
    fields = {"caption": "a cafe\u0301 sign", "tokens_positive_eval": [[[2, 6]]]}
    [record] = read(
        write(tmp_path, [image(3) | fields], [box(0, 3) | {"tokens_positive": [[2, 6]]}])
    )
    assert isinstance(record, ImageRecord)
    [caption] = record.captions
    assert [caption.regions[0].spans, caption.phrases[0].spans] == [[(2, 7)], [(2, 7)]]
    assert caption.phrases[0].boxes == [caption.regions[0].box]


def test_caption_without_boxes_is_kept(tmp_path: Path) -> None:
    [record] = read(write(tmp_path, [image(3)], []))
    assert isinstance(record, ImageRecord)
    assert record.captions[0].regions == []


@pytest.mark.parametrize("crowd", [True, False, 0, 1])
def test_crowds_may_be_booleans(tmp_path: Path, crowd: bool | int) -> None:
    [record] = read(write(tmp_path, [image(3)], [box(0, 3) | {"iscrowd": crowd}]))
    assert isinstance(record, ImageRecord)
    assert [r.crowd for r in record.captions[0].regions] == [bool(crowd)]


@pytest.mark.parametrize("side", [2**70, "9" * 30, -1, 10**9])
def test_size_beyond_bounds_is_rejected(tmp_path: Path, side: int | str) -> None:
    [rejected] = read(write(tmp_path, [image(3) | {"width": side}], [box(0, 3)]))
    assert isinstance(rejected, Rejected)
    assert (rejected.records, rejected.boxes) == (1, 1)


def test_file_of_another_layout_raises(tmp_path: Path) -> None:
    source = write(tmp_path, [image(3)], [])
    Path(source.files["train"][0]).write_text(json.dumps({"images": [image(3)]}))
    with pytest.raises(RawFileError, match='a JSON list under the key "annotations"'):
        read(source)


def test_changed_file_is_indexed_again(tmp_path: Path) -> None:
    for width in (30, 50):
        [part] = read(write(tmp_path, [image(3)], [box(0, 3, bbox=[0, 0, width, 7])]))
        assert isinstance(part, ImageRecord)
        assert part.captions[0].regions[0].box == (0, 0, width, 7)


@pytest.mark.parametrize("name", ["mixed", "flickr_separateGT"])
def test_published_excerpts(reference: Path, tmp_path: Path, name: str) -> None:
    folder = reference / "real/mdetr_json_excerpts"
    content = json.loads((folder / f"final_{name}_train_excerpt.json").read_bytes())
    images = [image for image in content["images"] if "id" in image]  # one is cut short
    annotations = content.get("annotations", [])
    if name == "flickr_separateGT":  # its excerpt has those of the first image, as a set
        boxes = content["annotations_image0_as_set"]
        annotations = [{**annotation, "id": i, "image_id": 0} for i, annotation in enumerate(boxes)]
    records = read(write(tmp_path, images, annotations))
    captions = [c for part in records if isinstance(part, ImageRecord) for c in part.captions]
    assert len(records) == len({image["file_name"] for image in images})  # none rejected
    assert [c.text for c in captions] == [image["caption"] for image in images]
    known = {image["id"] for image in images}
    boxes = [box for box in annotations if box["image_id"] in known]
    assert sum(len(c.regions) for c in captions) == len(boxes) > 0
