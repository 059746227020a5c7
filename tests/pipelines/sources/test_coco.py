import json
import lzma
import pickle
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.captions.parsing import SpacyParser
from pipelines.captions.rules import MDETR, PAPER, CaptionRules
from pipelines.geometry.boxes import from_xywh
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import Input, Slice, SliceRange, find_slices, read_slice
from pipelines.sources import coco
from pipelines.sources.base import Context
from pipelines.sources.coco import Coco
from schemas import Box, ImageInfo, ImageRecord, Object, Rejected
from tests.pipelines.sources.conservation import conserved


@pytest.fixture(scope="session")
def parser() -> SpacyParser:
    return SpacyParser()


@pytest.fixture(scope="session")
def golden(golden_raw: Path) -> Path:
    return next(golden_raw.rglob("refexp")).parent


def read_all(
    source: Coco, splits: tuple[str, ...], rules: CaptionRules, parser: SpacyParser, scratch: Path
) -> Iterator[ImageRecord | Rejected]:
    context = Context(rules, splits, parser, frozenset())
    for rank, input_ in enumerate(source.inputs(splits)):
        for slice_range in find_slices("coco", rank, input_, str(scratch)):
            assert isinstance(slice_range, SliceRange)
            yield from conserved(source.read(read_slice(slice_range), context))


def images(source: Coco) -> list[ImageInfo | Rejected]:
    return [
        image
        for input_ in source.image_tables()
        for slice_range in find_slices("coco", 0, input_, "")
        if isinstance(slice_range, SliceRange)
        for image in source.read_image_table(read_slice(slice_range))
    ]


def image_records(records: list[ImageRecord | Rejected]) -> list[ImageRecord]:
    return [record for record in records if isinstance(record, ImageRecord)]


def objects_of(records: list[ImageRecord | Rejected]) -> Mapping[str, Object]:
    return {id_: item for record in image_records(records) for id_, item in record.objects.items()}


# --- published results ----------------------------------------------------------------------------


@pytest.mark.parametrize("rules", [MDETR, PAPER], ids=["mdetr", "paper"])
def test_references_equal_the_published_datapoints(
    golden: Path, reference: Path, rules: CaptionRules, parser: SpacyParser, tmp_path: Path
) -> None:
    source = Coco(
        instances=[str(golden / "coco/annotations/instances_train2014.json")],
        refs={
            "refcoco": str(golden / "refexp/refcoco/refs(unc).p"),
            "refcoco+": str(golden / "refexp/refcoco+/refs(unc).p"),
            "refcocog": str(golden / "refexp/refcocog/refs(umd).p"),
        },
    )
    records = list(read_all(source, ("train",), rules, parser, tmp_path))
    objects = objects_of(records)
    # The published script leaves the images of every evaluation split out by this list.
    train_ids = set((golden / "side/combined_ref_exp_safe_train_ids.txt").read_text().split())
    ours = Counter(
        (
            record.image,
            caption.dataset,
            region.object,
            caption.text,
            tuple(caption.tokens_negative),
            objects[region.object].area,
            int(objects[region.object].crowd),
            region.category,
            objects[region.object].box,
            tuple(region.spans),
        )
        for record in image_records(records)
        if record.image.removeprefix("coco/") in train_ids
        for caption in record.captions
        for region in caption.object_regions
    )
    with lzma.open(reference / "golden/mixed/refexp_datapoints.json.xz") as file:
        datapoints = json.load(file)
    theirs = Counter(
        (
            f"coco/{datapoint['image_id']}",
            datapoint["dataset_name"],
            str(datapoint["original_id"]),
            datapoint["caption"],
            tuple(map(tuple, datapoint["tokens_negative"])),
            annotation["area"],
            annotation["iscrowd"],
            annotation["category_id"],
            from_xywh(*annotation["bbox"]),
            tuple(map(tuple, annotation["tokens_positive"])),
        )
        for datapoint in datapoints
        for annotation in datapoint["annotations"]
    )
    assert ours == theirs
    assert sum(ours.values()) == 6512
    assert all(item.category == objects[r.object].category for item, r in _regions(records))
    assert not [record for record in records if isinstance(record, Rejected)]


def _regions(records: list[ImageRecord | Rejected]) -> Iterator[tuple[Object, Any]]:
    objects = objects_of(records)
    for record in image_records(records):
        for caption in record.captions:
            for region in caption.object_regions:
                yield objects[region.object], region


