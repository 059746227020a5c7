"""The record counts of each source of a build, as in the manifest."""

from collections.abc import Iterable

import msgspec


class SourceCounts(msgspec.Struct):
    """Counts of a source's records; those not merged, rejected or excluded are in the shards."""

    read: int = 0
    merged: int = 0  # into the caption of another record
    rejected: int = 0
    excluded: int = 0

    @property
    def in_shards(self) -> int:
        """The records that are sentences of the shards' captions."""
        return self.read - self.merged - self.rejected - self.excluded


def total(counts: Iterable[SourceCounts]) -> SourceCounts:
    """Returns the sum over sources, or over shards.

    >>> total([SourceCounts(read=5, merged=1), SourceCounts(read=2)])
    SourceCounts(read=7, merged=1, rejected=0, excluded=0)
    """
    rows = list(counts)
    names = SourceCounts.__struct_fields__
    return SourceCounts(**{name: sum(getattr(row, name) for row in rows) for name in names})
