"""Addresses of the browser's pages: what is searched for, and where, as the query of a URL."""

import re
from typing import NamedTuple
from urllib.parse import parse_qs, urlencode

from shards.inspection.search import Filters, Place

_NUMBERS = {
    "least_boxes": "the least number of boxes",
    "most_boxes": "the largest number of boxes",
    "shortest": "the least number of characters",
    "longest": "the largest number of characters",
}


class BadAddressError(ValueError):
    """A value of a query that is not what it should be."""


class Address(NamedTuple):
    """What a query says: a list begins ``at`` a place, or ends there if it goes ``backward``."""

    filters: Filters
    at: Place | None = None
    backward: bool = False

    def query(self, at: Place | None = None, *, backward: bool = False) -> str:
        """The query of the same search at another place."""
        given = self.filters._asdict().items()
        values = {name: value for name, value in given if value not in (None, "")}
        if at is not None:
            values["before" if backward else "from"] = f"{at.shard}.{at.row}"
        return urlencode(values)


def parse(query: str, split: str) -> Address:
    """The address that a URL's query tells; ``split`` is that of a query without one.

    Raises:
        BadAddressError: a value is not what it should be; the message says which, and why.
    """
    try:
        given = parse_qs(query, max_num_fields=20, errors="strict")
    except ValueError as error:
        raise BadAddressError(f"The address cannot be read: {error}.") from error
    values = {name: found[-1] for name, found in given.items()}
    numbers = {name: _number(values.get(name), what) for name, what in _NUMBERS.items()}
    filters = Filters(
        split=values.get("split", split),
        text=values.get("text", ""),
        dataset=values.get("dataset", ""),
        **numbers,
    )
    backward = "before" in values
    place = values.get("before" if backward else "from")
    return Address(filters, None if place is None else _place(place), backward)


def _number(value: str | None, what: str) -> int | None:
    if value is None:
        return None
    if not re.fullmatch("[0-9]{1,9}", value):
        raise BadAddressError(f"{what} is {value[:50]!r}, where a whole number is expected.")
    return int(value)


def _place(value: str) -> Place:
    found = re.fullmatch(r"([0-9]{1,9})\.([0-9]{1,9})", value)
    if found is None:
        raise BadAddressError(f"{value[:50]!r} is no place: SHARD.IMAGE is expected.")
    return Place(int(found[1]), int(found[2]))
