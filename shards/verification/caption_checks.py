"""Checks of a caption against the rule that joins sentences, and the rules of their datasets."""

from collections.abc import Iterator, Sequence

import numpy as np

from schemas import Caption, Phrase, Provenance, Region, Sample, Span
from schemas.sample import region_identity
from schemas.sentences import as_sentence, join_sentences
from shards import box_overlap
from shards.verification.datasets import DatasetRules
from shards.verification.errors import CaptionError, ErrorKind
from shards.verification.recipe import SampleRequirements
from shards.verification.spans import part_spans, sentence_index


def check_caption(
    sample: Sample, caption: Caption, required: SampleRequirements
) -> Iterator[CaptionError]:
    """Yields the errors of a caption whose spans and provenance are inside its text."""
    if required.datasets is None:
        return
    is_joined = required.joins_caption(caption)
    yield from check_composition(caption, is_joined)
    regions: list[list[Region]] = [[] for _ in caption.provenance]
    for region in caption.regions:
        index = sentence_index(region.spans[0], caption.provenance) if region.spans else None
        if index is not None:
            regions[index].append(region)
    for origin, regions_of_it in zip(caption.provenance, regions, strict=True):
        if required.clipped:
            yield from _check_duplicate_regions(regions_of_it)
        rules = required.datasets.rules.get(origin.dataset)
        if rules is not None:
            yield from _check_sentence(sample, caption, origin, regions_of_it, rules, required)
        elif not required.datasets.is_open:
            yield ErrorKind.DATASET, f"{origin.dataset!a} of the record {origin.record!a}"
    if not required.datasets.is_open:
        yield from _check_question_and_phrases(sample, caption, is_joined, required)


def check_composition(caption: Caption, is_joined: bool) -> Iterator[CaptionError]:
    """Yields an error unless the text is its one sentence, or its sentences joined by the rule."""
    spans = part_spans(caption)
    sentences = [caption.text[slice(*span)] for span in spans]
    for sentence in sentences:
        if not sentence.strip():
            yield ErrorKind.COMPOSITION, f"an empty sentence: {sentence!a}"
    if not is_joined:
        if len(sentences) > 1:
            message = f"{len(sentences)} sentences, though the split is not combined"
            yield ErrorKind.COMPOSITION, message
        elif sentences != [caption.text]:
            yield ErrorKind.COMPOSITION, f"{caption.text!a} is not its sentence {sentences[0]!a}"
        return
    begin = 0
    for span, sentence in zip(spans, sentences, strict=True):
        if span[0] != begin:
            message = f"{sentence!a} begins at {span[0]}, the rule gives {begin}"
            yield ErrorKind.COMPOSITION, message
            return
        begin += len(as_sentence(sentence)) + 1
    if (text := join_sentences(sentences)) != caption.text:
        yield ErrorKind.COMPOSITION, f"{caption.text!a}; joined, its sentences are {text!a}"


def _check_duplicate_regions(regions: Sequence[Region]) -> Iterator[CaptionError]:
    seen = set()
    for region in regions:
        identity = region_identity(region)
        if identity in seen:
            yield ErrorKind.DUPLICATE_REGION, f"{region.box} of the words {region.spans}"
        seen.add(identity)


def _check_sentence(
    sample: Sample,
    caption: Caption,
    origin: Provenance,
    regions: Sequence[Region],
    rules: DatasetRules,
    required: SampleRequirements,
) -> Iterator[CaptionError]:
    """Yields what a sentence has and its dataset has not, or the reverse."""
    least = rules.min_regions
    if origin.dataset in required.words_may_be_split:
        least = 0  # a region for which MDETR's scripts found no words is of no sentence
    if len(regions) < least:
        message = f"{len(regions)} of {origin.dataset}/{origin.record}, expected at least {least}"
        yield ErrorKind.REGION_COUNT, message
    words = {tuple(region.spans) for region in regions}
    if rules.same_words and len(words) > 1:
        message = f"{origin.dataset}/{origin.record} has regions of different words: {words}"
        yield ErrorKind.REGION_COUNT, message
    if origin.dataset not in required.words_may_be_split:
        yield from _check_negatives(caption, origin, regions, rules)
    if rules.class_name:
        yield from _check_class(sample, origin, regions)


