"""Whether a sample is what it should be: its captions, their spans, boxes and parts."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from schemas import Caption, Provenance, Sample, Span
from shards import box_overlap as bx
from shards.verification.errors import Fault, Kind
from shards.verification.expected import Expected, Rules

#: By how much an overlap may pass the threshold: a few steps of float32, in which it is measured,
#: so that another order of additions is no fault.
TOLERANCE = 1e-6


def sample_faults(sample: Sample, expected: Expected) -> Iterator[Fault]:
    """What is wrong with a sample by itself, with no look at its image."""
    for number, caption in enumerate(sample.captions):
        for kind, what in _caption_faults(caption, expected):
            yield Fault(kind, what, key=sample.key, caption=number)
    yield from _box_faults(sample, expected)


def unchecked(sample: Sample, expected: Expected) -> Iterator[str]:
    """What could not be checked of a sample, in words that are the same for all samples."""
    if any(phrase.boxes for caption in sample.captions for phrase in caption.phrases):
        yield "boxes of phrases against the borders of their images: no rules cut them"
    if expected.clipped and sample.width == 0 and any(of.regions for of in sample.captions):
        yield "boxes against the borders of images whose sizes are not known"


def _caption_faults(caption: Caption, expected: Expected) -> Iterator[tuple[Kind, str]]:
    for fault in _part_faults(caption):
        yield Kind.PART, fault
    named = [span for region in caption.regions for span in region.spans]
    spans = [
        *named,
        *caption.tokens_negative,
        *(s for phrase in caption.phrases for s in phrase.spans),
    ]
    for span in spans:
        if not _is_inside(span, caption.text):
            yield Kind.SPAN, f"{span} of {len(caption.text)} characters"
    for start, stop in cut_words(caption.text, spans):
        part = part_of((start, stop), caption.provenance)
        if part is None or caption.provenance[part].dataset not in expected.as_published:
            around = caption.text[max(start - 10, 0) : stop + 10]
            yield Kind.WORD, f"{(start, stop)} is {caption.text[start:stop]!r} in {around!r}"
    for region in caption.regions:
        owners = {part_of(span, caption.provenance) for span in region.spans}
        inside = all(_is_inside(span, caption.text) for span in region.spans)
        if inside and (len(owners) != 1 or None in owners):
            yield Kind.REGION, f"{region.spans} of the parts {[p.span for p in caption.provenance]}"
        # How large an area may be is not known: rules may keep what sources state.
        if region.area is not None and not 0 <= region.area < math.inf:
            yield Kind.AREA, f"{region.area} square pixels"
    for phrase in caption.phrases:
        if not phrase.spans:
            yield Kind.PHRASE, f"entity {phrase.entity}"
    if expected.combined is not None:
        if is_too_long(caption, expected.combined):
            yield Kind.LENGTH, f"{len(caption.text)} characters in {len(caption.provenance)} parts"
        for one, other, overlap in overlapping_parts(caption, expected.combined):
            yield Kind.OVERLAP, f"{one} and {other}: {expected.combined.conflict} {overlap:.3f}"


def _part_faults(caption: Caption) -> Iterator[str]:
    if not caption.provenance:
        yield "there is none"
    end = 0
    for part in caption.provenance:
        if not _is_inside(part.span, caption.text):
            yield f"{part.span} of {len(caption.text)} characters"
        elif part.span[0] < end:
            yield f"{part.span} begins before {end}, where the one before it ends"
        end = max(end, part.span[1])


def _is_inside(span: Span, text: str) -> bool:
    """Whether a half-open span holds characters of the text, and none outside of it."""
    return 0 <= span[0] < span[1] <= len(text)


def cut_words(text: str, spans: Sequence[Span]) -> list[Span]:
    """The spans, of those inside the text, that begin or end within a word.

    A border is within a word if a letter or a digit is on both sides of it: hyphens and apostrophes
    are none. It cuts no word, however, where one span ends and another one begins: the language
    model takes "dont" and "10am" for two words each, and so do captions.

    >>> cut_words("the man's t-shirt", [(4, 7), (7, 9), (10, 11), (4, 6)])
    [(4, 6)]
    >>> cut_words("10am", [(0, 2)]), cut_words("10am", [(0, 2), (2, 4)])
    ([(0, 2)], [])
    """
    cut = [
        (start, stop)
        for start, stop in spans
        if 0 <= start < stop <= len(text)
        and (_is_within_word(text, start) or _is_within_word(text, stop))
    ]
    if not cut:
        return cut
    joints = {start for start, _ in spans} & {stop for _, stop in spans}
    return [
        span
        for span in cut
        if any(_is_within_word(text, border) and border not in joints for border in span)
    ]


def _is_within_word(text: str, border: int) -> bool:
    return 0 < border < len(text) and text[border - 1].isalnum() and text[border].isalnum()


def part_of(span: Span, parts: Sequence[Provenance]) -> int | None:
    """The number of the part that holds the whole span."""
    for number, part in enumerate(parts):
        if part.span[0] <= span[0] and span[1] <= part.span[1]:
            return number
    return None


def is_too_long(caption: Caption, rules: Rules) -> bool:
    """Whether a caption of a combined split has more characters than its rules allow.

    ``joined``: the text stays below ``max_length``. ``parts``: the sentences, without what joins
    them, reach ``max_length - 2``; a single one may be of any length.
    """
    if rules.length == "joined":
        return len(caption.text) >= rules.max_length
    sentences = [part.span[1] - part.span[0] for part in caption.provenance]
    return len(sentences) > 1 and sum(sentences) + 2 > rules.max_length


def overlapping_parts(caption: Caption, rules: Rules) -> Iterable[tuple[int, int, float]]:
    """Pairs of parts with boxes that overlap by more than the rules allow, and by how much.

    A part has the boxes that its words name; boxes of one part may overlap as they like, and a part
    without boxes speaks of nothing. The overlap of boxes that are both empty is none; boxes that
    are not of numbers are a fault of their own.
    """
    if len(caption.provenance) < 2:
        return []
    owned = [
        (part, region.box)
        for region in caption.regions
        if region.spans
        and all(map(math.isfinite, region.box))
        and (part := part_of(region.spans[0], caption.provenance)) is not None
    ]
    boxes, owner = bx.as_array([box for _, box in owned]), np.array([part for part, _ in owned])
    overlaps = (bx.giou if rules.conflict == "giou" else bx.iou)(boxes, boxes)
    worst: dict[tuple[int, int], float] = {}
    for i, j in np.argwhere(overlaps > rules.threshold + TOLERANCE).tolist():
        pair = (int(owner[i]), int(owner[j]))
        if pair[0] < pair[1]:
            worst[pair] = max(worst.get(pair, 0.0), float(overlaps[i, j]))
    return [(one, other, overlap) for (one, other), overlap in sorted(worst.items())]


def _box_faults(sample: Sample, expected: Expected) -> Iterator[Fault]:
    """Boxes that are not of numbers, empty, or not inside the image.

    Those of phrases, which models are measured by, are not cut to the image by any rules; nor
    can a box be where a set without images does not know the size of one (0 x 0).
    """
    regions = [(n, r.box) for n, caption in enumerate(sample.captions) for r in caption.regions]
    phrases = [
        (n, box)
        for n, caption in enumerate(sample.captions)
        for phrase in caption.phrases
        for box in phrase.boxes
    ]
    size = np.array([sample.width, sample.height], np.float32)
    for owned, not_empty, inside in (
        (regions, expected.clipped, expected.clipped and sample.width > 0),
        (phrases, True, False),
    ):
        boxes = bx.as_array([box for _, box in owned])
        good = np.isfinite(boxes).all(axis=1)
        if not_empty:
            good &= (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
        if inside:
            good &= (boxes[:, :2] >= 0).all(axis=1) & (boxes[:, 2:] <= size).all(axis=1)
        for i in np.flatnonzero(~good).tolist():
            number, box = owned[i]
            what = f"{box} of {sample.width}x{sample.height} pixels"
            yield Fault(Kind.BOX, what, key=sample.key, caption=number)
