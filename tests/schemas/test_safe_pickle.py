"""Pickles of untrusted origin: plain data is read, anything else refused."""

import contextlib
import os
import pickle
import pickletools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
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


# --- scalars of numpy -----------------------------------------------------------------------------

scalar_types = st.sampled_from(
    [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
)
scalars = st.one_of(
    scalar_types.flatmap(lambda t: st.integers(int(np.iinfo(t).min), int(np.iinfo(t).max)).map(t)),
    st.floats(allow_nan=False).map(np.float64),
    st.floats(allow_nan=False, width=32).map(np.float32),
    st.booleans().map(np.bool_),
)


@given(st.lists(scalars), st.integers(0, pickle.HIGHEST_PROTOCOL), st.booleans())
def test_numpy_scalars_are_read_as_numbers(
    values: list[np.generic], protocol: int, is_old: bool
) -> None:
    content = pickle.dumps({"ids": values, "box": tuple(values)}, protocol)
    if is_old and protocol in (2, 3):  # whose names have no length that would have to fit
        content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    plain = [value.item() for value in values]
    read = safe_pickle.loads(content)
    assert read == {"ids": plain, "box": tuple(plain)}
    assert {type(value) for value in read["ids"]} <= {int, float, bool}


def test_numpy_scalars_of_python_2_and_big_endian_are_read() -> None:
    head = b"cnumpy.core.multiarray\nscalar\np0\n(cnumpy\ndtype\np1\n(S'i8'\nI0\nI1\ntRp2\n(I3\nS'"
    tail = b"'\nNNNI-1\nI-1\nI0\ntbS'"
    little = b"\\x07\\x01\\x00\\x00\\x00\\x00\\x00\\x00"
    assert safe_pickle.loads(head + b"<" + tail + little + b"'\ntR.") == 0x107
    big = b"\\x00\\x00\\x00\\x00\\x00\\x00\\x01\\x07"
    assert safe_pickle.loads(head + b">" + tail + big + b"'\ntR.") == 0x107
    assert safe_pickle.loads(pickle.dumps(np.dtype(">i4").type(7), 2)) == 7


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.array([1, 2]), "_reconstruct"),
        (np.array([_Command(Path("made"))], object), "_reconstruct"),
        (np.datetime64("2020-01-01"), "numpy's type 'M8'"),
        (np.str_("a"), "numpy's type 'U1'"),
        (np.complex128(1), "numpy's type 'c16'"),
        (np.void(b"abc"), "numpy's type 'V3'"),
    ],
)
def test_other_types_of_numpy_are_refused_by_name(value: object, name: str) -> None:
    with pytest.raises(PickleError, match=name):
        safe_pickle.loads(pickle.dumps([value]), "refs.p")


@pytest.mark.parametrize(
    "content",
    [
        # A scalar of too few and of too many bytes, of no type, and of an object's type.
        *(
            b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'i8'\ntRS'%b'\ntR." % raw
            for raw in (b"", b"1234567", b"12345678" * 2)
        ),
        b"cnumpy.core.multiarray\nscalar\n(S'i8'\nS'12345678'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\ntRS'12345678'\ntR.",
        b"c_codecs\nencode\n(S'a'\nS'rot13'\ntR.",
        b"c_codecs\ndecode\n(S'a'\nS'latin1'\ntR.",
    ],
)
def test_scalars_that_are_no_numbers_are_refused(content: bytes) -> None:
    with pytest.raises(PickleError):
        safe_pickle.loads(content)


NAMED = [
    *(b"numpy\ndtype", b"numpy.core.multiarray\nscalar", b"numpy._core.multiarray\nscalar"),
    *(b"_codecs\nencode", b"builtins\nset", b"builtins\nfrozenset", b"__builtin__\nset"),
]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize(
    "content", [b"c%b\n.", b"(c%b\nl.", b"(c%b\nI1\nd.", b"(I1\nc%b\nd.", b"(c%b\ntt."]
)
def test_function_is_never_returned(name: bytes, content: bytes) -> None:
    with pytest.raises(PickleError):
        safe_pickle.loads(content % name)


def test_number_type_is_never_returned() -> None:
    with pytest.raises(PickleError, match="function as data"):
        safe_pickle.loads(b"cnumpy\ndtype\n(S'i8'\ntR.")


@pytest.mark.parametrize("code", ["S8", "i4,i4", "O", "V8", "i8"])
def test_scalar_of_a_type_that_a_pickle_makes_up_is_refused(code: str) -> None:
    """BUILD sets the attribute ``code`` of a function, which is then passed for a type."""
    for name in NAMED:
        content = (
            b"cnumpy.core.multiarray\nscalar\n(c%b\n(N}S'code'\nS'%b'\nstbS'12345678'\ntR."
        ) % (name, code.encode())
        with pytest.raises(PickleError, match="a change of a function"):
            safe_pickle.loads(content)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("state", [b"}", b"N", b"(NNt", b"(N}S'x'\nI1\nst", b"}S'x'\nI1\ns"])
def test_build_of_a_function_is_refused(name: bytes, state: bytes) -> None:
    content = b"(c%b\n%bb0I1\n." % (name, state)
    with pytest.raises(PickleError, match="a change of a function"):
        safe_pickle.loads(content)


@pytest.mark.parametrize(
    "name", [b"numpy\ndtype", b"numpy.core.multiarray\nscalar", b"_codecs\nencode"]
)
def test_pickle_cannot_change_what_reads_the_next_one(name: bytes) -> None:
    for state in ("__defaults__", "__call__", "__setstate__", "code"):
        content = b"c" + name + b"\n(N}S'%b'\n(I1\ntstb." % state.encode()
        with contextlib.suppress(PickleError):
            safe_pickle.loads(content)
        assert safe_pickle.loads(pickle.dumps([np.int64(5)], 2)) == [5]


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


def assert_plain(data: object) -> None:
    kinds = (list, tuple, set, frozenset)
    if isinstance(data, dict):
        data = [*data.keys(), *data.values()]
    if isinstance(data, kinds):
        for item in data:
            assert_plain(item)
    else:
        assert type(data) in {type(None), bool, int, float, str, bytes, bytearray}


operations = st.one_of(
    st.sampled_from([b"c%b\n" % name for name in NAMED]),
    st.sampled_from([b"S'i8'\n", b"S'S8'\n", b"S'code'\n", b"S'latin1'\n", b"S'12345678'\n"]),
    st.sampled_from([b"I1\n", b"I01\n", b"F1.5\n", b"N", b"]", b"}", b")", b"(", b"\x8f"]),
    # Those that take from the stack, and those that change or call what is on it.
    st.sampled_from([b"t", b"l", b"d", b"a", b"e", b"s", b"u", b"0", b"1", b"2", b"\x85", b"\x86"]),
    st.sampled_from([b"R", b"b", b"o", b"\x81", b"\x90", b"\x91", b"\x94", b"h\0", b"h\1"]),
)


@settings(max_examples=1500)
@given(st.lists(operations, max_size=14))
def test_arbitrary_programs_give_plain_data_or_are_refused(program: list[bytes]) -> None:
    with contextlib.suppress(PickleError):
        assert_plain(safe_pickle.loads(b"".join([*program, b"."])))
    assert safe_pickle.loads(pickle.dumps([np.int64(5), {6}], 2)) == [5, {6}]


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
