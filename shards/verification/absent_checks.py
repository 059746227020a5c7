"""Checks of the phrases that name nothing in their image."""

from collections import Counter
from collections.abc import Iterator

from schemas import Caption, Sample
from schemas.nouns import head_nouns, present_words
from shards.verification.errors import CaptionError, ErrorKind, VerificationError
from shards.verification.recipe import SampleRequirements
from shards.verification.spans import is_inside


def check_absent(sample: Sample, required: SampleRequirements) -> Iterator[VerificationError]:
    """Yields absent phrases that name what a caption states to be present, or too many of them.

    What a caption states is a subset of what the build compared: it also knows the synonyms and
    the names of scene graphs.
    """
    if not any(caption.absent for caption in sample.captions):
        return
    present = present_words(sample.captions)
    counts: Counter[str] = Counter()
    texts: Counter[str] = Counter()
    for index, caption in enumerate(sample.captions):
        for span in caption.absent:
            counts[span.strength] += 1
            texts[caption.text[slice(*span.span)].casefold()] += 1
        for kind, message in _check_caption(caption, present, required):
            yield VerificationError(kind, message, key=sample.key, caption=index)
    for text, count in texts.items():
        if count > 1:
            message = f"{text!a} is {count} times in the image"
            yield VerificationError(ErrorKind.ABSENT, message, key=sample.key)
    if required.negatives is not None:
        for strength, count in sorted(counts.items()):
            if count > (most := getattr(required.negatives, strength)):
                message = f"{count} {strength} ones, the recipe asks for at most {most}"
                yield VerificationError(ErrorKind.ABSENT, message, key=sample.key)


def _check_caption(
    caption: Caption, present: set[str], required: SampleRequirements
) -> Iterator[CaptionError]:
    text = caption.text
    for phrase in caption.absent:
        start, stop = phrase.span
        if not is_inside(phrase.span, text):
            continue  # reported with the sentences
        words = text[start:stop]
        nouns = head_nouns(words)
        if not nouns:
            yield ErrorKind.ABSENT, f"{words!a} has no noun"
        if named := sorted(nouns & present):
            yield ErrorKind.ABSENT, f"{words!a}, though a caption states that {named[0]!a} is there"
        covered = {i for a, b in caption.tokens_negative for i in range(a, b)}
        if any(i not in covered for i in range(start, stop) if text[i].isalnum()):
            yield ErrorKind.NEGATIVE, f"{caption.tokens_negative} lacks the absent {words!a}"
        if any(a < stop and start < b for region in caption.regions for a, b in region.spans):
            yield ErrorKind.ABSENT, f"{words!a} has a box"
        if (phrase.strength == "proven") != bool(phrase.record):
            yield ErrorKind.ABSENT, f"{words!a} is {phrase.strength}, of record {phrase.record!a}"
        datasets = required.datasets
        is_known = datasets is None or datasets.is_open or phrase.dataset in datasets.rules
        if phrase.strength == "proven" and not is_known:
            yield ErrorKind.DATASET, f"{phrase.dataset!a} of the absent phrase {words!a}"
