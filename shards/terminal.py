"""Text for a terminal: escaped names, counts with a noun, and rows of tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from shards.format.exclusion_counts import ExclusionCounts, JoinCounts
from shards.format.source_counts import Counts, SourceCounts

_COUNT_LABELS = {"in_shards": "in shards", "not_asked_for": "not asked"}


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
    """Returns a count with its noun, in the plural if it is not 1.

    >>> count_noun(1, "shard"), count_noun(2000, "shard"), count_noun(0, "box")
    ('1 shard', '2,000 shards', '0 boxes')
    """
    if count == 1:
        return f"{count:,} {noun}"
    return f"{count:,} {noun}{'es' if noun.endswith('x') else 's'}"


def listed(names: Sequence[str], at_most: int = 5) -> str:
    """Returns the first of several names, and how many more there are.

    >>> listed(["a", "b"]), listed(["a", "b", "c", "d"], 2)
    ('a, b', 'a, b and 2 more')
    """
    more = len(names) - at_most
    return ", ".join(names[:at_most]) + (f" and {more:,} more" if more > 0 else "")


def table_row(label: str, values: Iterable[object], label_width: int) -> str:
    """Returns a line of a table: the label on the left, values right-aligned in 12 columns each."""
    texts = (f"{value:>12,}" if isinstance(value, int) else f"{value!s:>12}" for value in values)
    return f"{label:<{label_width}}" + "".join(texts)


def source_rows(
    heading: str, sources: Mapping[str, SourceCounts], label_width: int
) -> Iterator[str]:
    """Yields the tables of ``Manifest.sources``: counts of captions and of boxes per source."""
    columns = [_COUNT_LABELS.get(name, name) for name in Counts.__struct_fields__]
    counts: dict[str, dict[str, Counts]] = {
        "captions": dict(sources),
        "boxes": {source: source_counts.boxes for source, source_counts in sources.items()},
    }
    for noun, by_source in counts.items():
        yield table_row(f"{heading}: {noun}", columns, label_width)
        for source, of_source in by_source.items():
            values = [getattr(of_source, name) for name in Counts.__struct_fields__]
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
