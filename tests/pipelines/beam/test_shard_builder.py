"""Builds one shard from slice outputs."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from pipelines.beam.shard_builder import ShardBuilder, ShardSummary
from pipelines.captions.negatives import IS_PRESENT
from pipelines.captions.rules import MDETR, PAPER
from pipelines.dedup.image_registry import ImageRegistry
from pipelines.dedup.near_duplicates import HashedImage, perceptual_hash
from pipelines.io.images import ImageStore
from pipelines.recipe import NearDuplicates, Negatives, Recipe, Split
from schemas import (
    AbsentPhrase,
    EvalImage,
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    Region,
    Rejected,
)
from schemas.limits import MAX_CLASS_BOXES
from shards.format.index import IndexRow
from shards.format.placement import position
from shards.format.source_counts import Counts, total
from shards.format.stats import as_json
from tests import tiny

RECIPE = Recipe(
    name="tiny",
    rules=PAPER,
    splits={"train": Split(1, "train", True), "val": Split(1, "eval", False)},
    sources={},
    exclude={},
    near_duplicates=NearDuplicates(),
)
TABLE = [ImageInfo(f"vg/{i}", "vg", f"{i}.jpg", tiny.WIDTH, tiny.HEIGHT) for i in range(1, 6)]


def caption(record: str, text: str = "") -> GroundedCaption:
    text = text or f"a cat {record}"
    return GroundedCaption(text, [Region([(2, 5)], (1, 1, 50, 50))], [], "vg", record)


def record(image: int, *captions: GroundedCaption, **fields: Any) -> ImageRecord:
    return ImageRecord(f"vg/{image}", "vg", "train", list(captions), **fields)


@pytest.fixture
def images(tmp_path: Path) -> ImageStore:
    for i in range(1, 6):
        tiny.write(tmp_path / f"images/{i}.jpg", tiny.image_file(hue=i))
    return ImageStore({"vg": [str(tmp_path / "images")]})


def shard(
    output: Path,
    store: ImageStore,
    *records: ImageRecord,
    split: str = "train",
    held_out: list[EvalImage] | None = None,
    hashes: list[HashedImage] | None = None,
    **changes: Any,
) -> ShardSummary:
    (output / "shards").mkdir(exist_ok=True)
    recipe = msgspec.structs.replace(RECIPE, **changes)
    image_registry = ImageRegistry(TABLE, held_out or [], True)
    builder = ShardBuilder(
        recipe, str(output / "shards"), split, 0, image_registry, store, hashes or []
    )
    builder.add(records)
    given = Counter({"captions": 0, "boxes": 0})
    for each in records:
        given["captions"] += len(each.captions)
        given["boxes"] += sum(caption.box_count() for caption in each.captions)
    summary, photos = builder.write()
    assert photos.keys == keys_of(output, summary)
    # Every caption and every box that was given to the builder has one outcome.
    counts = total(summary.sources.values())
    assert (counts.read, counts.merged) == (0, 0)  # these are counted when the records are read
    assert counts.in_shards + counts.rejected + counts.excluded == given["captions"]
    boxes = counts.boxes
    assert boxes.in_shards + boxes.rejected + boxes.excluded == given["boxes"]
    assert (counts.in_shards, boxes.in_shards) == (summary.stats.sentences, summary.stats.regions)
    return summary


def rows_of(output: Path, summary: ShardSummary) -> list[IndexRow]:
    """Returns the rows of the index, with the ids of licenses of the shard."""
    table = pq.read_table(output / "shards" / summary.entry.index.file)
    return [IndexRow(**row) for row in table.to_pylist()]


def keys_of(output: Path, summary: ShardSummary) -> list[str]:
    return [row.key for row in rows_of(output, summary)]


def test_crop_is_beside_its_image_and_names_it(tmp_path: Path) -> None:
    """COCO's image and a wider crop of it in Visual Genome."""
    images = [
        ImageInfo("coco/9", "vg", "9.jpg", tiny.WIDTH, tiny.HEIGHT),
        ImageInfo("vg/1", "vg", "1.jpg", 2 * tiny.WIDTH, tiny.HEIGHT, same_as="coco/9"),
    ]
    output = str(tmp_path / "shards")
    recipe = msgspec.structs.replace(RECIPE, images="none")
    registry = ImageRegistry(images, [], True)
    (tmp_path / "shards").mkdir()
    builder = ShardBuilder(recipe, output, "train", 0, registry, ImageStore({}), [])
    coco = ImageRecord("coco/9", "vg", "train", [caption("a")])
    builder.add([record(1, caption("b")), coco])
    summary, _ = builder.write()
    rows = rows_of(tmp_path, summary)
    assert {row.key: row.crop_of for row in rows} == {"coco/9": "", "vg/1": "coco/9"}


def absent(text: str, number: str = "7") -> AbsentPhrase:
    return AbsentPhrase(text, "gqa", number, "answered no")


