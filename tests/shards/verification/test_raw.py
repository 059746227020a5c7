"""``mdetr-shards verify --raw``: what only a comparison with the raw files finds."""

from pathlib import Path
from typing import Any

import pytest

from shards.__main__ import main
from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind
from shards.verification.verify import WITHOUT_RAW, verify
from tests import tiny
from tests.end_to_end.test_joins import build
from tests.shards.verification.damages import RAW_DAMAGES
from tests.shards.verification.set_data import SetData


def test_intact_set_agrees_with_its_raw_files(
    medium_set: Path, medium_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(medium_set), "--raw", str(medium_dataset), "--quiet"]) == 0
    assert "raw files" not in capsys.readouterr().out
    assert main(["verify", str(medium_set), "--quiet"]) == 0
    assert f"not checked: {WITHOUT_RAW[0]}" in capsys.readouterr().out


@pytest.mark.parametrize("name", RAW_DAMAGES)
def test_damage_is_found_by_raw_files_only(
    name: str, medium_set: Path, medium_dataset: Path, tmp_path: Path
) -> None:
    data = SetData(medium_set)
    RAW_DAMAGES[name](data)
    data.write(tmp_path)
    errors = verify(ShardSet.open(tmp_path), raw=medium_dataset).errors
    # A box that is moved may leave room for another sentence, and boxes are counted.
    others = {ErrorKind.JOINABLE, ErrorKind.SOURCES}
    assert ErrorKind.RAW in errors.counts.keys() <= {ErrorKind.RAW, *others}


def test_other_raw_files(medium_set: Path, small_dataset: Path, tmp_path: Path) -> None:
    """Of other images, or none: errors, not a traceback."""
    errors = verify(ShardSet.open(medium_set), raw=small_dataset, num_images=20).errors
    assert errors.counts.keys() == {ErrorKind.RAW}
    errors = verify(ShardSet.open(medium_set), raw=tmp_path, num_images=20).errors
    assert errors.counts.keys() == {ErrorKind.RAW}
    assert any("there is no such file" in error.message for error in errors.listed)


BAD_BOX = [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("annotations", "references", "reason"),
    [
        # An annotation has the number of the lost sentence, but loses no sentence.
        ([tiny.coco_annotation(2, 9, BAD_BOX)], [], "no usable box"),
        # So does the third reference of the file.
        ([], [tiny.reference(9, 1, {5: "a cat"}, "val"), {"sentences": []}], "malformed record"),
        # A second sentence of one id is rejected, which does not explain the loss of the first.
        ([], [tiny.reference(9, 1, {2: "a red cat"}, "val")], "duplicate id"),
        # A sentence of another image is rejected.
        ([], [tiny.reference(10, 3, {7: "a pig"}, "val")], "unknown object"),
    ],
)
def test_rejected_row_explains_the_loss_of_its_own_sentence_only(
    annotations: list[Any], references: list[Any], reason: str, tmp_path: Path
) -> None:
    images = [tiny.coco_image(9), tiny.coco_image(10)]
    usable = [tiny.coco_annotation(1, 9), tiny.coco_annotation(4, 10)]
    sentences = tiny.reference(9, 1, {1: "the cat", 2: "a red cat"}, "val")
    others = tiny.reference(10, 4, {8: "a dog"}, "val")
    source = tiny.write_coco(
        tmp_path, images, [*usable, *annotations], [sentences, *references, others]
    )
    splits = {"val": {"shards": 1}}
    assert build(tmp_path, sources={"coco": source}, splits=splits) == 0
    assert reason in {row.reason for row in tiny.rejected(tmp_path)}
    shards = tmp_path / "shards"
    assert verify(ShardSet.open(shards), raw=tmp_path).errors.listed == []
    data = SetData(shards)
    _, image = data.find("coco/9")
    [lost] = [c for c in image.captions if c["provenance"][0]["record"] == "2"]
    image.captions.remove(lost)
    counts = data.manifest["sources"]["coco"]
    for each in (counts, counts["boxes"]):
        each["read"] -= 1
        each["in_shards"] -= 1
    data.write(shards)
    [error] = verify(ShardSet.open(shards), raw=tmp_path).errors.listed
    assert (error.kind, error.key) == (ErrorKind.RAW, "coco/9")
    assert error.message == "refcoco/2 is in the raw file, not in the sample"


def test_rejected_sentences_of_a_whole_image_are_not_missing(tmp_path: Path) -> None:
    """A file of MDETR states another size of an image of Visual Genome."""
    image = {"dataset_name": "gqa", "file_name": "8.jpg", "original_id": 8, "width": 99}
    row = {"id": 0, "caption": "a cat", "height": tiny.HEIGHT, **image}
    box = {"id": 0, "image_id": 0, "bbox": [1, 2, 30, 40], "tokens_positive": [[2, 5]]}
    tiny.write_json(tmp_path / "m.json", {"images": [row], "annotations": [box]})
    graph = tiny.vg_graph(8, tiny.vg_region(1, "a dog"))
    sources = {
        "vg": tiny.write_vg(tmp_path, [tiny.vg_image(8)], [graph]),
        "mdetr_json": {"files": {"train": ["m.json"]}},
    }
    sources["mdetr_json"]["allow_empty"] = True
    assert build(tmp_path, sources=sources) == 0
    [rejected] = tiny.rejected(tmp_path)
    assert (rejected.record, rejected.reason) == ("vg/8", "image of another size")
    assert verify(ShardSet.open(tmp_path / "shards"), raw=tmp_path).errors.listed == []


@pytest.mark.parametrize("first_split", ["val", "test"])
def test_sentence_with_the_id_of_another_image(first_split: str, tmp_path: Path) -> None:
    """It is rejected, unless the recipe does not ask for the other one."""
    source = tiny.write_coco(
        tmp_path,
        [tiny.coco_image(9), tiny.coco_image(10)],
        [tiny.coco_annotation(9, 9), tiny.coco_annotation(10, 10)],
        [
            tiny.reference(9, 9, {1: "the cat"}, "val"),
            tiny.reference(9, 9, {2: "a red cat"}, first_split),
            tiny.reference(10, 10, {2: "a dog", 3: "the dog"}, "val"),
        ],
    )
    assert build(tmp_path, sources={"coco": source}, splits={"val": {"shards": 1}}) == 0
    rows = [(row.record, row.reason, row.image) for row in tiny.rejected(tmp_path)]
    is_repeated = first_split == "val"
    assert rows == [("refcoco/2", "duplicate id", "coco/10")] * is_repeated
    assert len(tiny.samples(tmp_path)["coco/10"]["captions"]) == 2 - is_repeated
    assert verify(ShardSet.open(tmp_path / "shards"), raw=tmp_path).errors.listed == []