def _check_negatives(
    caption: Caption, origin: Provenance, regions: Sequence[Region], rules: DatasetRules
) -> Iterator[CaptionError]:
    """Yields an error unless ``tokens_negative`` covers the words that the dataset's rule states.

    Words of a region that are all the words of the sentence are an exception: a caption without a
    root phrase names its box as a whole.
    """
    begin, end = origin.span
    inside = [span for span in caption.tokens_negative if begin <= span[0] and span[1] <= end]
    if rules.negative == "none":
        if inside:
            yield ErrorKind.NEGATIVE, f"{inside}, expected none in {origin.span}"
        return
    named = [span for region in regions for span in region.spans]
    if rules.negative == "regions" and all(span in inside for span in named):
        return  # in this way in most sentences; otherwise, several spans may cover one
    text = caption.text
    first = next((i for i in range(begin, end) if text[i].isalnum()), end)
    last = next((i for i in range(end - 1, begin - 1, -1) if text[i].isalnum()), begin)
    if first > last:
        return
    if rules.negative == "sentence":
        expected = [(first, last + 1)]
    else:
        expected = [span for span in named if not (span[0] <= first and last < span[1])]
    for span in expected:
        if not any(start <= span[0] and span[1] <= stop for start, stop in inside):
            covered = {i for start, stop in inside for i in range(start, stop)}
            if any(i not in covered for i in range(*span) if text[i].isalnum()):
                yield ErrorKind.NEGATIVE, f"{inside} of the sentence {origin.span} lacks {span}"
                return


def _check_class(
    sample: Sample, origin: Provenance, regions: Sequence[Region]
) -> Iterator[CaptionError]:
    """Yields an error unless the record is the image and the class of the regions."""
    image, _, category = origin.record.partition(":")
    if sample.key.rpartition("/")[2] != image:
        yield ErrorKind.PROVENANCE, f"{origin.record!a} is a record of another image"
    for region in regions:
        if str(region.category) != category:
            message = f"{region.category}, the record is {origin.dataset}/{origin.record}"
            yield ErrorKind.CATEGORY, message


def _check_question_and_phrases(
    sample: Sample, caption: Caption, is_joined: bool, required: SampleRequirements
) -> Iterator[CaptionError]:
    """Yields an error unless a caption has the question or the phrases of its one sentence."""
    if not caption.provenance:
        if caption.question is not None or caption.phrases:
            yield ErrorKind.ABSENT, "a caption without sentences has a question or phrases"
        return
    origin = caption.provenance[0]
    rules = None if required.datasets is None else required.datasets.rules.get(origin.dataset)
    is_question = rules is not None and rules.question and not is_joined
    question = caption.question
    if (question is not None) != is_question:
        message = "it has none" if is_question else "the caption may not have one"
        yield ErrorKind.QUESTION, f"{message}: {origin.dataset}/{origin.record}"
    elif question is not None and question.id != origin.record:
        yield ErrorKind.QUESTION, f"its id is {question.id!a}, its record {origin.record!a}"
    has_phrases = rules is not None and rules.phrases and not is_joined
    if has_phrases:
        yield from _check_phrases(sample, caption, required.clipped)
    elif caption.phrases:
        yield ErrorKind.PHRASE, f"the caption may have none: {origin.dataset}/{origin.record}"


def _check_phrases(sample: Sample, caption: Caption, clipped: bool) -> Iterator[CaptionError]:
    """Yields regions that are not boxes of phrases with their words, and the reverse."""
    boxes_of: dict[Span, set[tuple[float, ...]]] = {}
    for phrase in caption.phrases:
        if not phrase.boxes:
            yield ErrorKind.PHRASE, f"entity {phrase.entity} has no boxes"
        for span in phrase.spans:
            boxes_of.setdefault(span, set()).update(_inside(phrase, sample, clipped))
    named: set[Span] = set()
    for region in caption.regions:
        named.update(region.spans)
        for span in region.spans:
            if span not in boxes_of:
                yield ErrorKind.PHRASE, f"{span}, which a region names, is none"
                return
        if not any(tuple(region.box) in boxes_of[span] for span in region.spans):
            yield ErrorKind.PHRASE, f"no phrase of {region.spans} has the box {region.box}"
            return
    for span, boxes in boxes_of.items():
        if boxes and span not in named:
            yield ErrorKind.PHRASE, f"{span} has boxes, but no region"


def _inside(phrase: Phrase, sample: Sample, clipped: bool) -> Iterator[tuple[float, ...]]:
    """Yields the boxes of a phrase, clipped as those of regions; not those that are then empty."""
    boxes = box_overlap.as_array(phrase.boxes)
    if clipped and sample.width:
        boxes = np.clip(boxes, 0, np.array([sample.width, sample.height] * 2, np.float32))
    for box in boxes.tolist():
        if not clipped or (box[0] < box[2] and box[1] < box[3]):
            yield tuple(box)
