"""The contents of a shard set, for a terminal."""

from collections.abc import Iterable, Iterator

from shards.contents import Contents, SplitContents

MOST_REASONS = 12

#: The lines about a split, and how the value of each is shown.
MEASURES: list[tuple[str, str, str]] = [
    ("images", "images", ",d"),
    ("captions (pairs)", "captions", ",d"),
    ("sentences", "sentences", ",d"),
    ("regions", "regions", ",d"),
    ("questions", "questions", ",d"),
    ("captions an image", "captions_per_image", ".2f"),
    ("sentences a caption", "sentences_per_caption", ".2f"),
    ("characters a caption", "characters_per_caption", ".1f"),
    ("... of those allowed", "fill", ".1%"),
    ("words a caption", "words_per_caption", ".1f"),
    ("boxes a caption", "boxes_per_caption", ".2f"),
    ("captions without boxes", "captions_without_boxes", ".1%"),
    ("area of a box", "box_area", ".1%"),
    ("width / (width + height)", "box_width", ".1%"),
    ("bytes a pair", "bytes_per_pair", ",.0f"),
]


def table(of: Contents) -> str:
    """Splits side by side, data sets and sources line by line, and what was left out."""
    lines = [*_head(of), "", _row("", of.splits)]
    for name, field, form in MEASURES:
        lines.append(_row(name, (_shown(each, field, form) for each in of.splits.values())))
    for split, contents in of.splits.items():
        columns = ("images", "captions", "sentences", "regions", "questions")
        lines += ["", _row(f"{split}: data set", columns)]
        for dataset, counts in contents.datasets.items():
            lines.append(_row(dataset, (getattr(counts, column) for column in columns)))
    kinds = ("read", "merged", "rejected", "excluded")
    lines += ["", _row("source: records", [*kinds, "in shards"])]
    for source, read in of.sources.items():
        records = [read.get(kind, 0) for kind in kinds]
        lines.append(_row(source, [*records, records[0] - sum(records[1:])]))
    lines += ["", *_left_out(of)]
    return "\n".join(lines)


def comparison(one: Contents, other: Contents) -> str:
    """Two shard sets side by side, a split after the other; a set without it has a dash."""
    lines = []
    for side, of in (("first", one), ("second", other)):
        lines += [f"{side}: {line}" for line in _head(of)]
    for split in dict.fromkeys([*one.splits, *other.splits]):
        pair = one.splits.get(split), other.splits.get(split)
        lines += ["", _row(split, ["first", "second"])]
        for name, field, form in MEASURES:
            lines.append(_row(name, (_shown(of, field, form) for of in pair)))
        datasets = [of.datasets if of else {} for of in pair]
        for dataset in dict.fromkeys([*datasets[0], *datasets[1]]):
            sentences = [of[dataset].sentences if dataset in of else "-" for of in datasets]
            lines.append(_row(f"sentences of {dataset}", sentences))
    return "\n".join(lines)


def _head(of: Contents) -> list[str]:
    size = f"{of.bytes / 1e6:,.1f} MB"
    return [f"{of.name}, recipe {of.recipe_sha256[:12]}, code {of.code_version}, {size}"]


def _shown(of: SplitContents | None, field: str, form: str) -> str:
    value = None if of is None else getattr(of, field)
    return "-" if value is None else format(value, form)


def _left_out(of: Contents) -> Iterator[str]:
    yield _row("excluded from, for, by", ["copies", "captions"], wide=True)
    for row in of.excluded:
        name = f"{row.split}, {row.set}, {row.join}"
        yield _row(name, [row.copies, row.captions], wide=True)
    if not of.excluded:
        yield "none"
    yield ""
    yield _row("rejected", ["records", "faults"], wide=True)
    for reason in of.rejected[:MOST_REASONS]:
        name = f"{reason.source}: {reason.reason}"
        yield _row(name, [reason.records, reason.faults], wide=True)
    if not of.rejected:
        yield "none"
    if len(of.rejected) > MOST_REASONS:
        yield f"and {len(of.rejected) - MOST_REASONS} reasons more: see --json"


def _row(first: str, cells: Iterable[object], wide: bool = False) -> str:
    shown = (f"{cell:>12,}" if isinstance(cell, int) else f"{cell!s:>12}" for cell in cells)
    return f"{first:<{44 if wide else 25}}" + "".join(shown)