@pytest.mark.parametrize("split", ["train", "val"])
def test_each_absent_phrase_has_one_outcome(tmp_path: Path, images: ImageStore, split: str) -> None:
    """Written, stated twice, contradicted by a caption, too many, or lost with its image."""
    records = [
        record(1, caption("1"), absent=[absent("dog"), absent("Dog"), absent("cats", "8")]),
        record(2, absent=[absent("bus")]),
        record(3, caption("3"), absent=[absent(text) for text in ("red bus", "tree", "sky")]),
        record(4, caption("4"), absent=[absent("dog")]),
        record(4, names=["sky"]),
        record(5, caption("5"), absent=[absent("dog")]),
        record(99, caption("99"), absent=[absent("dog")]),
    ]
    for each in records:
        each.split = split
    (tmp_path / "images/5.jpg").unlink()
    summary = shard(
        tmp_path,
        images,
        *records,
        split=split,
        held_out=[EvalImage("x", "vg/4")],
        negatives=Negatives(proven=2, unproven=2),
    )
    counts = summary.absent["vg"]
    held_out = int(split == "train")
    assert counts.excluded == held_out
    assert (counts.merged, counts.not_asked_for) == (1, 1)
    assert counts.rejected == 3  # cats, and those of the images 5 and 99
    assert counts.in_shards == 5 - held_out == summary.stats.proven_phrases()
    assert -counts.unaccounted() == sum(len(each.absent) for each in records)
    [row] = [row for row in summary.rejected if row.reason == IS_PRESENT]
    assert (row.record, row.image, row.records) == ("gqa/8", "vg/1", 0)
    by_image: dict[str, list[str]] = {}
    for key, sample in tiny.samples(tmp_path).items():
        by_image[key] = [
            caption["text"][slice(*phrase["span"])]
            for caption in sample["captions"]
            for phrase in caption.get("absent", [])
        ]
        without_sentences = [
            c for c in sample["captions"] if c.get("absent") and not c["provenance"]
        ]
        assert not any(caption["regions"] for caption in without_sentences)
    assert by_image["vg/1"] == ["dog"]
    assert by_image["vg/2"] == ["bus"]
    assert len(by_image["vg/3"]) == 2


def test_rejected_captions_state_what_an_image_shows(tmp_path: Path, images: ImageStore) -> None:
    """Here one with an id that another has, one of no usable box, and a class of too many."""
    box = Region([(0, 3)], (9, 9, 9, 9))
    boxes = [Region([(0, 4)], (1, 1, 9, 9))] * (MAX_CLASS_BOXES + 1)
    lost = [
        caption("1", "a dog"),
        GroundedCaption("bus", [box], [], "vg", "2"),
        GroundedCaption("kite", boxes, [], "vg", "3", of_class=True),
    ]
    stated = [absent(text) for text in ("dog", "bus", "kite", "tree")]
    summary = shard(
        tmp_path,
        images,
        record(1, caption("1"), *lost, absent=stated),
        negatives=Negatives(proven=9),
    )
    assert summary.sources["vg"].rejected == 3
    assert sum(row.reason == IS_PRESENT for row in summary.rejected) == 3
    assert summary.absent == {"vg": Counts(in_shards=1, rejected=3)}


def test_recipe_without_negatives_ignores_what_sources_state(
    tmp_path: Path, images: ImageStore
) -> None:
    plain = shard(tmp_path, images, record(1, caption("1")))
    stated = shard(tmp_path, images, record(1, caption("1"), absent=[absent("dog")]))
    assert stated.entry == plain.entry
    assert (plain.absent, stated.absent) == ({}, {"vg": Counts(not_asked_for=1)})
    assert b"absent" not in as_json({"train": plain.stats})


def test_samples_are_sorted_by_salted_position(tmp_path: Path, images: ImageStore) -> None:
    records = [record(i, caption(str(i))) for i in range(1, 6)]
    summary = shard(tmp_path, images, *records)
    keys = keys_of(tmp_path, summary)
    assert keys == sorted((p.key for p in TABLE), key=lambda k: position(k, ""))
    again = shard(tmp_path, images, *records[::-1])
    assert again.entry == summary.entry
    salted = shard(tmp_path, images, *records, salt="x")
    assert keys_of(tmp_path, salted) == sorted(keys, key=lambda k: position(k, "x"))


def test_entry_describes_the_file(tmp_path: Path, images: ImageStore) -> None:
    summary = shard(tmp_path, images, record(1, caption("1"), caption("2")))
    [path] = (tmp_path / "shards").glob("*.tar")
    assert path.name == summary.entry.file == "train-00000-of-00001.tar"
    assert summary.entry.bytes == path.stat().st_size
    assert summary.entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (summary.entry.images, summary.entry.captions) == (1, 2)  # their boxes are one


