"""Checks of a sample by itself: the spans, provenance, boxes and length of its captions."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from schemas import Box, Caption, Sample, Span
from schemas.image_ids import key_of_file, namespace_of
from shards import box_overlap
from shards.verification.absent_checks import check_absent
from shards.verification.caption_checks import check_caption
from shards.verification.errors import CaptionError, ErrorKind, VerificationError
from shards.verification.recipe import RecipeRules, SampleRequirements
from shards.verification.spans import (
    has_space_around,
    is_inside,
    part_spans,
    sentence_index,
    spans_that_split_words,
)

#: Tolerance of an overlap above the threshold: a few steps of float32, so that another order of
#: additions is not an error.
TOLERANCE = 1e-6

#: Captions of an image up to which their room for each other is checked: a build improves those of
#: larger images for a limited time only.
MOST_CAPTIONS = 200


def check_sample(sample: Sample, required: SampleRequirements) -> Iterator[VerificationError]:
    """Yields the errors of a sample's annotations; its image is not read."""
    for index, caption in enumerate(sample.captions):
        for kind, message in _check_caption(sample, caption, required):
            yield VerificationError(kind, message, key=sample.key, caption=index)
    yield from check_absent(sample, required)
    yield from _check_records(sample)
    yield from _check_file_name(sample, required)
    yield from _check_boxes(sample, required)
    yield from _check_areas(sample, required)
    if required.combined is not None:
        yield from _check_room(sample, required, required.combined)


def not_checked(sample: Sample, required: SampleRequirements) -> Iterator[str]:
    """Yields what cannot be checked, in sentences that are the same for all samples."""
    if required.combined is not None and len(sample.captions) > MOST_CAPTIONS:
        yield f"whether captions of images with more than {MOST_CAPTIONS} could be joined"
    if any(phrase.boxes for caption in sample.captions for phrase in caption.phrases):
        yield "boxes of phrases against the image borders: no rule clips them"
    if required.clipped and sample.width == 0 and any(c.regions for c in sample.captions):
        yield "boxes against the borders of images of unknown size"


def _check_caption(
    sample: Sample, caption: Caption, required: SampleRequirements
) -> Iterator[CaptionError]:
    provenance_errors = list(_check_provenance(caption))
    yield from provenance_errors
    yield from _check_spans(caption, required)
    yield from _check_regions(caption, required)
    for phrase in caption.phrases:
        if not phrase.spans:
            yield ErrorKind.PHRASE, f"entity {phrase.entity} has no spans"
    if not provenance_errors:
        yield from check_caption(sample, caption, required)
    if required.combined is not None:
        yield from _check_combination(caption, required.combined)


def _check_provenance(caption: Caption) -> Iterator[CaptionError]:
    """Yields an error unless sentences and absent phrases are in the text, in order and apart."""
    if not caption.provenance and not caption.absent:
        yield ErrorKind.PROVENANCE, "it is empty"
    end = 0
    for start, stop in part_spans(caption):
        if not is_inside((start, stop), caption.text):
            yield ErrorKind.PROVENANCE, f"{(start, stop)} of {len(caption.text)} characters"
        elif start < end:
            yield ErrorKind.PROVENANCE, f"{(start, stop)} begins before {end}, where another ends"
        end = max(end, stop)


def _check_spans(caption: Caption, required: SampleRequirements) -> Iterator[CaptionError]:
    """Yields spans outside the text, and spans that split a word."""
    text = caption.text
    spans = [span for region in caption.regions for span in region.spans]
    spans += caption.tokens_negative
    spans += [span for phrase in caption.phrases for span in phrase.spans]
    for span in spans:
        if not is_inside(span, text):
            yield ErrorKind.SPAN, f"{span} of {len(text)} characters"
    for span, sentence in _spans_that_split_words(caption, spans):
        dataset = None if sentence is None else caption.provenance[sentence].dataset
        if dataset not in required.words_may_be_split:
            yield ErrorKind.WORD, _in_context(text, span)
    if required.datasets is None or required.datasets.is_open:
        return
    for region in caption.regions:
        for span in region.spans:
            if is_inside(span, text) and has_space_around(text, span):
                sentence = sentence_index(span, caption.provenance)
                dataset = None if sentence is None else caption.provenance[sentence].dataset
                if dataset not in required.words_may_be_split:
                    yield ErrorKind.WORD, _in_context(text, span)


