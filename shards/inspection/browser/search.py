"""Search over the captions of a split: filters, their form in a URL, and the search itself."""

import re
import time
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import parse_qs, urlencode

from schemas import Caption, Sample
from shards.format.manifest import ShardError
from shards.inspection.browser.store import IndexedCaptions, LockedStore


class CaptionFilter(NamedTuple):
    """The criteria of a search; an empty value or None matches all captions.

    ``text`` is matched case-insensitively. ``dataset`` matches captions with a sentence of that
    dataset. Bounds are inclusive: numbers of boxes, and of characters.
    """

    split: str
    text: str = ""
    dataset: str = ""
    min_boxes: int | None = None
    max_boxes: int | None = None
    min_length: int | None = None
    max_length: int | None = None

    def matches(self, caption: Caption) -> bool:
        """Returns whether a caption passes the filter; its split is not checked."""
        return (
            self.text.casefold() in caption.text.casefold()
            and (not self.dataset or any(r.dataset == self.dataset for r in caption.provenance))
            and _in_range(len(caption.regions), self.min_boxes, self.max_boxes)
            and _in_range(len(caption.text), self.min_length, self.max_length)
        )

    def may_match(self, row: IndexedCaptions) -> bool:
        """Returns False if the index alone shows that no caption of an image passes."""
        return (
            row.captions > 0
            and (not self.dataset or self.dataset in row.datasets)
            and row.regions >= (self.min_boxes or 0)
        )


class SamplePosition(NamedTuple):
    """A row of a shard; as the bound of a search, the gap before that row."""

    shard: int
    row: int


class BadQueryError(ValueError):
    """The query of a URL has a value of the wrong form."""


class SearchQuery(NamedTuple):
    """A search as the query of a URL: ``start`` is where it begins, or ends if ``backward``."""

    filters: CaptionFilter
    start: SamplePosition | None = None
    backward: bool = False

    def url_query(self, start: SamplePosition | None = None, *, backward: bool = False) -> str:
        """Returns the query string of the same search from another position."""
        filters = self.filters._asdict().items()
        values = {name: value for name, value in filters if value not in (None, "")}
        if start is not None:
            values["before" if backward else "from"] = f"{start.shard}.{start.row}"
        return urlencode(values)


_BOUNDS = {
    "min_boxes": "minimum number of boxes",
    "max_boxes": "maximum number of boxes",
    "min_length": "minimum number of characters",
    "max_length": "maximum number of characters",
}


def parse_query(query: str, default_split: str) -> SearchQuery:
    """Parses the query string of a URL.

    Raises:
        BadQueryError: a value has the wrong form; the message names it.
    """
    try:
        lists = parse_qs(query, max_num_fields=20, errors="strict")
    except ValueError as error:
        raise BadQueryError(f"The query cannot be parsed: {error}.") from error
    values = {name: last for name, (*_, last) in lists.items()}
    bounds = {name: _parse_bound(values.get(name), label) for name, label in _BOUNDS.items()}
    filters = CaptionFilter(
        split=values.get("split", default_split),
        text=values.get("text", ""),
        dataset=values.get("dataset", ""),
        **bounds,
    )
    backward = "before" in values
    start = values.get("before" if backward else "from")
    return SearchQuery(filters, None if start is None else _parse_position(start), backward)


def _parse_bound(value: str | None, label: str) -> int | None:
    if value is None:
        return None
    if not re.fullmatch("[0-9]{1,9}", value):
        raise BadQueryError(f"The {label} is {value[:50]!r}; expected a whole number.")
    return int(value)


def _parse_position(value: str) -> SamplePosition:
    match = re.fullmatch(r"([0-9]{1,9})\.([0-9]{1,9})", value)
    if match is None:
        raise BadQueryError(f"The position is {value[:50]!r}; expected SHARD.ROW.")
    return SamplePosition(int(match[1]), int(match[2]))


class SearchHit(NamedTuple):
    """An image and the indices of its matching captions.

    If the sample, or its whole shard, cannot be read, ``error`` is the reason and ``sample`` is
    None.
    """

    position: SamplePosition
    sample: Sample | None
    caption_indices: list[int]
    error: str = ""


