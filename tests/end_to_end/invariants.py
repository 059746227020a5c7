"""What must hold of every combined split, worked out with no code of ours."""

from collections import defaultdict
from itertools import combinations
from typing import Any

Box = list[float]


def check_sample(sample: dict[str, Any]) -> None:
    """Captions below 250 characters, of sentences that speak of different objects, boxes inside."""
    for caption in sample["captions"]:
        text = caption["text"]
        assert len(text) < 250
        boxes_of = defaultdict(list)
        for region in caption["regions"]:
            boxes_of[part_of(region["tokens_positive"], caption["provenance"])].append(
                region["box"]
            )
            for start, stop in region["tokens_positive"]:
                check_words(text, start, stop)
            x0, y0, x1, y1 = region["box"]
            assert 0 <= x0 < x1 <= sample["width"] and 0 <= y0 < y1 <= sample["height"]
        for a, b in combinations(boxes_of.values(), 2):
            assert all(giou(p, q) <= 0.5 + 1e-6 for p in a for q in b)


def part_of(spans: list[list[int]], parts: list[dict[str, Any]]) -> int:
    """The one sentence of a caption that all these spans lie in."""
    [index] = {
        i
        for start, stop in spans
        for i, part in enumerate(parts)
        if part["span"][0] <= start < stop <= part["span"][1]
    }
    return index


def check_words(text: str, start: int, stop: int) -> None:
    """A span covers whole words, from the first character of one to the last of another."""
    assert text[start].isalnum() and not (start and text[start - 1].isalnum())
    assert text[stop - 1].isalnum() and not (stop < len(text) and text[stop].isalnum())


def giou(a: Box, b: Box) -> float:
    """From the definition (arXiv 1902.09630, algorithm 1)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return intersection / union - (hull - union) / hull
