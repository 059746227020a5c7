"""What `mdetr-shards audit` and `identities` refuse: one line each, with exit status 2."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from fractions import Fraction
from pathlib import Path

import pytest

from shards.__main__ import main

GOOD = b'[{"image": "COCO_train2014_000000000139.jpg"}]'
TWO_OF_ONE_ID = json.dumps(
    {
        "images": [
            {"id": 1, "file_name": "000000000139.jpg", "caption": "a"},
            {"id": 1, "file_name": "000000000285.jpg", "caption": "a"},
        ],
        "annotations": [{"id": 1, "image_id": 1}],
    }
).encode()


def _truncated_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("000000000139.jpg")
        info.size = 5000
        tar.addfile(info, io.BytesIO(bytes(5000)))
    return buffer.getvalue()[:3000]


def _zip_of_two() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.json", "[]")
        archive.writestr("b.json", "[]")
    return buffer.getvalue()


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Returns the one line that a refused command prints."""
    assert main([*map(str, arguments)]) == 2
    output, errors = capsys.readouterr()
    assert errors.startswith("mdetr-shards: error: ")
    assert errors.count("\n") == 1, errors
    assert "Traceback" not in output + errors
    return errors


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xd8\xff\xe0", "is a JPEG image"),
        (b"<!DOCTYPE html><html>", "is a page of HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS"),
        (b"\x28\xb5\x2f\xfd..", "is compressed by zstd"),
        (b"PAR1....", "is not a Parquet file"),
        (gzip.compress(GOOD, mtime=0)[:-12], "is damaged"),
        (gzip.compress(gzip.compress(GOOD, mtime=0), mtime=0), "is compressed twice"),
        (b"\x00\x01\x02\x03", "begins with the bytes 00 01 02 03"),
        (b"the cat sat\non the mat\n", "not a list of ids or file names: line 1 is 'the cat sat'"),
        (b"image_id,caption\n1,a cat\n", "not a list of ids or file names"),
        (b'{"images": [{"id": 1, "caption": "a"}', "ends too early"),
        (b'{"images": [{"id": 1, "caption": "a"} {}]}', "is not JSON"),
        (b'{"images": [], "annotations": []}', 'has an empty list "images"'),
        (b'{\n"videos": [1], "annotations": [2]}', "its lists are videos, annotations"),
        (b'[{"id": 1, "name": "cat"}]', "its records state no image; the fields of the first: id"),
        (b'{"text": "a"}\n{"text": "b"}', "its records state no image"),
        (b'{"answers": {"yes": 1}}', "neither a list"),
        (pickle.dumps([1]), "is a pickle, which is read for --against only"),
        (_truncated_tar(), "it ends inside 000000000139.jpg"),
        (_zip_of_two(), "is a zip of 2 files: unpack it"),
        ((b"a.jpg".ljust(257, b"\0") + b"ustar").ljust(700, b"\0"), "is not a tar"),
    ],
)
def test_file_of_no_known_format_is_refused_by_what_it_is(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "ids").write_text("139\n")
    error = refused(capsys, "audit", tmp_path / "file", "--against", f"coco={tmp_path / 'ids'}")
    assert message in error


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e", b"", "is empty"),
        ("e", b"139\n", "state their dataset: NAME=coco:PATH"),
        ("coco", b"img_1.jpg\n", "they cannot be looked for by ids"),
        ("coco", b"[null]", "cannot be read"),
        ("coco", b"[]", "no image that is evaluated on"),
        (
            "refcoco",
            pickle.dumps([{"image_id": 1, "split": "train"}]),
            "no image that is evaluated",
        ),
        ("refcoco", pickle.dumps([Fraction(1, 2)]), "asks for fractions.Fraction"),
        ("refcoco", pickle.dumps({"a": 1}), "expected a pickled list, found dict"),
        ("refcoco", pickle.dumps([{"image_id": 1}])[:-5], "not a pickle, or a truncated one"),
        ("gqa", b'{"07": {"question": "a", "imageId": 7}, "8": 9}', "no JSON of GQA's"),
    ],
)
def test_evaluation_set_of_which_an_image_is_unknown_is_refused(
    name: str, content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_bytes(GOOD)
    (tmp_path / "set").write_bytes(content)
    error = refused(capsys, "audit", tmp_path / "a.json", "--against", f"{name}={tmp_path / 'set'}")
    assert message in error


def test_missing_files_and_wrong_options_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, ids, missing = tmp_path / "a.json", tmp_path / "ids", tmp_path / "missing"
    good.write_bytes(GOOD)
    ids.write_text("139\n")
    against = ["--against", f"coco={ids}"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "both").mkdir()
    for name in ("a.tar", "a.parquet"):
        (tmp_path / "both" / name).touch()
    cases: list[tuple[list[object], str]] = [
        ([missing, *against], f"{missing}: No such file or directory"),
        ([good, "--against", f"coco={missing}"], f"{missing}: No such file or directory"),
        ([good, "--against", str(ids)], "expected NAME=PATH"),
        ([good, "--against", "coco="], "expected NAME=PATH"),
        ([good, *against, "--namespace", "cooc"], "there is no namespace 'cooc'"),
        ([good, *against, "--identities", ids], "is not a Parquet file"),
        ([good, *against, "--output", tmp_path / "leaks.csv"], "ends in .parquet or .json"),
        ([good, *against, "--write", ids], "exists already, and is not overwritten"),
        ([good, *against, "--output", good], "exists already, and is not overwritten"),
        ([good, *against, "--images", tmp_path], "give both"),
        ([good, *against, "--eval-images", missing], "is not a folder of images"),
        ([tmp_path / "empty", *against], "its files: none"),
        ([tmp_path / "both", *against], "has Parquet files and tars"),
        (["ftp://a/b", *against], "ftp://a/b"),
    ]
    for arguments, message in cases:
        assert message in refused(capsys, "audit", *arguments)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(GOOD, mtime=0), "is compressed, so --write cannot keep its form"),
        (TWO_OF_ONE_ID, "several images have the id 1"),
    ],
)
def test_file_that_cannot_be_divided_is_not_written(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "ids").write_text("139\n")
    options = ["--against", f"coco={tmp_path / 'ids'}", "--write", tmp_path / "clean"]
    assert message in refused(capsys, "audit", tmp_path / "file", *options)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "ids"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"image_id": 1, "flickr_id": 99999999999999999999}]', "an id is too large"),
        (b"[1, 2]", "element 0 cannot be read"),
        (b'[{"image_id": -1}]', "element 0: '-1' is not an image id of vg"),
        (b'{"images": [{"id": 1, "file_name": "000000000002.jpg"}]}', "image 1 is the file"),
        (b'{"annotations": [1]}', "neither in COCO's layout"),
        (b"139\n", "is not JSON"),
    ],
)
def test_table_without_ids_is_refused(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table").write_bytes(content)
    output = tmp_path / "identities.parquet"
    assert message in refused(capsys, "identities", tmp_path / "table", "--output", output)
    assert not output.exists()