class SearchResult(NamedTuple):
    """Hits in the order of the set.

    ``end`` is where to continue; None at the end of the split (backward: at its beginning).
    ``timed_out``: whether the time limit ended the search, not the number of hits.
    """

    hits: list[SearchHit]
    end: SamplePosition | None
    timed_out: bool


class Search:
    """Searches a split; a shard is opened only if the index shows that it may have a match.

    Raises:
        ValueError: the set has no such split.
    """

    def __init__(self, store: LockedStore, filters: CaptionFilter) -> None:
        self._store = store
        self._filters = filters
        self._entries = store.shards.shards
        self._shards = store.shards.shards_of(filters.split)
        self.image_count = sum(self._entries[shard].images for shard in self._shards)

    @property
    def beginning(self) -> SamplePosition:
        """The gap before the first image."""
        return SamplePosition(self._shards[0] if self._shards else 0, 0)

    @property
    def ending(self) -> SamplePosition:
        """The gap after the last image."""
        last = self._shards[-1] if self._shards else 0
        return SamplePosition(last, self._entries[last].images if self._shards else 0)

    def contains(self, position: SamplePosition) -> bool:
        """Returns whether a position is in the split; the gap after a shard's last image is."""
        if position.shard >= len(self._entries):
            return False
        entry = self._entries[position.shard]
        return entry.split == self._filters.split and position.row <= entry.images

    def images_before(self, position: SamplePosition) -> int:
        """Returns the number of images of the split before a position."""
        images = sum(self._entries[s].images for s in self._shards if s < position.shard)
        return images + (position.row if position.shard in self._shards else 0)

    def find(
        self, start: SamplePosition, max_hits: int, seconds: float, *, backward: bool = False
    ) -> SearchResult:
        """Returns the hits next to ``start``: after it, or before it if ``backward``.

        After the time limit, it returns the hits so far; at least one image is read. Downloading a
        remote shard is not interrupted.

        Raises:
            ShardError: the index is damaged.
        """
        deadline = time.monotonic() + seconds
        hits: list[SearchHit] = []
        end, unreadable_shard = None, None
        for gap, position in self._candidates(start, backward):
            timed_out = gap != start and time.monotonic() > deadline
            if timed_out or len(hits) == max_hits:
                end = gap
                break
            if position is None or position.shard == unreadable_shard:
                continue
            try:
                self._store.open(position.shard)
            except ShardError as error:
                unreadable_shard = position.shard
                hits.append(SearchHit(position, None, [], str(error)))
            else:
                hits += self._hits(position)
        if backward:
            hits.reverse()
        return SearchResult(hits, end, timed_out=end is not None and len(hits) < max_hits)

    def _candidates(
        self, start: SamplePosition, backward: bool
    ) -> Iterator[tuple[SamplePosition, SamplePosition | None]]:
        """Yields the images that may match, each with the gap before it in search direction.

        At the border of two shards it yields a gap without an image.
        """
        for shard in reversed(self._shards) if backward else self._shards:
            images = self._entries[shard].images
            if shard == start.shard:
                first, last = (0, min(start.row, images)) if backward else (start.row, images)
            elif (shard < start.shard) == backward:
                first, last = 0, images
                yield SamplePosition(shard, last if backward else first), None
            else:
                continue
            rows = self._store.rows(shard)
            for row in range(last - 1, first - 1, -1) if backward else range(first, last):
                if self._filters.may_match(rows[row]):
                    gap = SamplePosition(shard, row + 1 if backward else row)
                    yield gap, SamplePosition(shard, row)

    def _hits(self, position: SamplePosition) -> Iterator[SearchHit]:
        """Yields a hit if a caption of the image matches or the sample is damaged."""
        try:
            sample = self._store.sample(*position)
        except ShardError as error:
            yield SearchHit(position, None, [], str(error))
            return
        indices = [i for i, c in enumerate(sample.captions) if self._filters.matches(c)]
        if indices:
            yield SearchHit(position, sample, indices)


def _in_range(n: int, minimum: int | None, maximum: int | None) -> bool:
    return (minimum is None or n >= minimum) and (maximum is None or n <= maximum)
