"""The elements of lists in a JSON file, in whichever blocks the file is read."""

import io
import json
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.audit.files import json_stream
from shards.audit.files.errors import AuditError
from shards.audit.files.json_stream import Elements, split_json

text = st.text(st.sampled_from('a"\\{}[],: \né😀'), max_size=6)
leaves = st.none() | st.booleans() | st.integers() | text
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(text, values, max_size=5) | st.lists(values, max_size=5)


def split(
    content: bytes, block_bytes: int, undivided: frozenset[str] = frozenset()
) -> tuple[bytes, dict[str, list[Any]]]:
    """Returns all bytes in order, and the decoded elements of each list."""
    json_stream.BLOCK_BYTES, before = block_bytes, json_stream.BLOCK_BYTES
    try:
        chunks = list(split_json(io.BytesIO(content), "a.json", undivided))
    finally:
        json_stream.BLOCK_BYTES = before
    lists: dict[str, list[Any]] = defaultdict(list)
    for chunk in chunks:
        if isinstance(chunk, Elements):
            elements = [json.loads(chunk.element(i)) for i in range(chunk.number)]
            assert json.loads(chunk.json()) == elements
            lists[chunk.name] += elements
    return b"".join(chunk.content for chunk in chunks), lists


@given(
    documents,
    st.sampled_from([None, 1]),
    st.booleans(),
    st.integers(1, 40),
    st.frozensets(text, max_size=2),
)
def test_all_elements_and_all_bytes_are_passed_on(
    document: Any,
    indent: int | None,
    is_ascii: bool,
    block_bytes: int,
    undivided: frozenset[str],
) -> None:
    content = json.dumps(document, indent=indent, ensure_ascii=is_ascii).encode()
    joined, lists = split(content, block_bytes, undivided)
    assert joined == content
    by_name = {"": document} if isinstance(document, list) else document
    expected = {k: v for k, v in by_name.items() if isinstance(v, list) and v}
    assert lists == {k: v for k, v in expected.items() if k not in undivided}


@pytest.mark.parametrize("block_bytes", [1, 3, 1000])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": [{"id": 1}', "ends too early"),
        (b'{"images": [{"id": "', "ends too early"),
        (b"", "ends too early"),
        (b"[1, 2", "ends too early"),
        (b"[1, 2] [3]", "follows its end"),
        (b'{"a": 1}\n{"a": 2}', "follows its end"),
        (b"7", "not JSON of a list or an object"),
        (b"[1, 2, ]", "a comma ends a list"),
        (b"{7: [1]}", "before a list"),
    ],
)
def test_what_is_no_json_is_refused(content: bytes, message: str, block_bytes: int) -> None:
    with pytest.raises(AuditError, match=message):
        split(content, block_bytes)


def test_an_element_that_does_not_fit_into_memory_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_stream, "MAX_ELEMENT_BYTES", 1000)
    with pytest.raises(AuditError, match="an element has more than"):
        split(b'{"images": ["' + b"a" * 2000 + b'"]}', 100)