def test_only_requested_splits_are_read(golden: Path, parser: SpacyParser, tmp_path: Path) -> None:
    path = golden / "refexp/refcoco/refs(unc).p"
    source = Coco(instances=[], refs={"refcoco": str(path)})
    records = image_records(list(read_all(source, ("testA", "testB"), PAPER, parser, tmp_path)))
    refs = pickle.loads(path.read_bytes())
    expected = Counter(
        (f"coco/{ref['image_id']}", ref["split"], sentence["sent"])
        for ref in refs
        if ref["split"] in ("testA", "testB")
        for sentence in ref["sentences"]
    )
    assert expected == Counter((p.image, p.split, c.text) for p in records for c in p.captions)
    assert len({(record.image, record.split) for record in records}) == len(records)


def test_real_refcoco_excerpt(reference: Path, parser: SpacyParser, tmp_path: Path) -> None:
    folder = reference / "real/refcoco_excerpt"
    source = Coco(
        instances=[str(folder / "instances.json")], refs={"refcoco": str(folder / "refs(unc).p")}
    )
    records = list(read_all(source, ("train",), PAPER, parser, tmp_path))
    assert not [record for record in records if isinstance(record, Rejected)]
    (record,) = [record for record in image_records(records) if record.captions]
    assert record.image == "coco/581857"
    assert [caption.record for caption in record.captions] == ["0", "1", "2"]
    assert {region.object for c in record.captions for region in c.object_regions} == {"1719310"}
    assert "1719310" in objects_of(records)
    by_key = {p.key: p for p in images(source) if isinstance(p, ImageInfo)}
    assert by_key["coco/98304"].photo_id == "5896644212"
    assert by_key["coco/581857"] == ImageInfo(
        "coco/581857", "coco", "COCO_train2014_000000581857.jpg", width=427, height=640
    )


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_boxes_agree_with_their_segmentations(
    split: str, reference: Path, parser: SpacyParser, tmp_path: Path
) -> None:
    path = reference / f"real/coco_mini/annotations/instances_{split}2017.json"
    source = Coco(instances=[str(path)])
    stated = list(read_all(source, ("train",), MDETR, parser, tmp_path))
    checked = list(read_all(source, ("train",), PAPER, parser, tmp_path))
    assert stated == checked
    raw = json.loads(path.read_text())
    assert objects_of(stated) == {
        str(a["id"]): Object(from_xywh(*a["bbox"]), a["area"], a["category_id"], bool(a["iscrowd"]))
        for a in raw["annotations"]
    }
    assert any(item.crowd for item in objects_of(stated).values()) or split == "val"
    assert all(isinstance(p, ImageInfo) and p.photo_id.isdigit() for p in images(source))
    assert len(images(source)) == len(raw["images"])


# --- boxes ----------------------------------------------------------------------------------------

SQUARE = [[10, 20, 50, 20, 50, 60, 10, 60]]
RUNS = {"size": [8, 8], "counts": [16, 16, 32]}  # columns 2 and 3


def read_annotation(rules: CaptionRules, **fields: Any) -> Object | Rejected:
    annotation = {"id": 7, "image_id": 9, "category_id": 3, "iscrowd": 0, "area": 5.5, **fields}
    content = json.dumps([annotation]).encode()
    raw_slice = Slice(Input("instances.json", "list", within="annotations"), content)
    context = Context(rules, ("train",), SpacyParser(), frozenset())
    (record,) = conserved(Coco(instances=[]).read(raw_slice, context))
    if isinstance(record, Rejected):
        return record
    assert (record.image, record.split, list(record.objects)) == ("coco/9", "", ["7"])
    return record.objects["7"]


@pytest.mark.parametrize(
    ("bbox", "segmentation", "box"),
    [
        ([10, 20, 40, 40], SQUARE, (10, 20, 50, 60)),
        ([12, 22, 37, 37], SQUARE, (12, 22, 49, 59)),
        ([10, 20, 40, 0], SQUARE, (10, 20, 50, 60)),
        ([10, 20, -40, 40], SQUARE, (10, 20, 50, 60)),
        ([90, 90, 40, 40], SQUARE, (10, 20, 50, 60)),
        ([None, 20, 40, 40], SQUARE, (10, 20, 50, 60)),
        ([1e300, 20, 40, 40], SQUARE, (10, 20, 50, 60)),
        ([], SQUARE, (10, 20, 50, 60)),
        (None, SQUARE, (10, 20, 50, 60)),
        (None, RUNS, (2, 0, 4, 8)),
        ([10, 20, 40, 40], [], (10, 20, 50, 60)),
        ([10, 20, 40, 40], "nothing", (10, 20, 50, 60)),
    ],
)
def test_box_is_replaced_by_the_extent_of_its_segmentation(
    bbox: Any, segmentation: Any, box: Box
) -> None:
    read = read_annotation(PAPER, bbox=bbox, segmentation=segmentation)
    assert read == Object(box, 5.5, 3, False)


