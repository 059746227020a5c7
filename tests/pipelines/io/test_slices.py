"""Finding and reading slices of raw files."""

import json
import random
import zipfile
from pathlib import Path
from typing import Any, cast

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
        (b"", "jsonl", "", "empty file; expected lines of JSON"),
        (b"", "csv", "", "empty file; expected a table"),
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


# --- files that cost more than they should --------------------------------------------------------


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    for layout, text in (("list", b"[1, 2]"), ("dict", b'{"a": 1}'), ("lines", b"7\r\n8\n")):
        path = tiny.write(tmp_path / layout, b"\xef\xbb\xbf" + text)
        contents, rejected = slice_contents(path, cast(Layout, layout))
        assert rejected == []
        joined = b"".join(contents)
        if layout == "lines":
            assert joined == text
        else:
            assert [json.loads(content) for content in contents]
            assert b"\xef" not in joined
    within = tiny.write(tmp_path / "within", b'\xef\xbb\xbf{"a": [5]}')
    assert slice_contents(within, "list", "a") == ([b"[5]"], [])


def test_too_long_line_is_rejected_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MAX_LINE_BYTES", 10)
    text = b"12345678\n123456789\n1234567890\n1\n" + b"x" * 50
    contents, rejected = slice_contents(tiny.write(tmp_path / "lines.txt", text), "lines")
    assert b"".join(contents) == b"12345678\n123456789\n1\n"
    assert [(r.reason, r.detail) for r in rejected] == [
        ("record too large", "lines.txt: 11 bytes from byte 19"),
        ("record too large", "lines.txt: 50 bytes from byte 32"),
    ]


@given(
    sizes=st.lists(st.integers(1, 30), max_size=12),
    slice_bytes=st.integers(1, 60),
    dict_=st.booleans(),
)
@reuses_files
def test_every_small_element_is_in_a_slice_and_every_large_one_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int], slice_bytes: int, dict_: bool
) -> None:
    monkeypatch.setattr(slices, "SLICE_BYTES", slice_bytes)
    monkeypatch.setattr(slices, "MAX_RECORD_BYTES", 20)
    names = [f"{i}-{'x' * size}" for i, size in enumerate(sizes)]
    path = tiny.write_json(tmp_path / "a.json", dict.fromkeys(names, 1) if dict_ else names)
    contents, rejected = slice_contents(path, "dict" if dict_ else "list")
    read = [element for content in contents for element in json.loads(content)]
    extra = len('"": 1') if dict_ else len('""')
    small = [name for name in names if len(name) + extra <= 20]
    assert read == small
    large = [(i, name) for i, name in enumerate(names) if name not in small]
    assert [r.record for r in rejected] == [name if dict_ else str(i) for i, name in large]


@pytest.mark.parametrize("content", [b"[" * 10**6, b'{"a":' * 10**6, b"[" * 10**6 + b"]" * 10**6])
def test_deep_nesting_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tiny.write(tmp_path / "deep.json", content)
    layout: Layout = "dict" if content.startswith(b"{") else "list"
    with pytest.raises(RawFileError, match=r"deep\.json: expected a JSON"):
        slice_contents(path, layout)


@pytest.mark.parametrize("element", [b"0", b"10", b"[]", b"{}", b'""', b'"["'])
def test_list_of_mere_numbers_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, element: bytes
) -> None:
    monkeypatch.setattr(slices, "FREE_ELEMENTS", 1000)
    monkeypatch.setattr(slices, "_BLOCK_BYTES", 97)
    path = tiny.write(tmp_path / "dense.json", b"[%b]" % b",".join([element] * 5000))
    with pytest.raises(RawFileError, match=r"expected a JSON list of records, found more than"):
        slice_contents(path, "list")
    entries = b",".join(b'"%04d":%b' % (i, element) for i in range(5000))
    path = tiny.write(tmp_path / "dense.json", b"{%b}" % entries)
    with pytest.raises(RawFileError, match=r"expected a JSON object of records, found more than"):
        slice_contents(path, "dict")


def test_records_with_dense_numbers_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "FREE_ELEMENTS", 10)
    monkeypatch.setattr(slices, "_BLOCK_BYTES", 97)
    rows = [{"counts": [i % 10] * 100, "text": 'a "quoted" [word'} for i in range(200)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, separators=(",", ":")))
    contents, rejected = slice_contents(path, "list")
    assert [row for content in contents for row in json.loads(content)] == rows
    assert rejected == []


def test_many_bytes_of_repeated_keys_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MAX_RECORD_BYTES", 100)
    path = tiny.write(tmp_path / "a.json", b'{"a": [%b1], "a": 1}' % (b"[]," * 50))
    with pytest.raises(RawFileError, match=r"from byte 1 to 1\d\d have keys that are repeated"):
        slice_contents(path, "dict")
