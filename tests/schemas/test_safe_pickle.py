"""Pickles of untrusted origin: plain data is read, anything else refused."""

import os
import pickle
import pickletools
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import safe_pickle
from schemas.safe_pickle import PickleError

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
plain = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.sets(st.integers())
        | st.frozensets(st.text(max_size=3))
    ),
    max_leaves=20,
)


@given(plain, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_of_every_protocol_is_read(data: object, protocol: int) -> None:
    assert safe_pickle.loads(pickle.dumps(data, protocol)) == data


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\x80\x02U\x05caf\xc3\xa9.", "café"),
        (b"\x80\x02U\x04caf\xe9.", "café"),
        (b"(lp0\nS'man'\np1\na.", ["man"]),
    ],
)
def test_strings_of_python_2_are_read(content: bytes, text: object) -> None:
    assert safe_pickle.loads(content) == text


def test_sets_of_python_2_are_read() -> None:
    content = b"c__builtin__\nset\np0\n((lp1\nI7\natp2\nRp3\n."
    assert safe_pickle.loads(content) == {7}


class _Command:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_command_is_refused_by_name_and_not_run(tmp_path: Path) -> None:
    content = pickle.dumps([_Command(tmp_path / "made")])
    with pytest.raises(PickleError, match=r"refs\.p: .*posix\.mkdir"):
        safe_pickle.loads(content, "refs.p")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (pickle.dumps(Fraction(1, 2)), "fractions.Fraction"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"cbuiltins\ngetattr\n.", "builtins.getattr"),
        (b"\x80\x04\x8c\x08builtins\x8c\x0cset.__base__\x93.", r"builtins\.set\.__base__"),
        (b"Pother\n.", "outside of the file"),
    ],
)
def test_other_types_are_refused_by_name(content: bytes, name: str) -> None:
    with pytest.raises(PickleError, match=name):
        safe_pickle.loads(content)


def test_every_truncation_is_refused_and_names_the_file() -> None:
    content = pickle.dumps([{"ann_id": 1, "sents": ["left man", "é"], "box": (1.5, None)}], 2)
    assert sum(1 for _ in pickletools.genops(content)) > 20
    for length in range(len(content)):
        with pytest.raises(PickleError, match=r"refs\.p: not a pickle"):
            safe_pickle.loads(content[:length], "refs.p")


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        safe_pickle.loads(content)
    except PickleError as error:
        assert "<pickle>" in str(error)


@pytest.mark.parametrize("content", [b"]r\xff\xff\xff\xff.", b"]p99999999999\n."])
def test_memo_number_cannot_allocate_gigabytes(content: bytes) -> None:
    with pytest.raises(PickleError, match="memo number"):
        safe_pickle.loads(content)


def test_pickle_that_repeats_an_object_is_refused_before_it_is_copied() -> None:
    reference = {"ann_id": 1, "sentences": [{"sent": "left dog"}] * 500}
    content = pickle.dumps([reference] * 500)
    assert len(content) < 10_000
    with pytest.raises(PickleError, match=r"refs\.p: .*the same objects again and again"):
        safe_pickle.loads(content, "refs.p")


@pytest.mark.parametrize("depth", [1, 30])
def test_pickle_that_contains_itself_or_doubles_is_refused(depth: int) -> None:
    data: list[object] = []
    inner = data
    for _ in range(depth):
        inner = [inner, inner]
    data += inner if depth == 1 else []
    with pytest.raises(PickleError, match="the same objects again and again"):
        safe_pickle.loads(pickle.dumps(data if depth == 1 else inner))


@given(plain, st.integers(1, 50))
def test_objects_may_be_shared_within_the_bound(data: object, times: int) -> None:
    assert safe_pickle.loads(pickle.dumps([data] * times)) == [data] * times


@pytest.mark.parametrize("empty", [b"]", b"}", b")", b"\x8f"])
def test_pickle_of_many_empty_containers_is_refused_unread(
    monkeypatch: pytest.MonkeyPatch, empty: bytes
) -> None:
    monkeypatch.setattr(safe_pickle, "MAX_CONTAINERS", 1000)
    assert len(safe_pickle.loads(b"\x80\x04](" + empty * 999 + b"e.")) == 999
    with pytest.raises(PickleError, match="1001 lists and dicts, more than 1000"):
        safe_pickle.loads(b"\x80\x04](" + empty * 1000 + b"e.")


def test_published_excerpt_is_read(reference: Path) -> None:
    path = reference / "real/refcoco_excerpt/refs(unc).p"
    (record,) = safe_pickle.loads(path.read_bytes())
    assert record["ann_id"] == 1719310
    assert len(record["sentences"]) == 3
