"""Cutting raw files into slices, and reading the slices back."""

import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.io import raw_files
from pipelines.io.raw_files import Cut, RawFileError
from pipelines.sources.base import Input, Layout
from schemas import Rejected
from tests import tiny

reuses_files = settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def cut(path: Path, layout: Layout, within: str = "") -> tuple[list[bytes], list[Rejected]]:
    """The contents of all slices of a file, and what was rejected."""
    scratch = path.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    found = list(raw_files.cut("vg", 0, Input(str(path), layout, within), str(scratch)))
    cuts = [item for item in found if isinstance(item, Cut)]
    rejected = [item for item in found if isinstance(item, Rejected)]
    assert [c.start for c in cuts] == sorted(c.start for c in cuts)
    return [raw_files.read(c).content for c in cuts], rejected


# --- every element once ---------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
keys = st.text(st.sampled_from('ab"\\:,{}é\n\u2028😀'), max_size=3)


def spaced(value: Any, random: random.Random, escape: bool) -> str:
    """JSON with white space wherever it may stand."""

    def space() -> str:
        return "".join(random.choices(" \t\r\n", k=random.choice([0, 0, 0, 1, 3])))

    if isinstance(value, dict):
        return object_of(list(value.items()), random, escape)
    if isinstance(value, list):
        inner = ",".join(space() + spaced(item, random, escape) + space() for item in value)
        return f"[{inner or space()}]"
    return json.dumps(value, ensure_ascii=escape)


def object_of(entries: list[tuple[str, Any]], random: random.Random, escape: bool) -> str:
    """A JSON object of these entries, in which keys may repeat."""

    def space() -> str:
        return "".join(random.choices(" \t\r\n", k=random.choice([0, 0, 0, 1, 3])))

    inner = ",".join(
        f"{space()}{json.dumps(key, ensure_ascii=escape)}{space()}:"
        f"{space()}{spaced(item, random, escape)}{space()}"
        for key, item in entries
    )
    return "{" + (inner or space()) + "}"


@given(
    elements=st.lists(values, max_size=8),
    random=st.randoms(use_true_random=False),
    escape=st.booleans(),
    within=st.booleans(),
    slice_bytes=st.integers(1, 60),
)
@reuses_files
def test_list_slices_hold_every_element_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    elements: list[Any],
    random: random.Random,
    escape: bool,
    within: bool,
    slice_bytes: int,
) -> None:
    monkeypatch.setattr(raw_files, "SLICE_BYTES", slice_bytes)
    whole = {"info": {"images": [1]}, "images": elements, "z": []} if within else elements
    path = tiny.write(tmp_path / "list.json", spaced(whole, random, escape).encode())
    slices, rejected = cut(path, "list", "images" if within else "")
    assert [element for content in slices for element in json.loads(content)] == elements
    assert rejected == []


@given(
    entries=st.lists(st.tuples(keys, values), max_size=8),
    random=st.randoms(use_true_random=False),
    escape=st.booleans(),
    within=st.booleans(),
    slice_bytes=st.integers(1, 60),
)
@reuses_files
def test_dict_slices_hold_the_last_entry_of_every_key_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    entries: list[tuple[str, Any]],
    random: random.Random,
    escape: bool,
    within: bool,
    slice_bytes: int,
) -> None:
    monkeypatch.setattr(raw_files, "SLICE_BYTES", slice_bytes)
    text = object_of(entries, random, escape)
    if within:
        text = f'{{"first": {{"graphs": 1}}, "graphs" : {text} , "last": [{{}}]}}'
    path = tiny.write(tmp_path / "dict.json", text.encode())
    slices, rejected = cut(path, "dict", "graphs" if within else "")
    found = [entry for content in slices for entry in json.loads(content, object_pairs_hook=list)]
    last = dict(entries)
    assert sorted(key for key, _ in found) == sorted(last)
    assert {key: json.dumps(value) for key, value in found} == {
        key: json.dumps(_as_pairs(value)) for key, value in last.items()
    }
    # Each entry that a later one replaced is told once.
    assert len(rejected) == len(entries) - len(last)
    assert {r.reason for r in rejected} <= {"duplicate id"}
    assert {r.record for r in rejected} <= set(last)


def _as_pairs(value: Any) -> Any:
    """Dicts as the lists of pairs that ``object_pairs_hook=list`` makes of them."""
    if isinstance(value, dict):
        return [(key, _as_pairs(item)) for key, item in value.items()]
    return [_as_pairs(item) for item in value] if isinstance(value, list) else value


@given(
    lines=st.lists(st.text(st.sampled_from("ab \té"), max_size=5), max_size=20),
    ends=st.booleans(),
    per_slice=st.integers(1, 7),
)
@reuses_files
def test_line_slices_hold_every_line_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], ends: bool, per_slice: int
) -> None:
    monkeypatch.setattr(raw_files, "LINES_PER_SLICE", per_slice)
    content = "\n".join(lines).encode() + b"\n" * ends
    if not content:
        return
    slices, _ = cut(tiny.write(tmp_path / "lines.txt", content), "lines")
    assert b"".join(slices) == content
    assert all(piece.endswith(b"\n") for piece in slices[:-1])
    assert all(piece.count(b"\n") <= per_slice for piece in slices)


