"""A flow (Sankey) diagram, drawn to scale: raw captions, their outcomes, splits, captions."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from shards.format.source_counts import SourceCounts, total
from shards.inspection.summary import SplitSummary

WIDTH = 1060
BAR_WIDTH = 14
SOURCES_X, OUTCOMES_X, SPLITS_X, CAPTIONS_X = 150, 420, 690, 890  # left edges of the bars
COLUMN_TITLES = {
    SOURCES_X: "captions read",
    OUTCOMES_X: "outcome",
    SPLITS_X: "sentences by split",
    CAPTIONS_X: "captions (pairs)",
}
RECORDS_HEIGHT = 340  # of all records that were read
GAP = 40
TOP = 44

#: The label of each outcome of a raw caption, by its field of `SourceCounts`.
OUTCOMES = {
    "in_shards": "in the shards",
    "excluded": "excluded",
    "merged": "merged into another",
    "rejected": "rejected",
    "not_asked_for": "not asked for",
}


class FlowBar(NamedTuple):
    """A bar whose height is in proportion to ``total``, in a column from 0 to 3."""

    name: str
    total: int
    column: int
    x: float
    y: float
    height: float


class FlowBand(NamedTuple):
    """The band between two bars: the ``d`` of an SVG path, and its tooltip.

    ``color`` is the index of its source; None after the second column.
    """

    path: str
    title: str
    color: int | None


class FlowDiagram(NamedTuple):
    """The bars and bands of a diagram ``WIDTH`` wide."""

    height: float
    bars: list[FlowBar]
    bands: list[FlowBand]


def flow_diagram(
    sources: Mapping[str, SourceCounts], splits: Mapping[str, SplitSummary]
) -> FlowDiagram | None:
    """Returns the diagram of a shard set's records, or None if no record was read."""
    all_sources = total(sources.values())
    if not all_sources.read:
        return None
    scale = RECORDS_HEIGHT / all_sources.read
    outcome_counts = {f: getattr(all_sources, f) for f in OUTCOMES if getattr(all_sources, f)}
    records_read = {source: counts.read for source, counts in sources.items()}
    source_bars = _column(0, SOURCES_X, records_read, scale)
    outcome_bars = dict(
        zip(
            outcome_counts,
            _column(1, OUTCOMES_X, {OUTCOMES[f]: n for f, n in outcome_counts.items()}, scale),
            strict=True,
        )
    )
    split_bars = _column(2, SPLITS_X, {s: split.sentences for s, split in splits.items()}, scale)
    caption_bars = [
        _caption_bar(bar, split.captions, scale)
        for bar, split in zip(split_bars, splits.values(), strict=True)
    ]
    bars = [*source_bars, *outcome_bars.values(), *split_bars, *caption_bars]
    bands = [
        *_bands_to_outcomes(sources, source_bars, outcome_bars, scale),
        *_bands_to_splits(outcome_bars.get("in_shards"), split_bars),
        *map(_band_to_captions, split_bars, caption_bars),
    ]
    return FlowDiagram(max(bar.y + bar.height for bar in bars) + GAP / 2, bars, bands)


def _column(column: int, x: float, counts: Mapping[str, int], scale: float) -> list[FlowBar]:
    bars, y = [], float(TOP)
    for name, count in counts.items():
        bars.append(FlowBar(name, count, column=column, x=x, y=y, height=count * scale))
        y += count * scale + GAP
    return bars


def _caption_bar(sentences: FlowBar, captions: int, scale: float) -> FlowBar:
    """Returns the bar of a split's captions, centered beside that of its sentences."""
    middle, height = sentences.y + sentences.height / 2, captions * scale
    return FlowBar(
        sentences.name, captions, column=3, x=CAPTIONS_X, y=middle - height / 2, height=height
    )


def _bands_to_outcomes(
    sources: Mapping[str, SourceCounts],
    source_bars: list[FlowBar],
    outcome_bars: Mapping[str, FlowBar],
    scale: float,
) -> Iterator[FlowBand]:
    entered = dict.fromkeys(outcome_bars, 0)
    for color, (counts, source_bar) in enumerate(zip(sources.values(), source_bars, strict=True)):
        left = 0
        for field, outcome_bar in outcome_bars.items():
            if count := getattr(counts, field):
                start, end = left * scale, entered[field] * scale
                path = _band_path(source_bar, start, outcome_bar, end, count * scale)
                yield FlowBand(path, f"{source_bar.name}: {count:,} {outcome_bar.name}", color)
            left += count
            entered[field] += count


def _bands_to_splits(in_shards: FlowBar | None, split_bars: list[FlowBar]) -> Iterator[FlowBand]:
    if in_shards is None:
        return
    left = 0.0
    for split_bar in split_bars:
        path = _band_path(in_shards, left, split_bar, 0, split_bar.height)
        yield FlowBand(path, f"{split_bar.name}: {split_bar.total:,} sentences", None)
        left += split_bar.height


def _band_to_captions(sentences: FlowBar, captions: FlowBar) -> FlowBand:
    edge = sentences.x + BAR_WIDTH
    path = _svg_path(edge, sentences.y, sentences.height, captions.x, captions.y, captions.height)
    title = f"{sentences.name}: {sentences.total:,} sentences in {captions.total:,} captions"
    return FlowBand(path, title, None)


def _band_path(
    left: FlowBar, left_offset: float, right: FlowBar, right_offset: float, height: float
) -> str:
    """Returns a band of constant height; offsets are from the top of each bar."""
    edge = left.x + BAR_WIDTH
    return _svg_path(edge, left.y + left_offset, height, right.x, right.y + right_offset, height)


def _svg_path(x0: float, y0: float, h0: float, x1: float, y1: float, h1: float) -> str:
    """Returns a band from one vertical edge to another that is horizontal at both."""
    middle = (x0 + x1) / 2
    upper = f"M{x0:.2f},{y0:.2f} C{middle:.2f},{y0:.2f} {middle:.2f},{y1:.2f} {x1:.2f},{y1:.2f}"
    lower = (
        f"V{y1 + h1:.2f} C{middle:.2f},{y1 + h1:.2f} {middle:.2f},{y0 + h0:.2f} "
        f"{x0:.2f},{y0 + h0:.2f} Z"
    )
    return f"{upper} {lower}"
