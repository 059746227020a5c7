"""From raw records to pairs: what became of them, drawn to scale."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from shards.format.source_counts import SourceCounts, total
from shards.inspection.contents import SplitContents

WIDTH = 1060
BAR = 14  # the width of a bar
SOURCES, FATES, SPLITS, PAIRS = 150, 420, 690, 890  # where the bars of each column begin
HEADS = {
    SOURCES: "records read",
    FATES: "what became of them",
    SPLITS: "sentences by split",
    PAIRS: "captions (pairs)",
}
RECORDS_HEIGHT = 340  # of all records that were read
GAP = 40
TOP = 44

FATE_NAMES = {
    "in_shards": "in the shards",
    "excluded": "excluded",
    "merged": "merged into another",
    "rejected": "rejected",
}


class Node(NamedTuple):
    """A bar for ``n`` objects, as high in proportion, in the place (0 to 3) of its column."""

    name: str
    n: int
    column: int
    x: float
    y: float
    height: float


class Ribbon(NamedTuple):
    """What goes from one bar to another; ``color`` is that of its source, None behind the shards.

    ``path`` is the ``d`` of an SVG path.
    """

    path: str
    title: str
    color: int | None


class Flow(NamedTuple):
    """The diagram, ``height`` high at a width of ``WIDTH``."""

    height: float
    nodes: list[Node]
    ribbons: list[Ribbon]


def flow(sources: Mapping[str, SourceCounts], splits: Mapping[str, SplitContents]) -> Flow | None:
    """Records by source, what became of them, sentences by split, and the captions they make.

    Every height is in proportion to its count. None where nothing was read.
    """
    whole = total(sources.values())
    if not whole.read:
        return None
    scale = RECORDS_HEIGHT / whole.read
    names = {kind: name for kind, name in FATE_NAMES.items() if getattr(whole, kind)}
    sentences = {split: contents.sentences for split, contents in splits.items()}
    read = _column(0, SOURCES, {source: row.read for source, row in sources.items()}, scale)
    fates = _column(1, FATES, {name: getattr(whole, kind) for kind, name in names.items()}, scale)
    parts = _column(2, SPLITS, sentences, scale)
    pairs = [
        _pairs(node, contents.captions, scale)
        for node, contents in zip(parts, splits.values(), strict=True)
    ]
    nodes = [*read, *fates, *parts, *pairs]
    height = max(node.y + node.height for node in nodes) + GAP / 2
    ribbons = [
        *_to_fates(sources, read, dict(zip(names, fates, strict=True)), scale),
        *_to_splits(fates[0] if "in_shards" in names else None, parts, scale),
        *(_taper(node, pair) for node, pair in zip(parts, pairs, strict=True)),
    ]
    return Flow(height, nodes, ribbons)


def _column(place: int, x: float, counts: Mapping[str, int], scale: float) -> list[Node]:
    nodes, y = [], float(TOP)
    for name, count in counts.items():
        nodes.append(Node(name, count, place, x, y, count * scale))
        y += count * scale + GAP
    return nodes


def _pairs(sentences: Node, captions: int, scale: float) -> Node:
    """Beside the bar of a split's sentences, that of the captions they were combined into."""
    middle, height = sentences.y + sentences.height / 2, captions * scale
    return Node(sentences.name, captions, 3, PAIRS, middle - height / 2, height)


def _to_fates(
    sources: Mapping[str, SourceCounts], read: list[Node], fates: Mapping[str, Node], scale: float
) -> Iterable[Ribbon]:
    arrived = dict.fromkeys(fates, 0)
    for color, (counts, source) in enumerate(zip(sources.values(), read, strict=True)):
        left = 0
        for kind, fate in fates.items():
            if count := getattr(counts, kind):
                path = _ribbon(source, left * scale, fate, arrived[kind] * scale, count * scale)
                yield Ribbon(path, f"{source.name}: {count:,} {fate.name}", color)
            left += count
            arrived[kind] += count


def _to_splits(kept: Node | None, parts: list[Node], scale: float) -> Iterable[Ribbon]:
    left = 0
    for part in parts if kept is not None else []:
        assert kept is not None
        path = _ribbon(kept, left * scale, part, 0, part.height)
        yield Ribbon(path, f"{part.name}: {part.n:,} sentences", None)
        left += part.n


def _taper(sentences: Node, pairs: Node) -> Ribbon:
    path = _between(
        sentences.x + BAR, sentences.y, sentences.height, pairs.x, pairs.y, pairs.height
    )
    title = f"{sentences.name}: {sentences.n:,} sentences in {pairs.n:,} captions"
    return Ribbon(path, title, None)


def _ribbon(one: Node, below: float, other: Node, other_below: float, height: float) -> str:
    return _between(one.x + BAR, one.y + below, height, other.x, other.y + other_below, height)


def _between(x0: float, y0: float, h0: float, x1: float, y1: float, h1: float) -> str:
    """A band from one upright edge to another, level at both."""
    middle = (x0 + x1) / 2
    there = f"M{x0:.2f},{y0:.2f} C{middle:.2f},{y0:.2f} {middle:.2f},{y1:.2f} {x1:.2f},{y1:.2f}"
    back = (
        f"V{y1 + h1:.2f} C{middle:.2f},{y1 + h1:.2f} {middle:.2f},{y0 + h0:.2f} "
        f"{x0:.2f},{y0 + h0:.2f} Z"
    )
    return f"{there} {back}"
