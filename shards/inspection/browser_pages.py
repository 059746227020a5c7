"""The pages of the browser: a list of images that match a search, and one image."""

from typing import NamedTuple

from schemas import Caption, Sample
from shards.format.manifest import ShardEntry, ShardError
from shards.inspection.address import Address, BadAddressError
from shards.inspection.image_formats import kind_of
from shards.inspection.marked_caption import MarkedCaption, mark
from shards.inspection.recipe import datasets_of_sources
from shards.inspection.search import Filters, Match, Place, Search
from shards.inspection.shared_store import SharedStore
from shards.inspection.templates import render
from shards.reading.reader import MissingImageError
from shards.reading.shard_set import ShardSet

IMAGES = 24  # of a list
LIST_SECONDS, NEIGHBOUR_SECONDS = 1.0, 0.5  # that a search takes before it is offered to go on


class NoSuchPageError(LookupError):
    """There is no such image, or no such page at all."""


class NotAnImageError(ValueError):
    """Bytes that do not begin as an image does that browsers show."""


class Item(NamedTuple):
    """An image of a list, with the first of its captions that match.

    ``image`` is empty where there is no image to show. ``fault`` says what cannot be read of it,
    or of its captions: ``sample`` and ``marked`` are None then.
    """

    url: str
    file: str
    row: int
    image: str
    fault: str
    sample: Sample | None
    captions: int
    marked: MarkedCaption | None


class Told(NamedTuple):
    """A caption of an image's page; ``admitted`` is whether it is one that is searched for."""

    caption: Caption
    marked: MarkedCaption
    admitted: bool


class Link(NamedTuple):
    url: str
    words: str


class BrowserPages:
    """Makes the pages of a shard set as HTML; ``split`` is shown at first, or the set's first one.

    Raises:
        ValueError: there is no such split.
    """

    def __init__(self, shards: ShardSet, split: str | None) -> None:
        self._shards = shards
        self._store = SharedStore(shards)
        self._splits = list(dict.fromkeys(entry.split for entry in shards.shards))
        self.split = split if split is not None else next(iter(self._splits), "")
        shards.shards_of(self.split)

    def list_page(self, address: Address) -> str:
        """Images that match, from some place on or up to it.

        Raises:
            BadAddressError: the set has no such split or place.
            ShardError: the index is damaged.
        """
        filters, backward = address.filters, address.backward
        search = self._search(filters)
        start = address.at or search.beginning
        if address.at is not None and not search.has(start):
            raise BadAddressError(
                f"There is no image {start.row} in a shard {start.shard} of {filters.split}."
            )
        found = search.find(start, IMAGES, LIST_SECONDS, backward=backward)
        before = (found.end or search.beginning) if backward else start
        behind = start if backward else (found.end or search.ending)
        previous = Link("/?" + address.query(before, backward=True), "Previous")
        following = Link("/?" + address.query(behind), "Next")
        if not found.in_time and backward:
            previous = previous._replace(words="Search on")
        elif not found.in_time:
            following = following._replace(words="Search on")
        first, last = search.position(before), search.position(behind)
        return self._render(
            "browse_list.html",
            filters,
            items=[self._item(match, address) for match in found.matches],
            in_time=found.in_time,
            first=first,
            last=last,
            images=search.images,
            previous=previous if first > 0 else None,
            following=following if last < search.images else None,
        )

    def image_page(self, shard: int, row: int, address: Address) -> str:
        """An image with all its captions, and the way to the matches before and behind it.

        Raises:
            NoSuchPageError: there is no such image.
            BadAddressError: the set has no such split.
            ShardError: the index is damaged.
        """
        entry, place = self._entry(shard, row), Place(shard, row)
        address = address._replace(filters=address.filters._replace(split=entry.split))
        admit = address.filters.admit
        image, sample, fault = self._read(place)
        first, last = (row, row + 1) if self._opens(shard) else (0, entry.images)
        return self._render(
            "browse_image.html",
            address.filters,
            entry=entry,
            row=row,
            sample=sample,
            captions=[Told(of, mark(of), admit(of)) for of in sample.captions] if sample else [],
            image=image,
            fault=fault,
            up="/?" + address.query(place),
            previous=self._neighbor(address, Place(shard, first), backward=True),
            following=self._neighbor(address, Place(shard, last), backward=False),
        )

    def image(self, shard: int, row: int) -> tuple[memoryview, str]:
        """The original bytes of an image, and their media type.

        Raises:
            NoSuchPageError: there is no such image.
            MissingImageError: the set has no images.
            NotAnImageError: they are not of a kind that browsers show.
            ShardError: the shard is missing or damaged.
        """
        self._entry(shard, row)
        content = self._store.image(shard, row)
        kind = kind_of(content)
        if kind is None:
            raise NotAnImageError("This is no image that browsers show.")
        return content, kind.media_type

    def _search(self, filters: Filters) -> Search:
        if filters.split not in self._splits:
            splits = ", ".join(self._splits)
            raise BadAddressError(f"There is no split {filters.split[:50]!r}; there are {splits}.")
        return Search(self._store, filters)

    def _entry(self, shard: int, row: int) -> ShardEntry:
        if shard >= len(self._shards.shards) or row >= self._shards.shards[shard].images:
            raise NoSuchPageError(f"There is no image {row} in a shard {shard}.")
        return self._shards.shards[shard]

    def _item(self, match: Match, address: Address) -> Item:
        sample, place = match.sample, match.place
        image, fault = self._image(place) if sample is not None else ("", match.fault)
        return Item(
            f"/image/{place.shard}/{place.row}?{address.query()}",
            self._shards.shards[place.shard].file,
            place.row,
            image,
            fault,
            sample,
            len(match.numbers),
            None if sample is None else mark(sample.captions[match.numbers[0]]),
        )

    def _opens(self, shard: int) -> bool:
        """Whether any image of a shard can be read."""
        try:
            self._store.open(shard)
        except ShardError:  # which the page of each of them says
            return False
        return True

    def _read(self, place: Place) -> tuple[str, Sample | None, str]:
        """The URL of an image, its captions, and what cannot be read of them."""
        image, fault = self._image(place)
        try:
            return image, self._store.sample(*place), fault
        except ShardError as error:
            return image, None, str(error)

    def _image(self, place: Place) -> tuple[str, str]:
        """The URL of an image, which names its shard's content, or why it cannot be shown.

        Both are empty if the set has no images.
        """
        try:
            self.image(*place)
        except MissingImageError:
            return "", ""
        except (ShardError, NotAnImageError) as error:
            return "", str(error)
        return f"/image/{place.shard}/{place.row}?{self._entry(*place).sha256[:16]}", ""

    def _neighbor(self, address: Address, start: Place, *, backward: bool) -> Link | None:
        """The next match, or where to search on for it."""
        search = self._search(address.filters)
        found = search.find(start, 1, NEIGHBOUR_SECONDS, backward=backward)
        if found.matches:
            shard, row = found.matches[0].place
            words = "Previous" if backward else "Next"
            return Link(f"/image/{shard}/{row}?{address.query()}", words)
        if found.end is not None:
            return Link("/?" + address.query(found.end, backward=backward), "Search on")
        return None

    def _render(self, template: str, filters: Filters, **values: object) -> str:
        manifest = self._shards.manifest
        of_sources = datasets_of_sources(manifest.recipe).values()
        names = {name for datasets in of_sources for name in datasets}
        return render(
            template,
            name=manifest.name,
            splits=self._splits,
            datasets=sorted(names | {filters.dataset} - {""}),
            filters=filters,
            **values,
        )
