"""Rows of Parquet files: the wanted columns, of untrusted files."""

import io
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.io import parquet
from pipelines.io.parquet import read_rows
from pipelines.io.raw_files import RawFileError
from tests import tiny

ROWS = [
    {"a": 7, "texts": ["left man", "café"], "people": [{"name": "x", "tokens": ["x"]}], "b": b"0"},
    {"a": None, "texts": [], "people": None, "b": b"1"},
    {"a": 9, "texts": None, "people": [{"name": None, "tokens": []}], "b": None},
]
READ = [
    {"a": 7, "texts": ["left man", "café"], "people": [{"name": "x"}]},
    {"a": None, "texts": [], "people": None},
    {"a": 9, "texts": None, "people": [{"name": None}]},
]


def encoded(rows: list[dict[str, Any]], **options: Any) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), content, **options)
    return content.getvalue()


@pytest.mark.parametrize("place", ["file", "zip", "remote"])
def test_wanted_columns_are_read(tmp_path: Path, place: str) -> None:
    path = str(tmp_path / "rows.parquet")
    if place == "remote":
        path = "memory://parquet_test/rows.parquet"
        fsspec.filesystem("memory").pipe(path, encoded(ROWS))
    elif place == "zip":
        path = str(tiny.write_zip(tmp_path / "rows.parquet.zip", {"rows.parquet": encoded(ROWS)}))
    else:
        tiny.write(tmp_path / "rows.parquet", encoded(ROWS))
    assert read_rows(path, ("a", "people", "texts", "other"), without=("tokens",)) == READ


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "texts": st.lists(st.sampled_from(["", "cat", "caf\xe9"]), max_size=3),
                "box": st.none() | st.lists(st.floats(allow_nan=False), max_size=4),
            }
        ),
        min_size=1,
        max_size=20,
    ),
    st.booleans(),
)
def test_rows_are_those_of_pyarrow(rows: list[dict[str, Any]], has_dictionary: bool) -> None:
    path = "memory://parquet_test/random.parquet"
    fsspec.filesystem("memory").pipe(path, encoded(rows, use_dictionary=has_dictionary))
    assert read_rows(path, ("texts", "box")) == rows


@pytest.mark.parametrize("content", [b"", b"[]", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tiny.write(tmp_path / "rows.parquet", content)
    with pytest.raises(RawFileError, match=r"rows\.parquet: (expected a Parquet file|empty file)"):
        read_rows(str(path), ("a",))


@pytest.mark.parametrize("position", [0.2, 0.5, 0.9])
def test_damaged_file_is_refused(tmp_path: Path, position: float) -> None:
    content = bytearray(encoded(ROWS * 50, compression="none"))
    start = int(position * len(content))
    content[start : start + 20] = b"\xff" * 20
    path = tiny.write(tmp_path / "rows.parquet", bytes(content))
    try:
        read_rows(str(path), ("a", "texts", "people"))
    except RawFileError as error:
        assert "rows.parquet" in str(error)


def test_text_that_many_rows_share_is_refused_before_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "MAX_WHOLE_FILE_BYTES", 100_000)
    rows = [{"texts": ["x" * 1000] * 4}] * 50
    path = tiny.write(tmp_path / "rows.parquet", encoded(rows[:20]))
    assert read_rows(str(path), ("texts",)) == rows[:20]
    path = tiny.write(tmp_path / "rows.parquet", encoded(rows))
    assert path.stat().st_size < 10_000
    with pytest.raises(RawFileError, match="more than 100000 bytes of text"):
        read_rows(str(path), ("texts",))


def test_too_many_values_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.write(tmp_path / "rows.parquet", encoded([{"a": 1, "c": 2}] * 100))
    monkeypatch.setattr(parquet, "MAX_CONTAINERS", 100)
    assert len(read_rows(str(path), ("a",))) == 100
    with pytest.raises(RawFileError, match=r"200 values in .* expected at most 100"):
        read_rows(str(path), ("a", "c"))
