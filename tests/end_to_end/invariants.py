"""Invariants of every combined split, checked without the project's own code."""

from collections import defaultdict
from itertools import combinations
from typing import Any

Box = list[float]


def check_sample(sample: dict[str, Any]) -> None:
    """Checks the captions of a sample, given as its JSON.

    They are shorter than 250 characters, their sentences refer to different objects (no GIoU above
    0.5), spans cover whole words, and boxes are inside the image.
    """
    for caption in sample["captions"]:
        text = caption["text"]
        assert len(text) < 250
        boxes_by_sentence = defaultdict(list)
        for region in caption["regions"]:
            spans = region["tokens_positive"]
            sentence = sentence_index(spans, caption["provenance"])
            boxes_by_sentence[sentence].append(region["box"])
            for start, stop in spans:
                check_whole_words(text, start, stop)
            x0, y0, x1, y1 = region["box"]
            assert 0 <= x0 < x1 <= sample["width"] and 0 <= y0 < y1 <= sample["height"]
        for a, b in combinations(boxes_by_sentence.values(), 2):
            assert all(giou(p, q) <= 0.5 + 1e-6 for p in a for q in b)


def sentence_index(spans: list[list[int]], provenance: list[dict[str, Any]]) -> int:
    """Returns the index of the one sentence of a caption that contains all spans."""
    [index] = {
        i
        for start, stop in spans
        for i, sentence in enumerate(provenance)
        if sentence["span"][0] <= start < stop <= sentence["span"][1]
    }
    return index


def check_whole_words(text: str, start: int, stop: int) -> None:
    """Checks that a span begins and ends at borders of words."""
    assert text[start].isalnum() and not (start and text[start - 1].isalnum())
    assert text[stop - 1].isalnum() and not (stop < len(text) and text[stop].isalnum())


def giou(a: Box, b: Box) -> float:
    """Returns the generalized IoU by its definition (arXiv 1902.09630, algorithm 1)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return intersection / union - (hull - union) / hull
