import json
import lzma
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.captions.parsing import SpacyParser
from pipelines.captions.rules import MDETR
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import Slice, SliceRange, find_slices, read_slice
from pipelines.sources import flickr30k
from pipelines.sources.base import Context
from pipelines.sources.flickr30k import Flickr30k
from schemas import GroundedCaption, ImageInfo, ImageRecord, Phrase, Region, Rejected
from tests.pipelines.sources.conservation import conserved


def read_all(source: Flickr30k, *splits: str) -> list[ImageRecord | Rejected]:
    context = Context(MDETR, splits, SpacyParser(), frozenset())
    return [
        record
        for rank, input_ in enumerate(source.inputs(splits))
        for slice_range in find_slices("flickr30k", rank, input_, "")
        if isinstance(slice_range, SliceRange)
        for record in conserved(source.read(read_slice(slice_range), context))
    ]


def image_records(records: Iterable[ImageRecord | Rejected]) -> list[ImageRecord]:
    return [record for record in records if isinstance(record, ImageRecord)]


def rejections(records: Iterable[ImageRecord | Rejected]) -> list[tuple[str, str, int]]:
    return [(r.record, r.reason, r.records) for r in records if isinstance(r, Rejected)]


# --- published results ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ground_truth", "name"), [("separate", "separateGT"), ("merged", "mergedGT")]
)
def test_val_set_equals_the_published_one(
    reference: Path, ground_truth: Literal["separate", "merged"], name: str
) -> None:
    real = reference / "real/flickr30k_entities"
    source = Flickr30k(
        annotations=str(real / "annotations.zip"),
        split_files={"val": str(real / "val.txt")},
        ground_truth=ground_truth,
    )
    records = read_all(source, "val")
    assert len(image_records(records)) == len(records) == 1000
    ours = Counter(
        (
            record.image,
            caption.record,
            caption.text,
            record.width,
            record.height,
            tuple(caption.tokens_negative),
            tuple(tuple(phrase.spans) for phrase in caption.phrases),
            tuple(sorted(_comparable(region) for region in caption.regions)),
        )
        for record in image_records(records)
        for caption in record.captions
    )
    with lzma.open(reference / f"golden/flickr/final_flickr_{name}_val.json.xz") as file:
        published = json.load(file)
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in published["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    # Published: sizes are strings, boxes have width and height, and the order of the spans of one
    # box is that of a set of numbers.
    theirs = Counter(
        (
            f"flickr30k/{image['original_img_id']}",
            f"{image['original_img_id']}#{image['sentence_id']}",
            image["caption"],
            int(image["width"]),
            int(image["height"]),
            tuple(map(tuple, image["tokens_negative"])),
            tuple(tuple(map(tuple, spans)) for spans in image["tokens_positive_eval"]),
            tuple(
                sorted(
                    (
                        (x, y, x + w, y + h),
                        tuple(sorted(map(tuple, annotation["tokens_positive"]))),
                        annotation["area"],
                        annotation["category_id"],
                        bool(annotation["iscrowd"]),
                    )
                    for annotation in by_image.get(image["id"], [])
                    for x, y, w, h in [annotation["bbox"]]
                )
            ),
        )
        for image in published["images"]
    )
    assert ours == theirs
    assert sum(ours.values()) == 5000


def _comparable(region: Region) -> tuple[object, ...]:
    assert region.box is not None
    x0, y0, x1, y1 = region.box
    spans = tuple(sorted(region.spans))
    return region.box, spans, (x1 - x0) * (y1 - y0), region.category, region.crowd


def test_zip_and_folder_give_the_same_records(reference: Path, tmp_path: Path) -> None:
    real = reference / "real/flickr30k_entities"
    with zipfile.ZipFile(real / "annotations.zip") as archive:
        archive.extractall(tmp_path)
    split_files = {"train": str(real / "train.txt")}
    zipped = Flickr30k(annotations=str(real / "annotations.zip"), split_files=split_files)
    folder = Flickr30k(annotations=str(tmp_path), split_files=split_files)
    records = read_all(zipped, "train")
    assert read_all(folder, "train") == records
    assert len(image_records(records)) == len(records) == 1503
    for record in image_records(records):
        assert record.width > 0
        assert record.height > 0
        for caption in record.captions:
            for phrase in caption.phrases:
                ((start, stop),) = phrase.spans
                assert caption.text[start:stop].strip() == caption.text[start:stop] != ""


def test_archive_is_opened_once_for_all_slices(reference: Path, tmp_path: Path) -> None:
    real = reference / "real/flickr30k_entities"
    packed = Path(shutil.copy(real / "annotations.zip", tmp_path))
    source = Flickr30k(annotations=str(packed), split_files={"train": str(real / "train.txt")})
    slices = [
        read_slice(slice_range)
        for slice_range in find_slices("flickr30k", 0, source.inputs(("train",))[0], "")
        if isinstance(slice_range, SliceRange)
    ]
    context = Context(MDETR, ("train",), SpacyParser(), frozenset())
    records = list(source.read(slices[0], context))
    packed.unlink()
    for raw_slice in slices[1:]:
        records += source.read(raw_slice, context)
    assert len(slices) > 1 and sum(isinstance(record, ImageRecord) for record in records) == 1503
    context.roots.close()
    with pytest.raises(FileNotFoundError):
        list(source.read(slices[0], context))


# --- a dataset of one image -----------------------------------------------------------------------

XML = """<annotation><filename>8.jpg</filename>
<size><width>500</width><height>375</height><depth>3</depth></size>{}</annotation>"""


def obj(*names: str, box: str = "1 2 30 40") -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=True)
    return (
        "<object>"
        + "".join(f"<name>{name}</name>" for name in names)
        + "<bndbox>"
        + "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        + "</bndbox></object>"
    )