def test_slices_are_of_about_the_size_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_files, "SLICE_BYTES", 1000)
    path = tiny.write_json(tmp_path / "list.json", ["x" * 100] * 1000)
    slices, _ = cut(path, "list")
    assert all(1000 <= len(content) < 1200 for content in slices[:-1])
    # Of a file that makes few slices of that size, smaller ones are made for the workers to share.
    monkeypatch.setattr(raw_files, "SLICE_BYTES", 1 << 20)
    slices, _ = cut(path, "list")
    assert 0.8 * raw_files.SLICES <= len(slices) <= raw_files.SLICES


def test_a_file_that_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"  # which is not even opened
    [found] = raw_files.cut("coco", 3, Input(str(path), "file"), str(tmp_path))
    assert isinstance(found, Cut)
    assert (found.rank, raw_files.read(found).content) == (3, b"")


@pytest.mark.parametrize("layout", ["list", "dict"])
def test_a_list_or_dict_of_nothing_has_no_slices(tmp_path: Path, layout: Layout) -> None:
    content = b" [ ] " if layout == "list" else b"{\n}"
    assert cut(tiny.write(tmp_path / "empty.json", content), layout) == ([], [])


# --- zips -----------------------------------------------------------------------------------------


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_zip_is_unpacked_below_scratch(tmp_path: Path) -> None:
    members = {"a.json": b'[{"id": 1}]', "README.txt": b"", "__MACOSX/a.json": b"x"}
    slices, _ = cut(write_zip(tmp_path / "a.json.zip", members), "list")
    assert [json.loads(content) for content in slices] == [[{"id": 1}]]
    assert len(list((tmp_path / "scratch").iterdir())) == 1


def test_a_zip_named_without_json_is_searched_for_json(tmp_path: Path) -> None:
    slices, _ = cut(write_zip(tmp_path / "questions.zip", {"q.json": b'{"a": 1}'}), "dict")
    assert slices == [b'{"a": 1}']


@pytest.mark.parametrize("members", [{}, {"a.json": b"[]", "b.json": b"[]"}, {"a.txt": b"[]"}])
def test_a_zip_must_have_one_member(tmp_path: Path, members: dict[str, bytes]) -> None:
    path = write_zip(tmp_path / "a.json.zip", members)
    found = sum(name.endswith(".json") for name in members)
    with pytest.raises(RawFileError, match=rf"a\.json\.zip: expected one \.json .* found {found}"):
        cut(path, "list")


def corrupt(content: bytes) -> bytes:
    middle = len(content) // 3
    return (
        content[:middle]
        + bytes(b ^ 0xFF for b in content[middle : middle + 40])
        + content[middle + 40 :]
    )


@pytest.mark.parametrize(
    "spoil",
    [lambda c: c[: len(c) // 2], lambda c: c[:10], lambda c: b"", corrupt, lambda c: b"PK" * 99],
    ids=["half", "ten bytes", "empty", "flipped bits", "no zip"],
)
def test_unreadable_zips(tmp_path: Path, spoil: Any) -> None:
    noise = json.dumps([random.Random(0).random() for _ in range(500)]).encode()
    content = write_zip(tmp_path / "whole.zip", {"a.json": noise}).read_bytes()
    path = tiny.write(tmp_path / "a.json.zip", spoil(content))
    with pytest.raises(RawFileError, match=r"a\.json\.zip: not a readable zip file"):
        cut(path, "list")


def test_an_encrypted_zip(tmp_path: Path) -> None:
    content = bytearray(write_zip(tmp_path / "a.zip", {"a.json": b"[1]"}).read_bytes())
    content[6] |= 1  # the flag in the member's own header, and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path = tiny.write(tmp_path / "a.json.zip", bytes(content))
    with pytest.raises(RawFileError, match=r"not a readable zip file: .*encrypted"):
        cut(path, "list")


# --- files that are not what they should be -------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "layout", "within", "message"),
    [
        (b"", "list", "", "empty file; expected a JSON list"),
        (b'[{"a": 1}, {"a"', "list", "", "expected a JSON list.*truncated"),
        (b'{"a": [1, 2], "b": [', "dict", "", "expected a JSON object.*truncated"),
        (b'{"a": 1}', "list", "", "expected a JSON list.*got `object`"),
        (b"[1]", "dict", "", "expected a JSON object.*got `array`"),
        (b"[1]", "list", "images", 'expected a JSON list under the key "images".*got `array`'),
        (b'{"info": 1, "a": []}', "list", "images", '.*the key "images", found the keys a, info'),
        (b"{}", "list", "images", '.*the key "images", found the keys nothing'),
        (b'{"images": {"a": 1}}', "list", "images", "expected a JSON list.*got `object`"),
        (b"[1, 2] trailing", "list", "", "expected a JSON list.*trailing"),
        (b"<html>Not Found</html>", "list", "", "expected a JSON list.*malformed"),
        (b"[1, NaN]", "list", "", "expected a JSON list.*malformed"),
        (b'{"\xff": 1}', "dict", "", "expected a JSON object.*utf-8"),
    ],
)
def test_wrong_content(
    tmp_path: Path, content: bytes, layout: Layout, within: str, message: str
) -> None:
    path = tiny.write(tmp_path / "wrong.json", content)
    with pytest.raises(RawFileError, match=rf"wrong\.json: {message}"):
        cut(path, layout, within)


def test_a_file_that_shrinks_during_the_build(tmp_path: Path) -> None:
    path = tiny.write_json(tmp_path / "list.json", ["a", "b"])
    *_, found = raw_files.cut("vg", 0, Input(str(path), "list"), str(tmp_path))
    assert isinstance(found, Cut)
    path.write_bytes(b"[]")
    with pytest.raises(RawFileError, match="shorter than when it was cut"):
        raw_files.read(found)
