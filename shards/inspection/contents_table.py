"""The contents of a shard set, for a terminal."""

from collections.abc import Iterator

from shards.console.columns import records_of_sources, row
from shards.console.printable import printable
from shards.inspection.contents import Contents, SplitContents

MOST_REASONS = 12
NARROW, WIDE = 25, 44  # of the first column

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
    lines = [_head(of), "", row("", of.splits, NARROW)]
    for name, field, form in MEASURES:
        shown = (_shown(each, field, form) for each in of.splits.values())
        lines.append(row(name, shown, NARROW))
    for split, contents in of.splits.items():
        columns = ("images", "captions", "sentences", "regions", "questions")
        lines += ["", row(f"{split}: data set", columns, NARROW)]
        for dataset, counts in contents.datasets.items():
            cells = (getattr(counts, column) for column in columns)
            lines.append(row(dataset, cells, NARROW))
    lines += ["", *records_of_sources("source: records", of.sources, NARROW)]
    lines += ["", *_left_out(of)]
    return "\n".join(map(printable, lines))


def comparison(one: Contents, other: Contents) -> str:
    """Two shard sets side by side, a split after the other; a set without it has a dash."""
    lines = [f"first: {_head(one)}", f"second: {_head(other)}"]
    for split in dict.fromkeys([*one.splits, *other.splits]):
        pair = one.splits.get(split), other.splits.get(split)
        lines += ["", row(split, ["first", "second"], NARROW)]
        for name, field, form in MEASURES:
            lines.append(row(name, (_shown(of, field, form) for of in pair), NARROW))
        datasets = [of.datasets if of else {} for of in pair]
        for dataset in dict.fromkeys([*datasets[0], *datasets[1]]):
            sentences = [of[dataset].sentences if dataset in of else "-" for of in datasets]
            lines.append(row(f"sentences of {dataset}", sentences, NARROW))
    return "\n".join(map(printable, lines))


def _head(of: Contents) -> str:
    size = f"{of.bytes / 1e6:,.1f} MB"
    return f"{of.name}, recipe {of.recipe_sha256[:12]}, code {of.code_version}, {size}"


def _shown(of: SplitContents | None, field: str, form: str) -> str:
    value = None if of is None else getattr(of, field)
    return "-" if value is None else format(value, form)


def _left_out(of: Contents) -> Iterator[str]:
    yield row("excluded from, for, by", ["images", "captions"], WIDE)
    for left in of.excluded:
        name = f"{left.split}, {left.eval_set}, {left.join}"
        yield row(name, [left.images, left.captions], WIDE)
    if not of.excluded:
        yield "none"
    yield ""
    yield row("rejected", ["records", "faults"], WIDE)
    for reason in of.rejected[:MOST_REASONS]:
        name = f"{reason.source}: {reason.reason}"
        yield row(name, [reason.records, reason.faults], WIDE)
    if not of.rejected:
        yield "none"
    if len(of.rejected) > MOST_REASONS:
        yield f"and {len(of.rejected) - MOST_REASONS} reasons more: see --json"