MAN_AND_DOG = obj("1") + obj("2", box="50 60 90 100")
SENTENCE = "[/EN#1/people A man] walks [/EN#2/animals/other a dog] ."


def source_of(
    folder: Path,
    objects: str | bytes = MAN_AND_DOG,
    sentences: str | bytes = SENTENCE,
    ids: bytes = b"8\n",
    ground_truth: Literal["separate", "merged"] = "separate",
) -> Flickr30k:
    for name in ("Annotations", "Sentences"):
        (folder / name).mkdir(exist_ok=True)
    xml = objects if isinstance(objects, bytes) else XML.format(objects).encode()
    text = sentences if isinstance(sentences, bytes) else sentences.encode()
    (folder / "Annotations/8.xml").write_bytes(xml)
    (folder / "Sentences/8.txt").write_bytes(text)
    (folder / "train.txt").write_bytes(ids)
    return Flickr30k(
        annotations=str(folder),
        split_files={"train": str(folder / "train.txt")},
        ground_truth=ground_truth,
    )


def the_caption(source: Flickr30k) -> GroundedCaption:
    (record,) = image_records(read_all(source, "train"))
    (caption,) = record.captions
    return caption


def test_sentence_with_boxes(tmp_path: Path) -> None:
    man, dog = (1.0, 2.0, 30.0, 40.0), (50.0, 60.0, 90.0, 100.0)
    assert read_all(source_of(tmp_path), "train") == [
        ImageRecord(
            "flickr30k/8",
            "flickr30k",
            "train",
            captions=[
                GroundedCaption(
                    "A man walks a dog .",
                    [Region([(0, 5)], man), Region([(12, 17)], dog)],
                    [(0, 19)],
                    "flickr30k",
                    "8#0",
                    [
                        Phrase([(0, 5)], "1", ["people"], [man]),
                        Phrase([(12, 17)], "2", ["animals", "other"], [dog]),
                    ],
                )
            ],
            width=500,
            height=375,
        )
    ]


def test_nearly_equal_boxes_become_one_with_all_spans(tmp_path: Path) -> None:
    objects = obj("1", box="1 1 101 101") + obj("2", box="1 1 101 100")
    caption = the_caption(source_of(tmp_path, objects))
    assert caption.regions == [Region([(0, 5), (12, 17)], (1, 1, 101, 100))]
    assert [phrase.boxes for phrase in caption.phrases] == [[(1, 1, 101, 101)], [(1, 1, 101, 100)]]


def test_entity_with_two_boxes_by_ground_truth_protocol(tmp_path: Path) -> None:
    objects = obj("1", box="1 1 10 10") + obj("1", "7", box="50 60 90 100")
    caption = the_caption(source_of(tmp_path, objects))
    assert [region.box for region in caption.regions] == [(1, 1, 10, 10), (50, 60, 90, 100)]
    assert [len(phrase.boxes) for phrase in caption.phrases] == [2]
    caption = the_caption(source_of(tmp_path, objects, ground_truth="merged"))
    assert [region.box for region in caption.regions] == [(1, 1, 90, 100)]
    assert caption.phrases[0].boxes == [(1, 1, 90, 100)]


