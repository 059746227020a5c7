"""Raw files in archives: found, unpacked, or refused with a message that names the archive."""

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.io import archives
from pipelines.io.archives import check_file, find_in_archives, map_file, read_whole, unpack
from pipelines.io.raw_files import RawFileError
from pipelines.io.tars import index_tar
from tests import tiny


def unpacked(path: Path) -> bytes:
    """Returns the content of the only file that unpacking a zip leaves."""
    scratch = path.parent / "scratch"
    scratch.mkdir()
    target = Path(unpack(str(path), str(scratch)))
    assert list(scratch.iterdir()) == [target]
    return target.read_bytes()


def test_zip_is_unpacked_below_scratch(tmp_path: Path) -> None:
    members = {"a.json": b'[{"id": 1}]', "README.txt": b"", "__MACOSX/a.json": b"x"}
    assert unpacked(tiny.write_zip(tmp_path / "a.json.zip", members)) == b'[{"id": 1}]'


def test_zip_named_without_json_is_searched_for_json(tmp_path: Path) -> None:
    path = tiny.write_zip(tmp_path / "questions.zip", {"q.json": b'{"a": 1}'})
    assert unpacked(path) == b'{"a": 1}'


@pytest.mark.parametrize("members", [{}, {"c.json": b"[]", "b.json": b"[]"}, {"a.txt": b"[]"}])
def test_zip_must_have_exactly_one_member(tmp_path: Path, members: dict[str, bytes]) -> None:
    path = tiny.write_zip(tmp_path / "a.json.zip", members)
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
    content = tiny.write_zip(tmp_path / "whole.zip", {"a.json": noise}).read_bytes()
    path = tiny.write(tmp_path / "a.json.zip", corrupt(content))
    with pytest.raises(RawFileError, match=r"a\.json\.zip: not a readable zip file"):
        unpacked(path)


def test_encrypted_zip_is_an_error(tmp_path: Path) -> None:
    content = bytearray(tiny.write_zip(tmp_path / "a.zip", {"a.json": b"[1]"}).read_bytes())
    content[6] |= 1  # the flag in the member's own header, and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path = tiny.write(tmp_path / "a.json.zip", bytes(content))
    with pytest.raises(RawFileError, match=r"not a readable zip file: .*encrypted"):
        unpacked(path)


# --- paths into zips ------------------------------------------------------------------------------


def test_path_into_a_zip_names_one_of_its_files(tmp_path: Path) -> None:
    path = tiny.write_zip(tmp_path / "all.zip", {"a/x.json": b"[1]", "a/y.json": b"[2]"})
    (tmp_path / "scratch").mkdir()
    for name, content in (("a/x.json", b"[1]"), ("y.json", b"[2]")):  # "a/" is common to all
        inside = f"{path}/{name}"
        check_file(inside)
        assert read_whole(inside, 9) == content
        assert bytes(map_file(inside)) == content
        assert Path(unpack(inside, str(tmp_path / "scratch"))).read_bytes() == content
    with pytest.raises(RawFileError, match=r"all\.zip: there is no a/z\.json in the zip"):
        check_file(f"{path}/a/z.json")
    with pytest.raises(
        RawFileError, match=rf"found 2; the path of one of them is {path}/a/x\.json"
    ):
        check_file(str(path))


def test_file_of_the_zips_own_name_is_meant(tmp_path: Path) -> None:
    members = {"lvis_v1_train.json": b"{}", "license.json": b"[]"}
    path = tiny.write_zip(tmp_path / "lvis_v1_train.json.zip", members)
    assert read_whole(str(path), 9) == b"{}"
    assert read_whole(str(path.rename(tmp_path / "lvis_v1_train.zip")), 9) == b"{}"


def test_plain_file_is_read_and_mapped_in_place(tmp_path: Path) -> None:
    path = str(tiny.write(tmp_path / "a.json", b"[]"))
    assert unpack(path, "nowhere") == path
    assert read_whole(path, 2) == bytes(map_file(path)) == b"[]"
    with pytest.raises(RawFileError, match="more than 1 bytes"):
        read_whole(path, 1)


def test_file_is_found_where_unpacking_would_put_it(tmp_path: Path) -> None:
    top = str(tmp_path)
    annotations = {"annotations/train.json": b"", "annotations/val.json": b""}
    tiny.write_zip(tmp_path / "coco/annotations_trainval.zip", annotations)
    tiny.write_zip(tmp_path / "gqa/questions1.2.zip", {"train.json": b"", "readme.txt": b""})
    tiny.write_zip(tmp_path / "wrapped/x.zip", {"x/y/train.json": b"", "x/y/val.json": b""})
    tiny.write_zip(tmp_path / "clevr/x.zip", {"x/y/train.json": b"", "__MACOSX/x/y/._a": b""})
    tiny.write(tmp_path / "gqa/broken.zip", b"no zip")
    expected = {
        "coco/annotations/train.json": ["coco/annotations_trainval.zip/annotations/train.json"],
        "coco/annotations": ["coco/annotations_trainval.zip/annotations"],
        "coco/train.json": [],
        "coco/other/train.json": [],
        "gqa/train.json": ["gqa/questions1.2.zip/train.json"],
        "gqa/sub/train.json": [],
        "wrapped/val.json": [],  # as zips of other datasets may have a file of this name
        "clevr/y/train.json": ["clevr/x.zip/x/y/train.json"],  # the folder has the zip's name
        "clevr/y": ["clevr/x.zip/x/y"],
        "clevr/train.json": [],
    }
    prefix = f"{tmp_path}/"
    for path, places in expected.items():
        assert [
            p.removeprefix(prefix) for p in find_in_archives(prefix + path, top).places
        ] == places
    top = f"{tmp_path}/coco/annotations"
    assert find_in_archives(f"{tmp_path}/coco/annotations/train.json", top).places == []


