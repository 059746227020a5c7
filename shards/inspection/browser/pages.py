"""The HTML pages of the browser: a list of search hits, and one sample with all its captions."""

from typing import NamedTuple

from schemas import Caption, Sample
from shards.format.image_files import without_orientation
from shards.format.licenses import LicenseEntry
from shards.format.manifest import ShardEntry, ShardError
from shards.inspection.browser.search import (
    BadQueryError,
    CaptionFilter,
    SamplePosition,
    Search,
    SearchHit,
    SearchQuery,
)
from shards.inspection.browser.store import LockedStore
from shards.inspection.caption_markup import MarkedCaption, mark_caption
from shards.inspection.images import detect_format
from shards.inspection.recipe import datasets_by_source
from shards.inspection.rendering import render
from shards.reading.reader import MissingImageError
from shards.reading.shard_set import ShardSet

HITS_PER_PAGE = 24
LIST_SECONDS = 1.0  # after which a list page offers to continue the search
NEIGHBOR_SECONDS = 0.5  # the same for the search for the previous and the next hit of a sample page


class NoSuchPageError(LookupError):
    """The URL names no sample, or no page at all."""


class NotAnImageError(ValueError):
    """An image is not in a format that browsers show, according to its first bytes."""


class ListItem(NamedTuple):
    """A hit on a list page, with the first of its ``match_count`` matching captions.

    ``image_url`` is '' without an image. ``error`` states why the image or the sample cannot be
    read; in the latter case, ``sample`` and ``marked`` are None.
    """

    url: str
    file: str
    row: int
    image_url: str
    error: str
    sample: Sample | None
    match_count: int
    marked: MarkedCaption | None


class CaptionRow(NamedTuple):
    """A caption on a sample page; ``matches``: whether the search returns it."""

    caption: Caption
    marked: MarkedCaption
    matches: bool


class Link(NamedTuple):
    """A hyperlink."""

    url: str
    label: str


