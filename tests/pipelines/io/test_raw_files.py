"""Raw files in zips: unpacked, or refused with a message that names the zip."""

import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipelines.io.raw_files import RawFileError, unpack
from tests import tiny


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def unpacked(path: Path) -> bytes:
    """Returns the content of the only file that unpacking a zip leaves."""
    scratch = path.parent / "scratch"
    scratch.mkdir()
    target = Path(unpack(str(path), str(scratch)))
    assert list(scratch.iterdir()) == [target]
    return target.read_bytes()


def test_zip_is_unpacked_below_scratch(tmp_path: Path) -> None:
    members = {"a.json": b'[{"id": 1}]', "README.txt": b"", "__MACOSX/a.json": b"x"}
    assert unpacked(write_zip(tmp_path / "a.json.zip", members)) == b'[{"id": 1}]'


def test_zip_named_without_json_is_searched_for_json(tmp_path: Path) -> None:
    assert unpacked(write_zip(tmp_path / "questions.zip", {"q.json": b'{"a": 1}'})) == b'{"a": 1}'


@pytest.mark.parametrize("members", [{}, {"a.json": b"[]", "b.json": b"[]"}, {"a.txt": b"[]"}])
def test_zip_must_have_exactly_one_member(tmp_path: Path, members: dict[str, bytes]) -> None:
    path = write_zip(tmp_path / "a.json.zip", members)
    number = sum(name.endswith(".json") for name in members)
    with pytest.raises(RawFileError, match=rf"a\.json\.zip: expected one \.json .* found {number}"):
        unpacked(path)


def flip_bits(content: bytes) -> bytes:
    start, stop = len(content) // 3, len(content) // 3 + 40
    return content[:start] + bytes(b ^ 0xFF for b in content[start:stop]) + content[stop:]


@pytest.mark.parametrize(
    "corrupt",
    [lambda c: c[: len(c) // 2], lambda c: c[:10], lambda c: b"", flip_bits, lambda c: b"PK" * 99],
    ids=["half", "ten bytes", "empty", "flipped bits", "no zip"],
)
def test_unreadable_zip_is_an_error(tmp_path: Path, corrupt: Any) -> None:
    noise = json.dumps([random.Random(0).random() for _ in range(500)]).encode()
    content = write_zip(tmp_path / "whole.zip", {"a.json": noise}).read_bytes()
    path = tiny.write(tmp_path / "a.json.zip", corrupt(content))
    with pytest.raises(RawFileError, match=r"a\.json\.zip: not a readable zip file"):
        unpacked(path)


def test_encrypted_zip_is_an_error(tmp_path: Path) -> None:
    content = bytearray(write_zip(tmp_path / "a.zip", {"a.json": b"[1]"}).read_bytes())
    content[6] |= 1  # the flag in the member's own header, and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path = tiny.write(tmp_path / "a.json.zip", bytes(content))
    with pytest.raises(RawFileError, match=r"not a readable zip file: .*encrypted"):
        unpacked(path)