@pytest.mark.parametrize("bbox", [[10, 20, 40, 0], [10, 20, 40], None, [0, 0, None, 1]])
@pytest.mark.parametrize("segmentation", [[], [[1, 2, 3]], {"size": [2, 2], "counts": "P"}])
def test_annotation_without_box_or_segmentation_is_rejected(bbox: Any, segmentation: Any) -> None:
    read = read_annotation(PAPER, bbox=bbox, segmentation=segmentation)
    assert isinstance(read, Rejected)
    assert (read.record, read.reason, read.image) == ("7", "no usable box", "coco/9")


def test_mdetr_rules_do_not_check_boxes() -> None:
    far = read_annotation(MDETR, bbox=[90, 90, 40, 0], segmentation=SQUARE)
    assert far == Object((90, 90, 130, 90), 5.5, 3, False)
    assert isinstance(read_annotation(MDETR, segmentation=SQUARE), Rejected)


def test_malformed_annotation_or_image_costs_only_itself() -> None:
    good = b'{"id": 1, "image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4]}'
    bad = b'{"id": "x", "image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4]}'
    raw_slice = Slice(
        Input("/a/i.json", "list", within="annotations"), b"[" + bad + b"," + good + b"]"
    )
    context = Context(PAPER, ("train",), SpacyParser(), frozenset())
    rejected, record = conserved(Coco(instances=[]).read(raw_slice, context))
    assert isinstance(rejected, Rejected)
    assert rejected.reason == "malformed record"
    assert rejected.detail.startswith("i.json: Expected `int`")
    assert isinstance(record, ImageRecord)
    assert record.objects == {"1": Object((1, 2, 4, 6), category=3)}

    images = b'[{"id": 1, "file_name": "\xff.jpg", "width": 2, "height": 3}]'
    raw_slice = Slice(Input("i.json", "list", within="images"), images)
    (record,) = Coco(instances=[]).read_image_table(raw_slice)
    assert isinstance(record, Rejected)
    assert "UTF-8" in record.detail


@pytest.mark.parametrize(
    "field", [{"category_id": 2**31}, {"category_id": 2**70}, {"id": 2**70}, {"image_id": 2**63}]
)
def test_numbers_beyond_their_field_size_are_rejected(field: dict[str, int]) -> None:
    record = read_annotation(PAPER, bbox=[1, 2, 3, 4], **field)
    assert isinstance(record, Rejected)
    assert (record.reason, record.records) == ("malformed record", 0)


