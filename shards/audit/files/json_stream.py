r"""Divides a JSON file into the elements of its lists, block by block, in bounded memory.

Published annotation files have over a gigabyte. Here a file is a list, or an object some of whose
values are lists. The bytes of all elements and of everything else are passed on in their order, so
a file can be written again without some of the elements:

    {"info": {}, "images": [{"id": 1}, {"id": 2}], "licenses": []}
    |--------- Text ------||- Elements "images" -||---- Text ----|

An element begins with the comma before it.
"""

import re
from collections.abc import Generator, Iterator
from typing import BinaryIO, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from shards.audit.files.errors import AuditError

BLOCK_BYTES = 4 << 20
#: Most bytes of one element, which is held in memory.
MAX_ELEMENT_BYTES = 64 << 20
_KEY_BYTES = 4096

_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_SPACE = b" \t\r\n"
_QUOTE, _COMMA = ord('"'), ord(",")
#: For `bytes.translate`, which takes a fifth of the time of an array's index.
_IS_TOKEN = bytes(byte in b'"{}[],' for byte in range(256))
_IS_OPENING = np.zeros(256, np.int64)
_IS_OPENING[[*b"{["]] = 1
_DEPTH_CHANGE = np.zeros(256, np.int64)
_DEPTH_CHANGE[[*b"{["]], _DEPTH_CHANGE[[*b"}]"]] = 1, -1

Positions = npt.NDArray[np.int64]


class Text(NamedTuple):
    """Bytes between the elements of lists."""

    content: bytes


class Elements(NamedTuple):
    """Consecutive elements of the list ``name``, empty for a file that is a list.

    Element i has the bytes [starts[i], starts[i + 1]) of ``content``; ``starts`` ends with the
    length. They include the comma before the element and the spaces around it.
    """

    name: str
    content: bytes
    starts: list[int]

    @property
    def number(self) -> int:
        """The number of elements."""
        return len(self.starts) - 1

    def json(self) -> bytes:
        """Returns the elements as a JSON list."""
        return b"[" + self.content.lstrip(_SPACE + b",") + b"]"

    def element(self, index: int) -> bytes:
        """Returns the bytes of one element."""
        content = self.content[self.starts[index] : self.starts[index + 1]]
        return content.lstrip(_SPACE + b",").rstrip(_SPACE)


class _Token(NamedTuple):
    """A bracket or comma outside of strings; ``depth`` is that of what contains it."""

    position: int
    character: str
    depth: int


def split_json(
    file: BinaryIO, name: str, undivided: frozenset[str] = frozenset()
) -> Iterator[Text | Elements]:
    """Yields the content of a JSON file, whose brackets and strings alone are checked.

    The lists ``undivided`` are text.

    Raises:
        AuditError: It does not begin with a bracket, ends too early, or has more after its end.
    """
    splitter = _Splitter(name, undivided)
    while block := file.read(BLOCK_BYTES):
        yield from splitter.feed(block)
    splitter.finish()


