"""Checks of a sample by itself: the spans, provenance, boxes and length of its captions."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from schemas import Box, Caption, Provenance, Sample, Span
from shards import box_overlap
from shards.verification.errors import ErrorKind, VerificationError
from shards.verification.recipe import RecipeRules, SampleRequirements

#: Tolerance of an overlap above the threshold: a few steps of float32, so that another order of
#: additions is not an error.
TOLERANCE = 1e-6

#: An error of a caption: its kind and message.
CaptionError = tuple[ErrorKind, str]


def check_sample(sample: Sample, required: SampleRequirements) -> Iterator[VerificationError]:
    """Yields the errors of a sample's annotations; its image is not read."""
    for index, caption in enumerate(sample.captions):
        for kind, message in _check_caption(caption, required):
            yield VerificationError(kind, message, key=sample.key, caption=index)
    yield from _check_boxes(sample, required)


def not_checked(sample: Sample, required: SampleRequirements) -> Iterator[str]:
    """Yields what cannot be checked, in sentences that are the same for all samples."""
    if any(phrase.boxes for caption in sample.captions for phrase in caption.phrases):
        yield "boxes of phrases against the image borders: no rule clips them"
    if required.clipped and sample.width == 0 and any(c.regions for c in sample.captions):
        yield "boxes against the borders of images of unknown size"


def _check_caption(caption: Caption, required: SampleRequirements) -> Iterator[CaptionError]:
    yield from _check_provenance(caption)
    yield from _check_spans(caption, required)
    yield from _check_regions(caption)
    for phrase in caption.phrases:
        if not phrase.spans:
            yield ErrorKind.PHRASE, f"entity {phrase.entity}"
    if required.combined is not None:
        yield from _check_combination(caption, required.combined)


def _check_provenance(caption: Caption) -> Iterator[CaptionError]:
    """Yields an error unless sentences are inside the text, in order and without overlap."""
    if not caption.provenance:
        yield ErrorKind.PROVENANCE, "it is empty"
    end = 0
    for sentence in caption.provenance:
        start, stop = sentence.span
        if not _is_inside(sentence.span, caption.text):
            yield ErrorKind.PROVENANCE, f"{sentence.span} of {len(caption.text)} characters"
        elif start < end:
            yield ErrorKind.PROVENANCE, f"{sentence.span} begins before {end}, where another ends"
        end = max(end, stop)


def _check_spans(caption: Caption, required: SampleRequirements) -> Iterator[CaptionError]:
    """Yields spans outside the text, and spans that split a word."""
    text = caption.text
    spans = [span for region in caption.regions for span in region.spans]
    spans += caption.tokens_negative
    spans += [span for phrase in caption.phrases for span in phrase.spans]
    for span in spans:
        if not _is_inside(span, text):
            yield ErrorKind.SPAN, f"{span} of {len(text)} characters"
    for start, stop in spans_that_split_words(text, spans):
        sentence = sentence_index((start, stop), caption.provenance)
        dataset = None if sentence is None else caption.provenance[sentence].dataset
        if dataset not in required.words_may_be_split:
            context = text[max(start - 10, 0) : stop + 10]
            yield ErrorKind.WORD, f"{(start, stop)} is {text[start:stop]!r} in {context!r}"


def _check_regions(caption: Caption) -> Iterator[CaptionError]:
    """Yields regions whose spans are not all in one sentence, and impossible areas."""
    for region in caption.regions:
        sentences = {sentence_index(span, caption.provenance) for span in region.spans}
        inside = all(_is_inside(span, caption.text) for span in region.spans)
        if inside and (len(sentences) != 1 or None in sentences):
            sentence_spans = [sentence.span for sentence in caption.provenance]
            yield ErrorKind.REGION, f"{region.spans} of the sentences {sentence_spans}"
        # There is no upper limit: rules may keep the areas of the source.
        if region.area is not None and not 0 <= region.area < math.inf:
            yield ErrorKind.AREA, f"{region.area} square pixels"


def _check_combination(caption: Caption, rules: RecipeRules) -> Iterator[CaptionError]:
    """Yields violations of the rules by which sentences are combined."""
    if is_too_long(caption, rules):
        sentences = len(caption.provenance)
        yield ErrorKind.LENGTH, f"{len(caption.text)} characters in {sentences} sentences"
    for first, second, overlap in overlapping_sentences(caption, rules):
        yield ErrorKind.OVERLAP, f"{first} and {second}: {rules.conflict} {overlap:.3f}"


def _is_inside(span: Span, text: str) -> bool:
    """Returns whether a half-open span is not empty and inside the text."""
    return 0 <= span[0] < span[1] <= len(text)


