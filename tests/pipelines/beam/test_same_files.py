"""Images whose raw files are one, byte for byte: the build says so, and `verify` believes it."""

import zlib
from pathlib import Path
from typing import Any

import pytest

from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind, VerificationError
from shards.verification.verify import verify
from tests import tiny
from tests.end_to_end.test_joins import build, manifest, vg
from tests.shards.verification.set_data import SetData


def build_with_one_file_of(root: Path, *ids: int, **tables: Any) -> None:
    """Builds four images of Visual Genome, of which some have the file of the first of ``ids``."""
    source = vg(root, *map(tiny.vg_image, range(1, 5)))
    for id_ in ids:
        tiny.write(root / f"vg/images/{id_}.jpg", tiny.image_file(hue=ids[0]))
    assert build(root, sources={"vg": source}, **tables) == 0


def test_images_with_one_file_are_stated_and_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_with_one_file_of(tmp_path, 2, 3)
    content = (tmp_path / "vg/images/2.jpg").read_bytes()
    crc32 = zlib.crc32(content)
    stated = {"crc32": crc32, "bytes": len(content), "images": 2}
    assert manifest(tmp_path)["same_files"] == [stated]
    [warning] = manifest(tmp_path)["warnings"]
    assert warning.startswith("2 images have a file that another image has, byte for byte")
    assert f"{crc32:08x}" in warning
    assert f"warning: {warning}" in capsys.readouterr().err
    result = verify(ShardSet.open(tmp_path / "shards"), raw=tmp_path)
    assert result.errors.listed == []
    [unchecked] = [check for check in result.not_checked if "vg/2, vg/3" in check]
    assert unchecked.startswith("whether 2 images are different ones")


def test_images_without_a_common_file_are_not_stated(tmp_path: Path) -> None:
    build_with_one_file_of(tmp_path, 1)
    assert manifest(tmp_path)["same_files"] == manifest(tmp_path)["warnings"] == []


def test_image_in_two_evaluation_splits_has_one_file(tmp_path: Path) -> None:
    references = [tiny.reference(1, 1, {i: f"cat {i}"}, s) for i, s in enumerate(["val", "test"])]
    source = tiny.write_coco(
        tmp_path, [tiny.coco_image(1)], [tiny.coco_annotation(1, 1)], references
    )
    splits = {"val": {"shards": 1}, "test": {"shards": 1}}
    assert build(tmp_path, sources={"coco": source}, splits=splits) == 0
    assert manifest(tmp_path)["same_files"] == []


def test_images_without_files_have_none_in_common(tmp_path: Path) -> None:
    build_with_one_file_of(tmp_path, 1, 2, images="none")
    assert manifest(tmp_path)["same_files"] == []


def verified_with(root: Path, to: str, by: str) -> list[VerificationError]:
    """Gives an image the file of another one; returns the errors of the consistent set."""
    data = SetData(root / "shards")
    data.find(to)[1].content = data.find(by)[1].content
    data.write(root / "shards")
    return verify(ShardSet.open(root / "shards")).errors.listed


def test_image_more_with_a_stated_file_is_found(tmp_path: Path) -> None:
    build_with_one_file_of(tmp_path, 2, 3)
    errors = verified_with(tmp_path, "vg/4", by="vg/3")
    assert {error.kind for error in errors} == {ErrorKind.SAME_BYTES}
    named = {error.key for error in errors} | {e.message.rpartition(" ")[2] for e in errors}
    assert named == {"vg/2", "vg/3", "vg/4"}


def test_stated_file_that_one_image_has_is_found(tmp_path: Path) -> None:
    build_with_one_file_of(tmp_path, 2, 3)
    of_image, of_manifest = verified_with(tmp_path, "vg/2", by="vg/1")
    assert of_image.kind is of_manifest.kind is ErrorKind.SAME_BYTES
    assert {of_image.key, of_image.message.rpartition(" ")[2]} == {"vg/1", "vg/2"}
    assert of_manifest.file == "manifest.json"
    assert "2 images have one file" in of_manifest.message