def test_sentences_are_combined_only_in_a_split_with_combine(
    tmp_path: Path, images: ImageStore
) -> None:
    sentences = [
        GroundedCaption("a cat", [], [], "vg", "1"),
        GroundedCaption("a dog", [], [], "vg", "2"),
    ]
    assert shard(tmp_path, images, record(1, *sentences)).stats.captions == 1
    assert shard(tmp_path, images, record(1, *sentences), split="val").stats.captions == 2


def test_held_out_images_are_excluded_from_train_only(tmp_path: Path, images: ImageStore) -> None:
    held_out = [EvalImage("refcoco", "vg/1"), EvalImage("gqa", "vg/1")]
    records = [record(1, caption("1"), caption("2")), record(2, caption("3"))]
    summary = shard(tmp_path, images, *records, held_out=held_out)
    assert keys_of(tmp_path, summary) == ["vg/2"]
    assert [(e.eval_set, e.image, e.join, e.captions) for e in summary.excluded] == [
        ("gqa", "vg/1", "id", 2),
        ("refcoco", "vg/1", "id", 2),
    ]
    assert summary.sources["vg"].excluded == 2  # each sentence once, however many sets there are
    val = shard(tmp_path, images, *records, split="val", held_out=held_out)
    assert (len(rows_of(tmp_path, val)), val.excluded) == (2, [])


def test_held_out_image_without_captions_is_not_reported(
    tmp_path: Path, images: ImageStore
) -> None:
    summary = shard(tmp_path, images, record(1), held_out=[EvalImage("refcoco", "vg/1")])
    assert (summary.excluded, rows_of(tmp_path, summary)) == ([], [])


@pytest.mark.parametrize("action", ["report", "exclude"])
def test_near_duplicate_is_reported_or_excluded(
    tmp_path: Path, images: ImageStore, action: Any
) -> None:
    content = tiny.encoded(tiny.drawing(400, 200, hue=1), quality=40)
    hashes = [
        HashedImage(perceptual_hash(content), "flickr30k", "flickr30k/7"),
        HashedImage(perceptual_hash(content) ^ (2**64 - 1), "flickr30k", "flickr30k/8"),
    ]
    summary = shard(
        tmp_path,
        images,
        record(1, caption("1")),
        hashes=hashes,
        near_duplicates=NearDuplicates(action),
    )
    [row] = summary.excluded
    leave_out = action == "exclude"
    assert (row.eval_image, row.join, row.excluded) == ("flickr30k/7", "perceptual hash", leave_out)
    assert len(rows_of(tmp_path, summary)) == (0 if leave_out else 1)
    assert summary.sources["vg"].excluded == (1 if leave_out else 0)


def test_too_long_sentence_is_rejected_if_rules_and_split_say_so(
    tmp_path: Path, images: ImageStore
) -> None:
    captions = [caption("1", "a" * 248), caption("2", "a" * 249), caption("3", "a" * 248 + ".")]
    summary = shard(tmp_path, images, record(1, *captions, caption("4", "b" * 249 + "?")))
    assert [(r.record, r.reason, r.detail) for r in summary.rejected] == [
        ("vg/2", "caption too long", "250 characters"),
        ("vg/4", "caption too long", "250 characters"),
    ]
    assert shard(tmp_path, images, record(1, *captions), split="val").rejected == []
    assert shard(tmp_path, images, record(1, *captions), rules=MDETR).rejected == []


def test_image_without_captions_is_not_written(tmp_path: Path, images: ImageStore) -> None:
    summary = shard(tmp_path, images, record(1, caption("1", "a" * 300)), record(2, caption("2")))
    assert keys_of(tmp_path, summary) == ["vg/2"]
    assert summary.stats.images == 1


def test_missing_image_rejects_all_its_records_in_one_row(
    tmp_path: Path, images: ImageStore
) -> None:
    (tmp_path / "images/1.jpg").unlink()
    summary = shard(
        tmp_path, images, record(1, caption("1"), caption("2")), record(2, caption("3"))
    )
    [row] = summary.rejected
    assert (row.record, row.reason, row.records) == ("vg/1", "image missing", 2)
    assert summary.sources["vg"].rejected == 2


def test_annotation_only_set_opens_no_image(tmp_path: Path) -> None:
    summary = shard(tmp_path, ImageStore({}), record(1, caption("1")), images="none")
    [row] = rows_of(tmp_path, summary)
    assert (row.image_name, row.width, row.height) == ("", tiny.WIDTH, tiny.HEIGHT)


def test_rejected_row_is_reported_at_once(tmp_path: Path, images: ImageStore) -> None:
    """A build can stop in the middle of a shard."""

    class StopError(Exception):
        pass

    def stop(row: Rejected) -> None:
        raise StopError(row.record)

    (tmp_path / "images/1.jpg").unlink()
    registry = ImageRegistry(TABLE, [], True)
    builder = ShardBuilder(RECIPE, str(tmp_path), "train", 0, registry, images, [], stop)
    builder.add([record(1, caption("1"))])
    with pytest.raises(StopError, match="vg/1"):
        builder.write()
    assert not list(tmp_path.glob("*.tar"))
