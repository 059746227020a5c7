"""Rows of tables for a terminal."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from shards.format.source_counts import SourceCounts


def row(first: str, cells: Iterable[object], width: int) -> str:
    """A line: a name of that width, and cells at the right of their columns."""
    shown = (f"{cell:>12,}" if isinstance(cell, int) else f"{cell!s:>12}" for cell in cells)
    return f"{first:<{width}}" + "".join(shown)


def records_of_sources(
    heading: str, sources: Mapping[str, SourceCounts], width: int
) -> Iterator[str]:
    """What became of the records of each source, as a manifest counts them."""
    yield row(heading, [*SourceCounts.__struct_fields__, "in shards"], width)
    for source, counts in sources.items():
        yield row(source, [*msgspec.structs.astuple(counts), counts.in_shards], width)