def test_entity_without_box_is_no_phrase(tmp_path: Path) -> None:
    without_box = "<object><name>2</name><scene>1</scene><nobndbox>1</nobndbox></object>"
    caption = the_caption(source_of(tmp_path, without_box))
    assert caption.text == "A man walks a dog ."
    assert caption.regions == caption.phrases == []


def test_image_table_and_paths(tmp_path: Path) -> None:
    source = source_of(tmp_path, ids=b"8\r\n\n../9\n")
    assert source.paths() == [str(tmp_path), str(tmp_path / "train.txt")]
    assert source.inputs(("val",)) == []
    (input_,) = source.image_tables()
    images = source.read_image_table(Slice(input_, (tmp_path / "train.txt").read_bytes()))
    assert list(images) == [ImageInfo("flickr30k/8", "flickr30k", "8.jpg", photo_id="8")]
    assert source.split_names() == {"train"}


@pytest.mark.parametrize("spelled", ["8", "0008", "8.jpg", " 8 ", "8.0"])
def test_image_ids_of_a_list_have_several_spellings(tmp_path: Path, spelled: str) -> None:
    source = source_of(tmp_path, ids=f"{spelled}\n".encode())
    (input_,) = source.image_tables()
    [row] = source.read_image_table(Slice(input_, (tmp_path / "train.txt").read_bytes()))
    assert row == ImageInfo("flickr30k/8", "flickr30k", "8.jpg", photo_id="8")
    assert [r.image for r in read_all(source, "train") if isinstance(r, ImageRecord)] == [row.key]


def test_bad_image_id_is_reported_once_with_its_file_name(tmp_path: Path) -> None:
    long = "9" * 21
    source = source_of(tmp_path, ids=f"8\n../9\n{long}\n".encode())
    records = read_all(source, "train")
    assert rejections(records) == [(repr(id_), "bad image id", 1) for id_ in ("../9", long)]
    assert {r.detail for r in records if isinstance(r, Rejected)} == {"train.txt"}


phrases = st.lists(st.sampled_from(["a", "man", "é", "t-shirt", "'s", ",", "]]x"]), min_size=1)


@given(st.lists(st.tuples(st.booleans(), phrases), max_size=6))
def test_marks_are_removed_and_spans_cover_the_phrases(
    phrases_and_gaps: list[tuple[bool, list[str]]],
) -> None:
    line = " ".join(
        f"[/EN#{i}/other {' '.join(words)}]" if marked else " ".join(words)
        for i, (marked, words) in enumerate(phrases_and_gaps)
    )
    text, mentions = flickr30k._parse_sentence(line)
    assert text == " ".join(word for _, words in phrases_and_gaps for word in words)
    assert [(m.entity, text[m.span[0] : m.span[1]]) for m in mentions] == [
        (str(i), " ".join(words)) for i, (marked, words) in enumerate(phrases_and_gaps) if marked
    ]


# --- malformed input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "[/EN#1/people A man walks .",
        "[/EN#1/people A [/EN#2/other man] ]",
        "A man] walks .",
        "[/EN#1/people ] walks .",
        "[/EN#1/people] A man walks .",
        "[EN1 A man] walks .",
        "[/EN#x/people A man] walks .",
        "[/EN#1 A man] walks .",
        b"\xe9t\xe9 [/EN#1/people A man] walks .",
    ],
)
def test_malformed_sentence_costs_only_itself(line: str | bytes, tmp_path: Path) -> None:
    bad = line if isinstance(line, bytes) else line.encode()
    source = source_of(tmp_path, sentences=bad + b"\n\n" + SENTENCE.encode())
    records = read_all(source, "train")
    assert rejections(records) == [("8#0", "malformed record", 1)]
    assert [caption.record for caption in image_records(records)[0].captions] == ["8#1"]


