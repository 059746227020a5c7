"""Sentences of one image with boxes, and the overlap of boxes as a reference."""

from hypothesis import strategies as st

from schemas import Box, Caption, Provenance, Region
from schemas.sentences import as_sentence

NEAR_THRESHOLD = 1e-5  # rounding error of a float32 overlap


def caption(
    text: str, *boxes: Box, dataset: str = "vg", record: str = "1", spans: list | None = None
) -> Caption:
    spans = [(0, 1)] if spans is None else spans
    regions = [Region(spans, box) for box in boxes]
    return Caption(text, regions, [], [Provenance(dataset, record, (0, len(text)))])


def plain_giou(a: Box, b: Box) -> float:
    """Algorithm 1 of arXiv 1902.09630, in float64."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return intersection / union - (hull - union) / hull


def plain_iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0) * max(height, 0)
    return intersection / (
        (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    )


@st.composite
def random_boxes(draw: st.DrawFn) -> Box:
    """Boxes on a coarse grid, so that many of them overlap."""
    x, y = draw(st.integers(0, 6)) * 10, draw(st.integers(0, 6)) * 10
    w, h = draw(st.integers(1, 6)) * 10, draw(st.integers(1, 6)) * 10
    return float(x), float(y), float(x + w), float(y + h)


@st.composite
def images(draw: st.DrawFn) -> list[Caption]:
    """The sentences of one image, each with a unique number in the text."""
    captions = []
    for i in range(draw(st.integers(0, 12))):
        words = draw(st.lists(st.sampled_from(["red", "cat", "mat's", "zoë", "x-y"]), max_size=50))
        text = (" ".join([f"n{i}", *words]) + draw(st.sampled_from(["", ".", "?", "!"])))[:249]
        text = text if len(as_sentence(text)) < 250 else text[:248]
        regions = []
        for box in draw(st.lists(random_boxes(), max_size=3)):
            start = draw(st.integers(0, len(text) - 1))
            stop = draw(st.integers(start + 1, len(text)))
            regions.append(Region([(start, stop)], box, float(i)))
        captions.append(
            Caption(text, regions, [(0, len(text))], [Provenance("vg", str(i), (0, len(text)))])
        )
    return captions