def _spans_that_split_words(
    caption: Caption, spans: Sequence[Span]
) -> Iterator[tuple[Span, int | None]]:
    """Yields spans that split a word, with the index of their sentence.

    Words are those of the sentence by itself: its last character and the full stop that follows
    may be one grapheme (U+0600).
    """
    of_sentences: dict[int, set[Span]] = {}
    for span in spans_that_split_words(caption.text, spans):
        sentence = sentence_index(span, caption.provenance)
        if sentence is None:
            yield span, None
            continue
        begin, end = caption.provenance[sentence].span
        if sentence not in of_sentences:
            inside = [(a - begin, b - begin) for a, b in spans if begin <= a and b <= end]
            of_sentences[sentence] = set(spans_that_split_words(caption.text[begin:end], inside))
        if (span[0] - begin, span[1] - begin) in of_sentences[sentence]:
            yield span, sentence


def _in_context(text: str, span: Span) -> str:
    """Returns a span with its words, and some characters around it."""
    start, stop = span
    return f"{span} is {text[start:stop]!r} in {text[max(start - 10, 0) : stop + 10]!r}"


def _check_regions(caption: Caption, required: SampleRequirements) -> Iterator[CaptionError]:
    """Yields regions whose spans are not all in one sentence, and impossible areas.

    A region has no spans where MDETR's scripts find no words for it.
    """
    datasets = {sentence.dataset for sentence in caption.provenance}
    may_have_no_spans = not datasets.isdisjoint(required.words_may_be_split)
    for region in caption.regions:
        sentences = {sentence_index(span, caption.provenance) for span in region.spans}
        inside = all(is_inside(span, caption.text) for span in region.spans)
        is_nowhere = not region.spans and may_have_no_spans
        if inside and not is_nowhere and (len(sentences) != 1 or None in sentences):
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


def is_too_long(caption: Caption, rules: RecipeRules) -> bool:
    """Returns whether a combined caption has more characters than the rules allow.

    ``joined``: the text has fewer than ``max_length`` characters. ``sentences``: the sentences
    without separators have at most ``max_length - 2``; a single one may have any length.
    """
    if rules.length == "joined":
        return len(caption.text) >= rules.max_length
    lengths = [stop - start for start, stop in part_spans(caption)]
    return len(lengths) > 1 and sum(lengths) + 2 > rules.max_length


def overlapping_sentences(caption: Caption, rules: RecipeRules) -> list[tuple[int, int, float]]:
    """Returns pairs of sentences with two boxes that overlap by more than the threshold.

    With each pair is the overlap of such boxes. The boxes of a sentence are those that its words
    name; they may overlap each other. Two empty boxes do not overlap. Boxes that are not finite are
    a separate error and are ignored.
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
    sentences = np.array([sentence for sentence, _ in named], np.intp)
    overlap = box_overlap.giou if rules.conflict == "giou" else box_overlap.iou
    overlaps: dict[tuple[int, int], float] = {}
    threshold = rules.threshold + TOLERANCE
    for first, second in box_overlap.overlapping_pairs(boxes, overlap, threshold):
        a, b = sentences[first], sentences[second]
        apart = np.flatnonzero(a != b)
        pairs = np.minimum(a, b)[apart] * len(caption.provenance) + np.maximum(a, b)[apart]
        distinct, examples = np.unique(pairs, return_index=True)
        for pair, example in zip(distinct.tolist(), apart[examples].tolist(), strict=True):
            one, other = boxes[first[example]], boxes[second[example]]
            value = float(overlap(one[None], other[None])[0, 0])
            overlaps.setdefault(divmod(pair, len(caption.provenance)), value)
    return [(low, high, overlap) for (low, high), overlap in sorted(overlaps.items())]


def _check_records(sample: Sample) -> Iterator[VerificationError]:
    """Yields records that are in two sentences of the image."""
    seen: set[tuple[str, str]] = set()
    for index, caption in enumerate(sample.captions):
        for origin in caption.provenance:
            record = origin.dataset, origin.record
            if record in seen:
                message = f"{origin.dataset}/{origin.record} is in two sentences"
                yield VerificationError(ErrorKind.RECORD, message, key=sample.key, caption=index)
            seen.add(record)


def _check_file_name(sample: Sample, required: SampleRequirements) -> Iterator[VerificationError]:
    """Yields an error if the image's file has a published name, and it is that of another image."""
    if required.datasets is None or required.datasets.is_open:
        return
    named = key_of_file(namespace_of(sample.key), sample.file)
    if named and named != sample.key:
        message = f"{sample.file!a} is that of {named}"
        yield VerificationError(ErrorKind.FILE_NAME, message, key=sample.key)


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


