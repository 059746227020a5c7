"""OpenImages: tables with relative boxes, classes verified to be absent, and Flickr's photos."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipelines.io import slices
from shards.format import manifest
from shards.format.source_counts import SourceCounts
from tests import tiny

RUNNER = "--runner=tests.eager_runner.EagerRunner"
SEPARATE = {"train": {"shards": 1, "combine": False}}
PHOTO_HEADER = (
    "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,"
    "OriginalSize,OriginalMD5,Thumbnail300KURL,Rotation"
)
BOX_HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,"
    "IsDepiction,IsInside"
)
PERSON, TORTOISE = "/m/01g317", "/m/011k07"
CLASSES = f'{TORTOISE},Tortoise\n{PERSON},Person\n/m/0x,"Door, old"\n'


def image_id(number: int) -> str:
    return f"{number:016x}"


def table(header: str, rows: Sequence[Sequence[Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header.split(","))
    writer.writerows(rows)
    return out.getvalue().encode()


def photo(number: int, title: str = "A dog") -> list[Any]:
    url = f"https://c1.staticflickr.com/6/5310/{9000 + number}_51085e157c_o.jpg"
    by = "https://creativecommons.org/licenses/by/2.0/"
    return [image_id(number), "train", url, "", by, "", "Ann", title, 1, "==", "", 0.0]


def box(number: int, label: str, x0: Any, x1: Any, y0: Any, y1: Any, group: int = 0) -> list[Any]:
    return [image_id(number), "xclick", label, 1, x0, x1, y0, y1, 0, 1, group, 0, 0]


def write(
    root: Path, photos: list[Any], boxes: list[Any], labels: Sequence[Any] = ()
) -> dict[str, Any]:
    tiny.write(root / "oi/photos.csv", table(PHOTO_HEADER, photos))
    tiny.write(root / "oi/boxes.csv", table(BOX_HEADER, boxes))
    tiny.write(root / "oi/labels.csv", table("ImageID,Source,LabelName,Confidence", labels))
    tiny.write(root / "oi/classes.csv", CLASSES.encode())
    for row in photos:
        hue = int(row[0][-1:], 16) if row[0] != "xyz" else 0
        tiny.write(root / f"oi/train/{row[0]}.jpg", tiny.image_file(hue=hue))
    return {
        "photos": {"train": "oi/photos.csv"},
        "boxes": {"train": "oi/boxes.csv"},
        "labels": {"train": "oi/labels.csv"},
        "classes": "oi/classes.csv",
        "images": ["oi/train"],
    }


def build(root: Path, sources: dict[str, Any], **tables: Any) -> SourceCounts:
    tables = {"splits": SEPARATE, "sources": sources, **tables}
    assert tiny.build(root, RUNNER, **tables) == 0
    return manifest.load(root / "shards").sources["openimages"]


def boxes_of(root: Path) -> dict[tuple[str, str], list[list[float]]]:
    return {
        (key, caption["text"]): sorted(region["box"] for region in caption["regions"])
        for key, sample in tiny.samples(root).items()
        for caption in sample["captions"]
    }


def test_relative_boxes_become_pixels_of_the_image_file(tmp_path: Path) -> None:
    boxes = [
        box(1, PERSON, 0.1, 0.25, 0.5, 1),
        box(2, "/m/0x", 0, 1, 0, 1),
        box(1, TORTOISE, 0.5, 0.75, 0.2, 0.4, group=1),
        box(1, PERSON, "0.000000", "0.500000", 0.1, 1.5),  # beyond the image: clipped
    ]
    counts = build(tmp_path, {"openimages": write(tmp_path, [photo(1), photo(2)], boxes)})
    one, two = f"openimages/{image_id(1)}", f"openimages/{image_id(2)}"
    assert boxes_of(tmp_path) == {
        (one, "Tortoise"): [[100, 20, 150, 40]],
        (one, "Person"): [[0, 10, 100, 100], [20, 50, 50, 100]],
        (two, "Door, old"): [[0, 0, tiny.WIDTH, tiny.HEIGHT]],
    }
    sample = tiny.samples(tmp_path)[one]
    assert (sample["width"], sample["height"]) == (tiny.WIDTH, tiny.HEIGHT)
    regions = {c["text"]: c["regions"][0] for c in sample["captions"]}
    assert regions["Tortoise"]["crowd"] is True and "crowd" not in regions["Person"]
    assert regions["Person"]["category"] == 2
    assert (counts.in_shards, counts.boxes.read, counts.boxes.in_shards) == (3, 4, 4)


def test_slices_of_a_table_have_each_row_once_whatever_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MAX_ROW_BYTES", 300)
    titles = ["two\nlines", 'a "quote"', "a,b", "é😀", ""]
    numbers = range(1, 41)
    photos = [photo(number, titles[number % 5]) for number in numbers]
    boxes = [box(number, PERSON, 0, 0.5, 0, 0.5) for number in numbers]
    counts = build(tmp_path, {"openimages": write(tmp_path, photos, boxes)})
    assert sorted(tiny.samples(tmp_path)) == [f"openimages/{image_id(n)}" for n in numbers]
    assert (counts.in_shards, counts.rejected) == (40, 0)


def test_unusable_rows_are_rejected_with_their_reason_and_counted(tmp_path: Path) -> None:
    photos = [photo(1), photo(2), ["xyz", *photo(3)[1:]]]
    boxes = [
        box(1, PERSON, 0.1, 0.2, 0.1, "NaN"),
        box(1, "/m/none", 0.1, 0.2, 0.1, 0.2),
        box(9, PERSON, 0.1, 0.2, 0.1, 0.2),
        box(2, PERSON, 0.4, 0.2, 0.1, 0.2),
        box(2, TORTOISE, 0.1, 0.2, 0.1, 0.2)[:7],
        box(2, TORTOISE, 0.1, 0.2, 0.1, 0.2),
    ]
    source = write(tmp_path, photos, boxes)
    (tmp_path / f"oi/train/{image_id(1)}.jpg").write_bytes(b"")
    counts = build(tmp_path, {"openimages": source})
    assert list(boxes_of(tmp_path)) == [(f"openimages/{image_id(2)}", "Tortoise")]
    rows = {(r.reason, r.records, r.boxes) for r in tiny.rejected(tmp_path)}
    assert rows == {
        ("bad image id", 0, 0),
        ("malformed record", 0, 1),
        ("all boxes lost", 1, 0),
        ("unknown class", 1, 1),
        ("unknown image", 1, 1),
        ("empty box", 1, 1),
    }
    assert (counts.boxes.read, counts.boxes.rejected, counts.boxes.in_shards) == (6, 5, 1)


def test_unclosed_quote_costs_its_row_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MAX_ROW_BYTES", 300)
    boxes = [box(number, PERSON, 0, 0.5, 0, 0.5) for number in range(1, 21)]
    source = write(tmp_path, [photo(number) for number in range(1, 21)], boxes)
    content = (tmp_path / "oi/boxes.csv").read_bytes()
    damaged = content.replace(b"xclick", b'"xclick', 1)
    (tmp_path / "oi/boxes.csv").write_bytes(damaged)
    counts = build(tmp_path, {"openimages": source})
    assert counts.in_shards == 19
    assert [r.reason for r in tiny.rejected(tmp_path)] == ["record too large"]


def test_ids_and_confidences_have_several_spellings(tmp_path: Path) -> None:
    """A list that was edited as a table of numbers has floats, one of files has their ending."""
    boxes = [box(1, PERSON, 0, 1, 0, 1)]
    labels = [[image_id(1), "verification", TORTOISE, "0.0"]]
    source = write(tmp_path, [photo(1), photo(2)], boxes, labels)
    renamed = [f"{image_id(1)}.jpg", *photo(1)[1:]]
    tiny.write(tmp_path / "oi/photos.csv", table(PHOTO_HEADER, [renamed, photo(2)]))
    build(tmp_path, {"openimages": source}, negatives={"proven": 5})
    [sample] = tiny.samples(tmp_path).values()
    assert sample["file"] == f"{image_id(1)}.jpg"
    absent = [span for caption in sample["captions"] for span in caption.get("absent", [])]
    assert [span["record"] for span in absent] == [f"{image_id(1)}:{TORTOISE}"]


def test_flickr_photos_join_images_with_coco(tmp_path: Path) -> None:
    """The photo 9001 is COCO's image 7, at half the size; 9002 is held out with it."""
    url = "http://farm6.staticflickr.com/1/9001_ab_z.jpg"
    instances = [tiny.coco_image(7, flickr_url=url, width=100, height=50)]
    coco = tiny.write_coco(tmp_path, instances, [tiny.coco_annotation(70, 7)], [])
    coco["refs"] = {"refcoco": "coco/refs.p"}
    tiny.write_refs(tmp_path / "coco/refs.p", [tiny.reference(7, 70, {1: "the cat"})])
    tiny.write(tmp_path / "coco/images/7.jpg", tiny.image_file(100, 50))
    boxes = [box(1, PERSON, 0.5, 1, 0, 1), box(2, PERSON, 0, 1, 0, 1)]
    labels = [[image_id(1), "verification", TORTOISE, 0]]
    source = write(tmp_path, [photo(1), photo(2)], boxes, labels)
    tiny.write(tmp_path / "held_out.txt", b"9002\n")
    held_out = {"photos": {"ids": ["held_out.txt"], "of": "flickr30k"}}
    sources = {"coco": coco, "openimages": source}
    build(tmp_path, sources, exclude=held_out, negatives={"proven": 5})
    assert boxes_of(tmp_path) == {
        ("coco/7", "the cat"): [[10, 10, 50, 40]],
        ("coco/7", "Person"): [[50, 0, 100, 50]],
        ("coco/7", "Tortoise"): [],  # verified to be absent
    }
    counts = manifest.load(tmp_path / "shards").sources["openimages"]
    assert (counts.in_shards, counts.excluded) == (1, 1)


