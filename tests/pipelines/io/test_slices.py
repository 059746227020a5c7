"""Finding and reading slices of raw files."""

import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.io import slices
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import Input, Layout, SliceRange, find_slices, read_slice
from schemas import Rejected
from tests import tiny

reuses_files = settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def slice_contents(
    path: Path, layout: Layout, within: str = ""
) -> tuple[list[bytes], list[Rejected]]:
    """Returns the contents of all slices of a file, and what was rejected."""
    scratch = path.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    items = list(find_slices("vg", 0, Input(str(path), layout, within), str(scratch)))
    slice_ranges = [item for item in items if isinstance(item, SliceRange)]
    rejected = [item for item in items if isinstance(item, Rejected)]
    assert [r.start for r in slice_ranges] == sorted(r.start for r in slice_ranges)
    return [read_slice(r).content for r in slice_ranges], rejected


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
    """Returns JSON with whitespace wherever it is allowed."""

    def space() -> str:
        return "".join(random.choices(" \t\r\n", k=random.choice([0, 0, 0, 1, 3])))

    if isinstance(value, dict):
        return object_of(list(value.items()), random, escape)
    if isinstance(value, list):
        inner = ",".join(space() + spaced(item, random, escape) + space() for item in value)
        return f"[{inner or space()}]"
    return json.dumps(value, ensure_ascii=escape)


def object_of(entries: list[tuple[str, Any]], random: random.Random, escape: bool) -> str:
    """Returns a JSON object of these entries, in which keys may repeat."""

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
    monkeypatch.setattr(slices, "SLICE_BYTES", slice_bytes)
    whole = {"info": {"images": [1]}, "images": elements, "z": []} if within else elements
    path = tiny.write(tmp_path / "list.json", spaced(whole, random, escape).encode())
    contents, rejected = slice_contents(path, "list", "images" if within else "")
    assert [element for content in contents for element in json.loads(content)] == elements
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
    monkeypatch.setattr(slices, "SLICE_BYTES", slice_bytes)
    text = object_of(entries, random, escape)
    if within:
        text = f'{{"first": {{"graphs": 1}}, "graphs" : {text} , "last": [{{}}]}}'
    path = tiny.write(tmp_path / "dict.json", text.encode())
    contents, rejected = slice_contents(path, "dict", "graphs" if within else "")
    entries_read = [
        entry for content in contents for entry in json.loads(content, object_pairs_hook=list)
    ]
    last = dict(entries)
    assert sorted(key for key, _ in entries_read) == sorted(last)
    assert {key: json.dumps(value) for key, value in entries_read} == {
        key: json.dumps(_as_pairs(value)) for key, value in last.items()
    }
    # Each entry that a later one replaced is rejected once.
    assert len(rejected) == len(entries) - len(last)
    assert {r.reason for r in rejected} <= {"duplicate id"}
    assert {r.record for r in rejected} <= set(last)


def _as_pairs(value: Any) -> Any:
    """Returns dicts as the lists of pairs that ``object_pairs_hook=list`` makes of them."""
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
    monkeypatch.setattr(slices, "LINES_PER_SLICE", per_slice)
    text = "\n".join(lines).encode() + b"\n" * ends
    if not text:
        return
    contents, _ = slice_contents(tiny.write(tmp_path / "lines.txt", text), "lines")
    assert b"".join(contents) == text
    assert all(content.endswith(b"\n") for content in contents[:-1])
    assert all(content.count(b"\n") <= per_slice for content in contents)


def test_slices_have_about_the_requested_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "SLICE_BYTES", 1000)
    path = tiny.write_json(tmp_path / "list.json", ["x" * 100] * 1000)
    contents, _ = slice_contents(path, "list")
    assert all(1000 <= len(content) < 1200 for content in contents[:-1])
    # A file with few slices of that size is divided into smaller ones, to balance the workers.
    monkeypatch.setattr(slices, "SLICE_BYTES", 1 << 20)
    contents, _ = slice_contents(path, "list")
    assert 0.8 * slices.SLICES <= len(contents) <= slices.SLICES


def test_layout_file_is_one_slice_without_content(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"  # which is not even opened
    [slice_range] = find_slices("coco", 3, Input(str(path), "file"), str(tmp_path))
    assert isinstance(slice_range, SliceRange)
    assert (slice_range.rank, read_slice(slice_range).content) == (3, b"")


@pytest.mark.parametrize("layout", ["list", "dict"])
def test_empty_list_or_dict_has_no_slices(tmp_path: Path, layout: Layout) -> None:
    content = b" [ ] " if layout == "list" else b"{\n}"
    assert slice_contents(tiny.write(tmp_path / "empty.json", content), layout) == ([], [])


# --- files with the wrong content -----------------------------------------------------------------


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
        (b"[1, Nan]", "list", "", "expected a JSON list.*malformed"),
        (b'{"\xff": 1}', "dict", "", "expected a JSON object.*utf-8"),
    ],
)
def test_wrong_content_is_an_error_that_says_what_was_expected(
    tmp_path: Path, content: bytes, layout: Layout, within: str, message: str
) -> None:
    path = tiny.write(tmp_path / "wrong.json", content)
    with pytest.raises(RawFileError, match=rf"wrong\.json: {message}"):
        slice_contents(path, layout, within)


def test_file_that_shrinks_during_the_build_is_an_error(tmp_path: Path) -> None:
    path = tiny.write_json(tmp_path / "list.json", ["a", "b"])
    *_, slice_range = find_slices("vg", 0, Input(str(path), "list"), str(tmp_path))
    assert isinstance(slice_range, SliceRange)
    path.write_bytes(b"[]")
    with pytest.raises(RawFileError, match="shorter than when its slices were found"):
        read_slice(slice_range)


def test_slices_of_a_zip_are_read_from_its_unpacked_member(tmp_path: Path) -> None:
    path = tmp_path / "list.json.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("list.json", '["a", "b"]')
    contents, _ = slice_contents(path, "list")
    assert [json.loads(content) for content in contents] == [["a"], ["b"]]