def _check_areas(sample: Sample, required: SampleRequirements) -> Iterator[VerificationError]:
    """Yields areas that are not those of the boxes, or larger than an object in the box has.

    An area is only checked if a recipe states that it is that of the written image.
    """
    if required.areas_of_sources or required.datasets is None:
        return
    located = [
        (index, region)
        for index, caption in enumerate(sample.captions)
        for region in caption.regions
        if region.area is not None
    ]
    boxes = box_overlap.as_array([region.box for _, region in located])
    largest = box_overlap.largest_area(boxes)
    stated = np.array([region.area for _, region in located], np.float64)
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    areas = sides.prod(axis=1)
    with np.errstate(invalid="ignore"):
        too_large = stated > largest + 0.02  # which is rounded
        # A source states areas in its own pixels and precision.
        differs = np.abs(stated - areas) > 0.02 + 1e-3 * (areas + sides.sum(axis=1))
    for i in np.flatnonzero(too_large | differs).tolist():
        index, region = located[i]
        caption = sample.captions[index]
        sentence = sentence_index(region.spans[0], caption.provenance) if region.spans else None
        dataset = "" if sentence is None else caption.provenance[sentence].dataset
        rules = required.datasets.rules.get(dataset)
        if too_large[i] or (rules is not None and rules.area == "box"):
            message = f"{region.area} square pixels, the box {region.box} has {areas[i]:.2f}"
            yield VerificationError(ErrorKind.AREA, message, key=sample.key, caption=index)


def _check_room(
    sample: Sample, required: SampleRequirements, rules: RecipeRules
) -> Iterator[VerificationError]:
    """Yields pairs of captions that the rules allow to be one: no algorithm leaves such a pair.

    Captions of absent phrases only are no such captions.
    """
    joined = [
        (index, caption, _size(caption, rules))
        for index, caption in enumerate(sample.captions)
        if caption.provenance and required.joins_caption(caption)
    ]
    capacity = rules.max_length if rules.length == "joined" else rules.max_length - 2
    overlap = box_overlap.giou if rules.conflict == "giou" else box_overlap.iou
    sizes = sorted(size for _, _, size in joined)
    if not 2 <= len(sizes) <= MOST_CAPTIONS or sizes[0] + sizes[1] > capacity:
        return
    small = [item for item in joined if item[2] + sizes[0] <= capacity]
    owners = np.repeat(np.arange(len(small)), [len(c.regions) for _, c, _ in small])
    boxes = box_overlap.as_array([region.box for _, c, _ in small for region in c.regions])
    conflicts = np.zeros((len(small), len(small)), bool)
    threshold = max(rules.threshold - TOLERANCE, 0.0)
    for rows, columns in box_overlap.overlapping_pairs(boxes, overlap, threshold):
        conflicts[owners[rows], owners[columns]] = True
    conflicts |= conflicts.T
    for (i, (first, a, a_size)), (j, (second, b, b_size)) in combinations(enumerate(small), 2):
        if a_size + b_size <= capacity and not conflicts[i, j]:
            message = f"{first} and {second}: {len(a.text)} and {len(b.text)} characters"
            yield VerificationError(ErrorKind.JOINABLE, message, key=sample.key, caption=first)


def _size(caption: Caption, rules: RecipeRules) -> int:
    """Returns how much of the capacity of a caption its sentences take."""
    if rules.length == "joined":
        return len(caption.text) + 1
    return sum(stop - start for start, stop in part_spans(caption))
