"""What became of the records of each source, as a manifest counts them."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Records(NamedTuple):
    """The records of a source that were read: those ``kept`` are in the shards."""

    source: str
    read: int
    merged: int
    rejected: int
    excluded: int

    @property
    def kept(self) -> int:
        return self.read - self.merged - self.rejected - self.excluded


KINDS = Records._fields[1:]


def records(sources: Mapping[str, Mapping[str, int]]) -> list[Records]:
    """The records of every source."""
    return [Records(name, *(of.get(kind, 0) for kind in KINDS)) for name, of in sources.items()]


def total(of: Iterable[Records]) -> Records:
    """The sum over sources."""
    rows = list(of)
    return Records("all sources", *(sum(getattr(row, kind) for row in rows) for kind in KINDS))