def test_classes_verified_to_be_absent_are_proven_negatives(tmp_path: Path) -> None:
    labels = [
        [image_id(1), "verification", TORTOISE, 0],
        [image_id(1), "verification", PERSON, 0],  # which a box shows
        [image_id(2), "verification", TORTOISE, 1],
        [image_id(2), "verification", "/m/none", 0],
    ]
    boxes = [box(1, PERSON, 0, 1, 0, 1), box(2, "/m/0x", 0, 1, 0, 1)]
    source = write(tmp_path, [photo(1), photo(2)], boxes, labels)
    build(tmp_path, {"openimages": source}, negatives={"proven": 5})
    absent = {
        (key, caption["text"], phrase["strength"])
        for key, sample in tiny.samples(tmp_path).items()
        for caption in sample["captions"]
        for phrase in caption.get("absent", [])
    }
    assert absent == {(f"openimages/{image_id(1)}", "Tortoise", "proven")}


def test_set_without_images_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path, [photo(1)], [box(1, PERSON, 0, 1, 0, 1)])
    tables = {"splits": SEPARATE, "sources": {"openimages": source}, "images": "none"}
    assert tiny.build(tmp_path, RUNNER, **tables) == 1
    assert "its boxes are fractions of the sides of an image" in capsys.readouterr().err
