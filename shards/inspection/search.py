"""Searching the images of a split for captions, some at a time."""

import time
from collections.abc import Iterator
from typing import NamedTuple

from schemas import Caption, Sample
from shards.format.manifest import ShardError
from shards.inspection.shared_store import Row, SharedStore


class Filters(NamedTuple):
    """Which captions are searched for; what is empty or None admits all.

    ``text`` is looked for in any case. ``dataset`` admits captions that a sentence of it is in.
    Bounds are inclusive: of the number of boxes, and of characters.
    """

    split: str
    text: str = ""
    dataset: str = ""
    least_boxes: int | None = None
    most_boxes: int | None = None
    shortest: int | None = None
    longest: int | None = None

    def admit(self, caption: Caption) -> bool:
        return (
            self.text.casefold() in caption.text.casefold()
            and (
                not self.dataset or any(part.dataset == self.dataset for part in caption.provenance)
            )
            and _within(len(caption.regions), self.least_boxes, self.most_boxes)
            and _within(len(caption.text), self.shortest, self.longest)
        )

    def may_admit(self, row: Row) -> bool:
        """False where the index tells already that no caption of an image is admitted."""
        return (
            row.captions > 0
            and (not self.dataset or self.dataset in row.datasets)
            and row.regions >= (self.least_boxes or 0)
        )


class Place(NamedTuple):
    """The image in a row of a shard; as a bound of a search, the gap before it."""

    shard: int
    row: int


class Match(NamedTuple):
    """An image, and the numbers of those of its captions that are admitted.

    Or what cannot be read there, which may be the whole shard: ``fault`` says why, and ``sample``
    is None.
    """

    place: Place
    sample: Sample | None
    numbers: list[int]
    fault: str = ""


class Found(NamedTuple):
    """Matches in the order of the set, and the bounds of what was looked at.

    ``end`` is where to search on, None at the end of the split (or its beginning, backward);
    ``in_time`` is false where the time ended the search, not the number of matches.
    """

    matches: list[Match]
    end: Place | None
    in_time: bool


class Search:
    """Searches a split of a shard set; shards are opened when the index admits an image of them.

    Raises:
        ValueError: the set has no such split.
    """

    def __init__(self, store: SharedStore, filters: Filters) -> None:
        self._store = store
        self._filters = filters
        self._entries = store.shards.shards
        self._shards = store.shards.shards_of(filters.split)
        self.images = sum(self._entries[shard].images for shard in self._shards)

    @property
    def beginning(self) -> Place:
        """The gap before the first image."""
        return Place(self._shards[0] if self._shards else 0, 0)

    @property
    def ending(self) -> Place:
        """The gap behind the last image."""
        last = self._shards[-1] if self._shards else 0
        return Place(last, self._entries[last].images if self._shards else 0)

    def has(self, place: Place) -> bool:
        """Whether a place is one of the split, be it behind the last image of a shard."""
        if place.shard >= len(self._entries):
            return False
        entry = self._entries[place.shard]
        return entry.split == self._filters.split and place.row <= entry.images

    def position(self, place: Place) -> int:
        """How many images of the split's shards that have captions lie before a place."""
        before = sum(self._entries[shard].images for shard in self._shards if shard < place.shard)
        return before + (place.row if place.shard in self._shards else 0)

    def find(self, start: Place, most: int, seconds: float, *, backward: bool = False) -> Found:
        """The ``most`` matches next to ``start``: those behind it, or with ``backward`` before it.

        After so many seconds it ends with what it has; at least one image is looked at. A remote
        shard that is needed is waited for.

        Raises:
            ShardError: the index is damaged.
        """
        deadline = time.monotonic() + seconds
        matches: list[Match] = []
        end, broken = None, None
        for gap, place in self._steps(start, backward):
            late = gap != start and time.monotonic() > deadline
            if late or len(matches) == most:
                end = gap
                break
            if place is None or place.shard == broken:
                continue
            try:
                self._store.open(place.shard)
            except ShardError as error:
                broken = place.shard
                matches.append(Match(place, None, [], str(error)))
            else:
                matches += self._matches(place)
        if backward:
            matches.reverse()
        return Found(matches, end, end is None or len(matches) == most)

    def _steps(self, start: Place, backward: bool) -> Iterator[tuple[Place, Place | None]]:
        """The images that the index admits, each with the gap in front of it as the search goes.

        At the edge of every shard there is a gap with no image.
        """
        for shard in reversed(self._shards) if backward else self._shards:
            images = self._entries[shard].images
            if shard == start.shard:
                first, last = (0, min(start.row, images)) if backward else (start.row, images)
            elif (shard < start.shard) == backward:
                first, last = 0, images
                yield Place(shard, last if backward else first), None
            else:
                continue
            rows = self._store.rows(shard)
            for row in range(last - 1, first - 1, -1) if backward else range(first, last):
                if self._filters.may_admit(rows[row]):
                    yield Place(shard, row + 1 if backward else row), Place(shard, row)

    def _matches(self, place: Place) -> Iterator[Match]:
        """An image, if any of its captions is admitted, or if they are damaged."""
        try:
            sample = self._store.sample(*place)
        except ShardError as error:
            yield Match(place, None, [], str(error))
            return
        numbers = [
            number for number, caption in enumerate(sample.captions) if self._filters.admit(caption)
        ]
        if numbers:
            yield Match(place, sample, numbers)


def _within(n: int, least: int | None, most: int | None) -> bool:
    return (least is None or n >= least) and (most is None or n <= most)