class BrowserPages:
    """Renders the pages of a shard set; ``split`` is the one to show first, default: the first.

    Raises:
        ValueError: there is no such split.
    """

    def __init__(self, shards: ShardSet, split: str | None) -> None:
        self._shards = shards
        self._store = LockedStore(shards)
        self._splits = list(dict.fromkeys(entry.split for entry in shards.shards))
        self.default_split = split if split is not None else next(iter(self._splits), "")
        shards.shards_of(self.default_split)

    def list_page(self, query: SearchQuery) -> str:
        """Returns the page with the hits after, or before, the query's position.

        Raises:
            BadQueryError: the set has no such split or position.
            ShardError: the index is damaged.
        """
        filters, backward = query.filters, query.backward
        search = self._search(filters)
        start = query.start or search.beginning
        if query.start is not None and not search.contains(start):
            raise BadQueryError(
                f"There is no row {start.row} in a shard {start.shard} of {filters.split}."
            )
        result = search.find(start, HITS_PER_PAGE, LIST_SECONDS, backward=backward)
        begin = (result.end or search.beginning) if backward else start
        end = start if backward else (result.end or search.ending)
        previous = Link("/?" + query.url_query(begin, backward=True), "Previous")
        following = Link("/?" + query.url_query(end), "Next")
        if result.timed_out and backward:
            previous = previous._replace(label="Continue search")
        elif result.timed_out:
            following = following._replace(label="Continue search")
        first, last = search.images_before(begin), search.images_before(end)
        return self._render(
            "browse_list.html",
            filters,
            items=[self._list_item(hit, query) for hit in result.hits],
            timed_out=result.timed_out,
            first=first,
            last=last,
            images=search.image_count,
            previous=previous if first > 0 else None,
            following=following if last < search.image_count else None,
        )

    def sample_page(self, shard: int, row: int, query: SearchQuery) -> str:
        """Returns the page of a sample, with links to the previous and next hits.

        Raises:
            NoSuchPageError: there is no such sample.
            BadQueryError: the set has no such split.
            ShardError: the index is damaged.
        """
        entry, position = self._entry(shard, row), SamplePosition(shard, row)
        query = query._replace(filters=query.filters._replace(split=entry.split))
        origin = self._store.origin(*position)
        image_url, error = self._image_url(position)
        sample: Sample | None = None
        try:
            sample = self._store.sample(*position)
        except ShardError as sample_error:
            error = str(sample_error)
        # A shard that cannot be opened has a single hit in the list, for all of its rows.
        first, last = (row, row + 1) if self._can_open(shard) else (0, entry.images)
        return self._render(
            "browse_sample.html",
            query.filters,
            entry=entry,
            row_number=row,
            sample=sample,
            captions=[
                CaptionRow(caption, mark_caption(caption), query.filters.matches(caption))
                for caption in (sample.captions if sample else [])
            ],
            licenses=self._licenses(origin.licenses),
            url=origin.url,
            image_url=image_url,
            error=error,
            up="/?" + query.url_query(position),
            previous=self._neighbor(query, SamplePosition(shard, first), backward=True),
            following=self._neighbor(query, SamplePosition(shard, last), backward=False),
        )

    def image(self, shard: int, row: int) -> tuple[memoryview, str]:
        """Returns an image file, which browsers show as its pixels are stored, and its media type.

        Raises:
            NoSuchPageError: there is no such sample.
            MissingImageError: the set has no images.
            NotAnImageError: browsers do not show this format.
            ShardError: the shard is missing or damaged.
        """
        self._entry(shard, row)
        content = self._store.image(shard, row)
        image_format = detect_format(content)
        if image_format is None:
            raise NotAnImageError("The file is not an image that browsers show.")
        return memoryview(without_orientation(content)), image_format.media_type

    def _search(self, filters: CaptionFilter) -> Search:
        if filters.split not in self._splits:
            splits = ", ".join(self._splits)
            raise BadQueryError(f"There is no split {filters.split[:50]!r}; there are {splits}.")
        return Search(self._store, filters)

    def _entry(self, shard: int, row: int) -> ShardEntry:
        if shard >= len(self._shards.shards) or row >= self._shards.shards[shard].images:
            raise NoSuchPageError(f"There is no row {row} in a shard {shard}.")
        return self._shards.shards[shard]

    def _list_item(self, hit: SearchHit, query: SearchQuery) -> ListItem:
        sample, position = hit.sample, hit.position
        image_url, error = ("", hit.error) if sample is None else self._image_url(position)
        return ListItem(
            url=f"/sample/{position.shard}/{position.row}?{query.url_query()}",
            file=self._shards.shards[position.shard].file,
            row=position.row,
            image_url=image_url,
            error=error,
            sample=sample,
            match_count=len(hit.caption_indices),
            marked=None
            if sample is None
            else mark_caption(sample.captions[hit.caption_indices[0]]),
        )

    def _licenses(self, ids: list[int]) -> list[LicenseEntry]:
        known = {entry.id: entry for entry in self._shards.manifest.licenses}
        return [
            known.get(id_, LicenseEntry(id_, f"{id_}, which the manifest does not list", ""))
            for id_ in ids
        ]

    def _can_open(self, shard: int) -> bool:
        try:
            self._store.open(shard)
        except ShardError:  # the page of each of its samples shows the error
            return False
        return True

    def _image_url(self, position: SamplePosition) -> tuple[str, str]:
        """Returns the URL of an image and an error message; both are '' if the set has no images.

        The URL contains the shard's hash, so that browsers may cache the image.
        """
        try:
            self.image(*position)
        except MissingImageError:
            return "", ""
        except (ShardError, NotAnImageError) as error:
            return "", str(error)
        digest = self._shards.shards[position.shard].sha256[:16]
        return f"/image/{position.shard}/{position.row}?{digest}", ""

    def _neighbor(
        self, query: SearchQuery, start: SamplePosition, *, backward: bool
    ) -> Link | None:
        """Returns the link to the next hit, or to where the search for it continues."""
        result = self._search(query.filters).find(start, 1, NEIGHBOR_SECONDS, backward=backward)
        if result.hits:
            shard, row = result.hits[0].position
            label = "Previous" if backward else "Next"
            return Link(f"/sample/{shard}/{row}?{query.url_query()}", label)
        if result.end is not None:
            url = "/?" + query.url_query(result.end, backward=backward)
            return Link(url, "Continue search")
        return None

    def _render(self, template: str, filters: CaptionFilter, **values: object) -> str:
        manifest = self._shards.manifest
        datasets = {d for names in datasets_by_source(manifest.recipe).values() for d in names}
        return render(
            template,
            name=manifest.name,
            splits=self._splits,
            datasets=sorted(datasets | {filters.dataset} - {""}),
            filters=filters,
            **values,
        )
