"""Rows of tables for a terminal."""

from collections.abc import Iterable, Iterator, Mapping


def row(first: str, cells: Iterable[object], width: int) -> str:
    """A line: a name of that width, and cells at the right of their columns."""
    shown = (f"{cell:>12,}" if isinstance(cell, int) else f"{cell!s:>12}" for cell in cells)
    return f"{first:<{width}}" + "".join(shown)


def records_of_sources(
    heading: str, sources: Mapping[str, Mapping[str, int]], width: int
) -> Iterator[str]:
    """What became of the records of each source, as a manifest counts them."""
    kinds = ("read", "merged", "rejected", "excluded")
    yield row(heading, [*kinds, "in shards"], width)
    for name, counts in sources.items():
        records = [counts.get(kind, 0) for kind in kinds]
        yield row(name, [*records, records[0] - sum(records[1:])], width)