class _Splitter:
    """The state of a scan between two blocks."""

    def __init__(self, name: str, undivided: frozenset[str]) -> None:
        self._file = name
        self._undivided = undivided
        self._scanner = _Scanner()
        self._pending = b""  # what is read, but not yet passed on
        self._list_depth = 0  # of the elements' commas; 0 before the first bracket
        self._list: str | None = None  # the list that `_pending` is in
        self._member = b""  # the beginning of the object's current member, outside of lists
        self._is_complete = False

    def feed(self, block: bytes) -> Iterator[Text | Elements]:
        offset = len(self._pending)
        content = self._pending + block
        if self._is_complete:
            self._check_end(block)
            yield Text(block)
            return
        if not self._list_depth:
            stripped = content.removeprefix(b"\xef\xbb\xbf").lstrip(_SPACE)
            if not stripped:
                self._pending = content
                return
            if stripped[:1] not in (b"{", b"["):
                raise AuditError(f"{self._file} is not JSON of a list or an object")
            self._list_depth = 1 if stripped[:1] == b"[" else 2
        positions, characters, depths = self._scanner.tokens(block)
        positions = positions + offset
        is_separator = (characters == _COMMA) & (depths == self._list_depth)
        separators = positions[is_separator]
        # Brackets that open an element are no marks: a file may have ten million.
        is_mark = ~is_separator & (depths <= self._list_depth - _IS_OPENING[characters])
        marks = zip(
            positions[is_mark].tolist(),
            characters[is_mark].tobytes().decode("ascii"),
            depths[is_mark].tolist(),
            strict=True,
        )
        start = 0
        for mark in map(_Token._make, marks):
            if self._ends_list(mark):
                yield from self._last_elements(content, start, mark.position, separators)
                start, self._list = mark.position, None
            elif self._begins_list(content, start, mark):
                yield Text(content[start : mark.position + 1])
                start = mark.position + 1
            elif mark.character == "," and mark.depth == 1 and self._list is None:
                yield Text(content[start : mark.position + 1])
                start, self._member = mark.position + 1, b""
            if mark.depth == 1 and mark.character in "]}":
                self._is_complete = True
                self._check_end(content[mark.position + 1 :])
                yield Text(content[start:])
                return
        start = yield from self._elements(content, start, separators)
        if self._list is None:
            yield Text(content[start:])
            self._member = (self._member + content[start:])[:_KEY_BYTES]
            start = len(content)
        self._pending = content[start:]
        if len(self._pending) > MAX_ELEMENT_BYTES:
            raise AuditError(
                f"{self._file}: an element has more than {MAX_ELEMENT_BYTES >> 20} MiB"
            )

    def finish(self) -> None:
        if not self._is_complete:
            raise AuditError(f"{self._file} is not JSON: it ends too early")

    def _check_end(self, rest: bytes) -> None:
        if rest.strip(_SPACE):
            raise AuditError(f"{self._file} is not JSON: {rest[:80]!a} follows its end")

    def _begins_list(self, content: bytes, start: int, mark: _Token) -> bool:
        if mark.character != "[" or mark.depth != self._list_depth - 1:
            return False
        self._list = self._key(content[start : mark.position]) if mark.depth else ""
        return True

    def _ends_list(self, mark: _Token) -> bool:
        return self._list is not None and mark.character == "]" and mark.depth == self._list_depth

    def _key(self, before: bytes) -> str:
        """Returns the key of a member, from the bytes between it and the last comma."""
        text = (self._member + before).strip(_SPACE + b"{:\xef\xbb\xbf")
        self._member = b""
        try:
            return msgspec.json.decode(text, type=str)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise AuditError(f"{self._file} is not JSON: {text[:80]!a} before a list") from error

    def _elements(
        self, content: bytes, start: int, separators: Positions
    ) -> Generator[Text | Elements, None, int]:
        """Yields the elements that are complete, and returns the beginning of the next one."""
        if self._list in self._undivided:
            yield Text(content[start:])
            return len(content)
        ends = separators[(separators > start)].tolist() if self._list is not None else []
        if ends:
            assert self._list is not None
            starts = [0, *(end - start for end in ends)]
            yield Elements(self._list, content[start : ends[-1]], starts)
            return int(ends[-1])
        return start

    def _last_elements(
        self, content: bytes, start: int, end: int, separators: Positions
    ) -> Iterator[Text | Elements]:
        assert self._list is not None
        if self._list in self._undivided:
            yield Text(content[start:end])
            return
        inside = separators[(separators > start) & (separators < end)].tolist()
        stop = start + len(content[start:end].rstrip(_SPACE))
        if stop > start:
            starts = [0, *(separator - start for separator in inside), stop - start]
            if not content[start + starts[-2] : stop].strip(_SPACE + b","):
                raise AuditError(f"{self._file} is not JSON: a comma ends a list")
            yield Elements(self._list, content[start:stop], starts)
        if stop < end:
            yield Text(content[stop:end])


class _Scanner:
    """Finds the brackets and commas of JSON that are outside of strings."""

    def __init__(self) -> None:
        self._in_string = self._is_escaped = False
        self._depth = 0

    def tokens(self, block: bytes) -> tuple[Positions, npt.NDArray[np.uint8], Positions]:
        """Returns positions, characters, and depths, of the next block of a file.

        The depth is the number of brackets around the token; the outermost ones have 0 if they
        open and 1 if they close.
        """
        if self._is_escaped:
            block = b"_" + block[1:]
        self._is_escaped = False
        if b"\\" in block:
            block = _ESCAPE.sub(b"__", block)
            self._is_escaped = block.endswith(b"\\")
        positions = np.flatnonzero(np.frombuffer(block.translate(_IS_TOKEN), bool))
        characters = np.frombuffer(block, np.uint8)[positions]
        is_quote = characters == _QUOTE
        is_inside = np.logical_xor(np.bitwise_xor.accumulate(is_quote), self._in_string)
        if len(is_inside):
            self._in_string = bool(is_inside[-1])
        outside = np.flatnonzero(~(is_inside | is_quote))
        positions, characters = positions[outside], characters[outside]
        changes = _DEPTH_CHANGE[characters]
        depths = np.cumsum(changes) + self._depth
        if len(depths):
            self._depth = int(depths[-1])
        return positions, characters, depths - changes