def spans_that_split_words(text: str, spans: Sequence[Span]) -> list[Span]:
    """Returns the spans inside the text that begin or end within a word.

    A border is within a word if a letter or a digit is on both sides of it; hyphens and apostrophes
    are neither. Where one span ends and another begins, no word is split: spaCy's tokenizer divides
    "dont" and "10am" into two tokens each, and so do captions.

    >>> spans_that_split_words("the man's t-shirt", [(4, 7), (7, 9), (10, 11), (4, 6)])
    [(4, 6)]
    >>> spans_that_split_words("10am", [(0, 2)]), spans_that_split_words("10am", [(0, 2), (2, 4)])
    ([(0, 2)], [])
    """
    candidates = [
        span
        for span in spans
        if _is_inside(span, text) and any(_is_within_word(text, border) for border in span)
    ]
    if not candidates:
        return candidates
    joints = {start for start, _ in spans} & {stop for _, stop in spans}
    return [
        span
        for span in candidates
        if any(_is_within_word(text, border) and border not in joints for border in span)
    ]


def _is_within_word(text: str, border: int) -> bool:
    return 0 < border < len(text) and text[border - 1].isalnum() and text[border].isalnum()


def sentence_index(span: Span, provenance: Sequence[Provenance]) -> int | None:
    """Returns the index of the sentence that contains the whole span."""
    for index, sentence in enumerate(provenance):
        if sentence.span[0] <= span[0] and span[1] <= sentence.span[1]:
            return index
    return None


def is_too_long(caption: Caption, rules: RecipeRules) -> bool:
    """Returns whether a combined caption has more characters than the rules allow.

    ``joined``: the text has fewer than ``max_length`` characters. ``sentences``: the sentences
    without separators have at most ``max_length - 2``; a single one may have any length.
    """
    if rules.length == "joined":
        return len(caption.text) >= rules.max_length
    lengths = [stop - start for start, stop in (s.span for s in caption.provenance)]
    return len(lengths) > 1 and sum(lengths) + 2 > rules.max_length


def overlapping_sentences(caption: Caption, rules: RecipeRules) -> list[tuple[int, int, float]]:
    """Returns pairs of sentences whose boxes overlap by more than the threshold, and by how much.

    The boxes of a sentence are those that its words name; they may overlap each other. Two empty
    boxes do not overlap. Boxes that are not finite are a separate error and are ignored.
    """
    if len(caption.provenance) < 2:
        return []
    named = [
        (sentence, region.box)
        for region in caption.regions
        if region.spans
        and all(map(math.isfinite, region.box))
        and (sentence := sentence_index(region.spans[0], caption.provenance)) is not None
    ]
    boxes = box_overlap.as_array([box for _, box in named])
    overlap = box_overlap.giou if rules.conflict == "giou" else box_overlap.iou
    overlaps = overlap(boxes, boxes)
    largest: dict[tuple[int, int], float] = {}
    for i, j in np.argwhere(overlaps > rules.threshold + TOLERANCE).tolist():
        pair = named[i][0], named[j][0]
        if pair[0] < pair[1]:
            largest[pair] = max(largest.get(pair, 0.0), float(overlaps[i, j]))
    return [(first, second, overlap) for (first, second), overlap in sorted(largest.items())]


def _check_boxes(sample: Sample, required: SampleRequirements) -> Iterator[VerificationError]:
    """Yields boxes that are not finite, empty, or not inside the image.

    The boxes of phrases are ground truth of evaluations: no rule clips them to the image. Nor can a
    box be checked against an image of unknown size (0 x 0).
    """
    region_boxes = [
        (index, region.box)
        for index, caption in enumerate(sample.captions)
        for region in caption.regions
    ]
    phrase_boxes = [
        (index, box)
        for index, caption in enumerate(sample.captions)
        for phrase in caption.phrases
        for box in phrase.boxes
    ]
    size = (sample.width, sample.height) if required.clipped and sample.width > 0 else None
    for index, box in [
        *_wrong_boxes(region_boxes, size=size, may_be_empty=not required.clipped),
        *_wrong_boxes(phrase_boxes, size=None, may_be_empty=False),
    ]:
        message = f"{box} of {sample.width}x{sample.height} pixels"
        yield VerificationError(ErrorKind.BOX, message, key=sample.key, caption=index)


def _wrong_boxes(
    boxes: Sequence[tuple[int, Box]], *, size: tuple[int, int] | None, may_be_empty: bool
) -> list[tuple[int, Box]]:
    """Returns the boxes that are not finite, empty, or not inside an image of that size.

    Each box has the index of its caption; all boxes of a sample are checked in one array.
    """
    array = box_overlap.as_array([box for _, box in boxes])
    valid = np.isfinite(array).all(axis=1)
    if not may_be_empty:
        valid &= (array[:, :2] < array[:, 2:]).all(axis=1)
    if size is not None:
        valid &= (array[:, :2] >= 0).all(axis=1)
        valid &= (array[:, 2:] <= np.array(size, np.float32)).all(axis=1)
    return [boxes[i] for i in np.flatnonzero(~valid).tolist()]