ENTITY_BOMB = b'<!DOCTYPE a [<!ENTITY b "bbbb">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"<annotation><size>",
        b"<annotation>\xff</annotation>",
        b'<?xml version="1.0" encoding="none"?><annotation/>',
        b"<annotation><size><width>5</width></size></annotation>",
        b"<annotation><size><width>wide</width></size></annotation>",
        ENTITY_BOMB,
    ],
)
def test_malformed_xml_rejects_its_image(xml: bytes, tmp_path: Path) -> None:
    source = source_of(tmp_path, objects=xml, sentences=f"{SENTENCE}\n{SENTENCE}\n")
    assert rejections(read_all(source, "train")) == [("8", "malformed record", 2)]


@pytest.mark.parametrize("width", ["0", "-5", str(2**24 + 1), str(2**70)])
def test_impossible_size_rejects_its_image(width: str, tmp_path: Path) -> None:
    xml = XML.format(MAN_AND_DOG).replace("<width>500", f"<width>{width}").encode()
    records = read_all(source_of(tmp_path, objects=xml), "train")
    assert rejections(records) == [("8", "bad image size", 1)]
    assert isinstance(records[0], Rejected)
    assert records[0].detail == f"{width}x375"


def test_missing_size_is_read_as_zero(tmp_path: Path) -> None:
    xml = f"<annotation>{MAN_AND_DOG}</annotation>".encode()
    (record,) = image_records(read_all(source_of(tmp_path, objects=xml), "train"))
    assert (record.width, record.height) == (0, 0)
    assert len(record.captions[0].regions) == 2


@pytest.mark.parametrize("box", ["30 2 30 40", "1 40 30 2", "nan 2 30 40", "a 2 30 40"])
def test_empty_or_invalid_box_is_rejected(box: str, tmp_path: Path) -> None:
    records = read_all(source_of(tmp_path, obj("1", box=box) + obj("2")), "train")
    # The box, and the sentence that refers to it.
    assert rejections(records) == [("8", "no usable box", 0), ("8#0", "no usable box", 0)]
    (record,) = image_records(records)
    assert [phrase.entity for phrase in record.captions[0].phrases] == ["2"]


@pytest.mark.parametrize(("name", "records"), [("Annotations/8.xml", 1), ("Sentences/8.txt", 5)])
def test_missing_or_huge_file_rejects_its_image(
    name: str, records: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(tmp_path)
    (tmp_path / name).write_bytes(b" " * (flickr30k.MAX_FLICKR_FILE_BYTES + 1))
    assert rejections(read_all(source, "train")) == [("8", "unreadable file", records)]
    (tmp_path / name).unlink()
    (rejected,) = read_all(source, "train")
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.detail) == ("unreadable file", f"no {name}")
    assert rejected.records == records
    with zipfile.ZipFile(tmp_path / "annotations.zip", "w") as archive:
        for other in {"Annotations/8.xml", "Sentences/8.txt"} - {name}:
            archive.write(tmp_path / other, other)
    zipped = Flickr30k(
        annotations=str(tmp_path / "annotations.zip"), split_files=source.split_files
    )
    assert rejections(read_all(zipped, "train")) == [("8", "unreadable file", records)]


def test_damaged_zip_member_rejects_its_image(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    path = tmp_path / "annotations.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("Annotations/8.xml", "Sentences/8.txt"):
            archive.write(tmp_path / name, name)
        damaged = archive.getinfo("Annotations/8.xml").header_offset + 60
    zipped = Flickr30k(annotations=str(path), split_files=source.split_files)
    assert read_all(zipped, "train") == read_all(source, "train")

    content = bytearray(path.read_bytes())
    content[damaged : damaged + 8] = b"\xff" * 8
    path.write_bytes(content)
    assert rejections(read_all(zipped, "train")) == [("8", "unreadable file", 1)]
    path.write_bytes(b"no zip")
    with pytest.raises(RawFileError, match=r"annotations\.zip: not a readable zip"):
        read_all(zipped, "train")


def test_encrypted_zip_raises(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    path = tmp_path / "annotations.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("Annotations/8.xml", "Sentences/8.txt"):
            archive.write(tmp_path / name, name)
    content = path.read_bytes()  # bit 0 of the flags, in the headers of the member and the list
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        flagged = bytearray(content)
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            flagged[at + offset] |= 1
        content = bytes(flagged)
    path.write_bytes(content)
    zipped = Flickr30k(annotations=str(path), split_files=source.split_files)
    with pytest.raises(RawFileError, match=r"annotations\.zip: .*encrypted"):
        read_all(zipped, "train")