@given(st.binary(max_size=20), st.integers(1, 5), st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_damaged_directory_is_an_error(noise: bytes, times: int, place: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = tiny.write_zip(Path(folder) / "a.zip", {f"{i}.json": b"[]" for i in range(times)})
        content = bytearray(path.read_bytes())
        place %= len(content)
        content[place : place + len(noise)] = noise
        path.write_bytes(content)
        try:
            read_whole(f"{path}/0.json", 100)
        except RawFileError as error:
            assert "a.zip" in str(error)


def test_remote_tar_is_searched_only_if_no_zip_has_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it has to be read; a URL of a local file is a remote path."""
    tiny.write_zip(tmp_path / "a.zip", {"x/1.json": b""})
    tiny.write_tar(tmp_path / "b.tar", {"x/1.json": b"", "x/2.json": b""})
    indexed: list[str] = []
    monkeypatch.setattr(
        archives, "index_tar", lambda path, file: indexed.append(path) or index_tar(path, file)
    )
    top = f"file://{tmp_path}"
    assert find_in_archives(f"{top}/x/1.json", top).places == [f"{top}/a.zip/x/1.json"]
    assert not indexed
    assert find_in_archives(f"{top}/x/2.json", top).places == [f"{top}/b.tar/x/2.json"]
    assert indexed == [f"{top}/b.tar"]
    places = find_in_archives(f"{tmp_path}/x/1.json", str(tmp_path)).places
    assert places == [f"{tmp_path}/a.zip/x/1.json", f"{tmp_path}/b.tar/x/1.json"]


# --- archives in archives -------------------------------------------------------------------------


def write(path: Path, members: dict[str, bytes]) -> Path:
    return (tiny.write_zip if path.suffix == ".zip" else tiny.write_tar)(path, members)


@pytest.mark.parametrize("outer", [".zip", ".tar"])
@pytest.mark.parametrize("inner", [".zip", ".tar"])
@pytest.mark.parametrize("url", ["", "file://"])
def test_path_may_lead_into_an_archive_in_another_one(
    tmp_path: Path, outer: str, inner: str, url: str
) -> None:
    content = write(tmp_path / f"in{inner}", {"b/x.json": b"[1]", "b/y.json": b"[2]"}).read_bytes()
    single = write(tmp_path / f"z.json{inner}", {"z.json": b"[3]"}).read_bytes()
    members = {f"a/in{inner}": content, f"a/z.json{inner}": single, "a/c.zip/d.json": b"[4]"}
    path = f"{url}{write(tmp_path / f'out{outer}', members)}"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    expected = {
        f"a/in{inner}/b/x.json": b"[1]",
        f"in{inner}/y.json": b"[2]",
        f"a/z.json{inner}": b"[3]",
        "a/c.zip/d.json": b"[4]",  # a folder whose name ends as that of a zip
    }
    for inside, json_ in expected.items():
        check_file(f"{path}/{inside}")
        assert read_whole(f"{path}/{inside}", 9) == json_
        assert Path(unpack(f"{path}/{inside}", str(scratch))).read_bytes() == json_
        prepared = archives.prepared_path(f"{path}/{inside}", str(scratch))
        assert read_whole(prepared, 9) == json_
        assert archives.file_name(prepared) == archives.file_name(inside)
    with pytest.raises(RawFileError, match=rf"a/in{inner}: there is no q\.json in the"):
        check_file(f"{path}/a/in{inner}/q.json")


def test_damaged_or_huge_archive_in_another_one_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {"bad.zip": b"no zip", "huge.zip": bytes(10**6)}
    path = tiny.write_zip(tmp_path / "out.zip", members)
    with pytest.raises(RawFileError, match=r"out\.zip/bad\.zip: not a readable zip file"):
        check_file(f"{path}/bad.zip/x.json")
    monkeypatch.setattr(archives, "FREE_UNPACKED_BYTES", 1000)
    with pytest.raises(RawFileError, match=r"out\.zip/huge\.zip: 1000000 bytes in \d+ packed"):
        check_file(f"{path}/huge.zip/x.json")


# --- zips that fill the disk ----------------------------------------------------------------------


def test_member_far_larger_than_its_packed_bytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "FREE_UNPACKED_BYTES", 1000)
    bomb = tiny.write_zip(tmp_path / "bomb.json.zip", {"bomb.json": b"[" + b" " * 10**6 + b"]"})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(RawFileError, match=r"bomb\.json\.zip: 1000002 bytes in \d+ packed"):
        unpack(str(bomb), str(scratch))
    with pytest.raises(RawFileError, match="expected at most 200 times"):
        read_whole(str(bomb), 10**9)
    assert not list(scratch.iterdir())
    rows = [{"image_id": i, "phrase": "a cat on a mat"} for i in range(10_000)]
    text = json.dumps(rows).encode()
    unpacked_path = unpack(
        str(tiny.write_zip(tmp_path / "rows.json.zip", {"rows.json": text})), str(scratch)
    )
    assert Path(unpacked_path).read_bytes() == text


def test_member_larger_than_the_free_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.write_zip(tmp_path / "a.json.zip", {"a.json": b"[1, 2, 3]"})
    monkeypatch.setattr(archives, "free_bytes", lambda folder: 8)
    with pytest.raises(RawFileError, match=r"takes 9 bytes unpacked, but .* has 8 bytes free"):
        unpack(str(path), str(tmp_path))