def test_crowd_ids_of_more_than_32_bits_are_read() -> None:
    good = {"id": 900100259564, "image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4]}
    raw_slice = Slice(Input("i.json", "list", within="annotations"), json.dumps([good]).encode())
    (record,) = conserved(
        Coco(instances=[]).read(raw_slice, Context(PAPER, (), SpacyParser(), frozenset()))
    )
    assert isinstance(record, ImageRecord)
    assert list(record.objects) == ["900100259564"]


@pytest.mark.parametrize(
    ("url", "photo"),
    [
        ("http://farm6.staticflickr.com/5062/5896644212_a326e96ea9_z.jpg", "5896644212"),
        ("https://live.staticflickr.com/5062/5896644212_a326e96ea9_z.jpg", "5896644212"),
        ("https://flickr.example/5062/5896644212_a326e96ea9_z.jpg", ""),
        ("", ""),
    ],
)
def test_photo_id_is_read_from_the_flickr_url(url: str, photo: str) -> None:
    image = {"id": 1, "file_name": "a.jpg", "width": 2, "height": 3, "flickr_url": url}
    raw_slice = Slice(Input("i.json", "list", within="images"), json.dumps([image]).encode())
    (record,) = Coco(instances=[]).read_image_table(raw_slice)
    assert record == ImageInfo("coco/1", "coco", "a.jpg", 2, 3, photo, url=url)


# --- sentences ------------------------------------------------------------------------------------


def reference(image_id: int, *texts: str, **fields: Any) -> dict[str, Any]:
    sentences = [{"sent_id": 100 * image_id + i, "sent": text} for i, text in enumerate(texts)]
    return {
        "image_id": image_id,
        "ann_id": 5,
        "category_id": 3,
        "split": "train",
        "sentences": sentences,
        **fields,
    }


def read_references(
    folder: Path, references: Any, parser: SpacyParser
) -> list[ImageRecord | Rejected]:
    path = folder / "refs.p"
    path.write_bytes(pickle.dumps(references, 2))
    source = Coco(instances=[], refs={"refcoco": str(path)})
    return list(read_all(source, ("train", "val"), PAPER, parser, folder))


def test_unusable_sentences_are_rejected_with_their_reason(
    tmp_path: Path, parser: SpacyParser
) -> None:
    texts = ("left man", "", " ... ", "man \ud800", "man " * 501, "right man", f"man {'(' * 251}")
    *rejected, record = read_references(tmp_path, [reference(8, *texts)], parser)
    assert isinstance(record, ImageRecord)
    assert [caption.text for caption in record.captions] == ["left man", "right man"]
    assert [(r.record, r.reason) for r in rejected if isinstance(r, Rejected)] == [
        ("refcoco/801", "no words"),
        ("refcoco/802", "no words"),
        ("refcoco/803", "not Unicode text"),
        ("refcoco/804", "text too long"),
        ("refcoco/806", "text too long"),
    ]


@pytest.mark.parametrize(
    "item",
    [
        "a string",
        None,
        {},
        reference(8, "a", split=3),
        reference(8, "a", category_id=2**70),
        reference(8, "a", ann_id=2**70),
        reference(2**40000, "a"),
        reference(8, "a", sentences=[{"sent_id": 2**70, "sent": "a"}]),
        reference(8, "a", ann_id=5.5),
        reference(0, "a"),
        reference(-1, "a"),
        reference(8, "a", sentences=None),
        reference(8, "a", sentences=[{"sent_id": 1}]),
        reference(8, "a", sentences=[{"sent_id": 1, "sent": 4}]),
    ],
)
def test_malformed_reference_costs_only_itself(
    item: Any, tmp_path: Path, parser: SpacyParser
) -> None:
    rejected, record = read_references(tmp_path, [item, reference(9, "left man")], parser)
    assert isinstance(rejected, Rejected)
    assert (rejected.record, rejected.reason) == ("0", "malformed record")
    assert rejected.detail.startswith("refs.p: ")
    assert isinstance(record, ImageRecord)
    assert record.image == "coco/9"


def test_pickle_of_another_type_raises_with_the_file_name(
    tmp_path: Path, parser: SpacyParser
) -> None:
    with pytest.raises(RawFileError, match=r"refs\.p: expected a list, found dict"):
        read_references(tmp_path, {"refs": []}, parser)


def test_batch_size_does_not_change_the_records(
    tmp_path: Path, parser: SpacyParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = [reference(1 + i % 4, "left man", f"dog number {i}") for i in range(12)]
    whole = read_references(tmp_path, references, parser)
    monkeypatch.setattr(coco, "SENTENCES_PER_BATCH", 3)
    assert read_references(tmp_path, references, parser) == whole
    assert [record.image for record in image_records(whole)] == [f"coco/{i}" for i in range(1, 5)]
    assert [len(record.captions) for record in image_records(whole)] == [6, 6, 6, 6]


# --- Parquet --------------------------------------------------------------------------------------

ids = st.none() | st.sampled_from([7, 8, -1, 2**40])
boxes = st.none() | st.lists(st.none() | st.floats(-5, 50), max_size=5)
rows_of_hubs = st.fixed_dictionaries(
    {
        "image_id": ids,
        "ann_id": ids,
        "split": st.none() | st.sampled_from(["train", "val", "test"]),
        "sentences": st.none()
        | st.lists(
            st.fixed_dictionaries(
                {"sent": st.none() | st.sampled_from(["a man", "", "."]), "sent_id": ids}
            ),
            max_size=3,
        ),
        "raw_anns": st.none()
        | st.sampled_from(
            [
                "",
                "[]",
                '{"id": 7, "image_id": 7, "category_id": 1, "bbox": [1, 2, 30, 40]}',
                '{"id": 7, "image_id": 7, "category_id": 1, "bbox": null}',
                '{"id": 8, "image_id": 7, "category_id": 1, "bbox": [1, 2, 30, 40]}',
            ]
        ),
        "raw_image_info": st.none()
        | st.sampled_from(["", '{"id": 7, "file_name": "7.jpg", "width": 9, "height": 9}']),
        "bbox": boxes,
    },
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(rows_of_hubs, min_size=1, max_size=6),
    without=st.sets(st.sampled_from(["raw_anns", "raw_image_info", "split", "ann_id"])),
)
def test_rows_of_parquet_are_conserved(
    rows: list[dict[str, Any]], without: set[str], parser: SpacyParser
) -> None:
    """`read_all` checks that all sentences and boxes that a file states are accounted for."""
    columns = {key: [row[key] for row in rows] for key in rows[0].keys() - without}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train-00000-of-00001.parquet"
        pq.write_table(pa.table(columns), path)
        source = Coco(refs={"refcoco": str(path)})
        source.check_paths()
        records = list(read_all(source, ("train", "val"), PAPER, parser, Path(folder)))
        rows_of_images = images(source)
    captions = [caption for record in image_records(records) for caption in record.captions]
    assert all(len(caption.regions) == 1 for caption in captions)
    assert {row.key for row in rows_of_images if isinstance(row, ImageInfo)} <= {
        *("coco/7", "coco/8", f"coco/{2**40}")
    }
