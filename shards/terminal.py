"""Text for a terminal: escaped names, counts with a noun, and rows of tables."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from shards.format.exclusion_counts import ExclusionCounts, JoinCounts
from shards.format.source_counts import SourceCounts


def printable(text: str) -> str:
    r"""Returns the text as one line, with control characters escaped as Python escapes them.

    >>> print(printable("a\nb \x1b[1mé"))
    a\nb \x1b[1mé
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def error_text(error: Exception) -> str:
    """Returns the message of an error: for one of the operating system, the file and the reason.

    >>> error_text(FileNotFoundError(2, "No such file or directory", "a.json"))
    'a.json: No such file or directory'
    >>> error_text(ValueError("no split 'dev'"))
    "no split 'dev'"
    """
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def count_noun(count: int, noun: str) -> str:
    """Returns a count with its noun, which gets a plural "s".

    >>> count_noun(1, "shard"), count_noun(2000, "shard")
    ('1 shard', '2,000 shards')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def table_row(label: str, values: Iterable[object], label_width: int) -> str:
    """Returns a line of a table: the label on the left, values right-aligned in 12 columns each."""
    texts = (f"{value:>12,}" if isinstance(value, int) else f"{value!s:>12}" for value in values)
    return f"{label:<{label_width}}" + "".join(texts)


def source_rows(
    heading: str, sources: Mapping[str, SourceCounts], label_width: int
) -> Iterator[str]:
    """Yields the table of ``Manifest.sources``: record counts per source."""
    columns = [*SourceCounts.__struct_fields__, "in shards"]
    yield table_row(heading, columns, label_width)
    for source, counts in sources.items():
        values = [*msgspec.structs.astuple(counts), counts.in_shards]
        yield table_row(source, values, label_width)


def exclusion_rows(
    heading: str, exclusions: Mapping[str, ExclusionCounts], label_width: int
) -> Iterator[str]:
    """Yields the table of ``Manifest.exclusions``: what each names, and excluded by which join."""
    yield table_row(heading, ["names", "excluded", "captions", "by"], label_width)
    for name, counts in exclusions.items():
        excluded = counts.excluded or {"-": JoinCounts()}
        for join, of_join in excluded.items():
            values = table_row(name, [counts.named, of_join.images, of_join.captions], label_width)
            yield f"{values}  {join}"
