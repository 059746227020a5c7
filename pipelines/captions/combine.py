"""Combines sentences of one image into captions: colors the graph of their conflicts.

A caption is a set of sentences without conflicts whose joined text fits (MDETR, section 4.1 and
appendix A). Sentences are nodes, conflicts edges, captions colors.
"""

from collections.abc import Iterator, Sequence

import msgspec

from pipelines.captions.conflicts import conflict_graph
from pipelines.captions.graph_coloring import best, first_fit
from pipelines.captions.rules import CaptionRules
from pipelines.captions.spans import consolidate, shift
from schemas import AbsentSpan, Caption, Provenance, Region, Span
from schemas.sentences import as_sentence, join_sentences

#: The most sentences and boxes of one image that are combined at once. An image with more of them,
#: which no published dataset has, is combined in several runs of its sentences: time and memory
#: grow with the square of these numbers.
MAX_SENTENCES = 5_000
MAX_BOXES = 10_000


def combine(captions: Sequence[Caption], rules: CaptionRules) -> list[Caption]:
    """Joins the one-sentence captions of an image into longer captions.

    Under ``length = "joined"`` every sentence must be shorter than ``max_length`` by itself. Absent
    phrases are captions without provenance and without boxes, which conflict with no other; they
    come after the sentences of their caption.
    """
    separate: list[Caption] = []
    joinable: list[Caption] = []
    for caption in captions:
        is_flickr30k = any(origin.dataset == "flickr30k" for origin in caption.provenance)
        is_separate = is_flickr30k and rules.flickr30k == "separate"
        (separate if is_separate else joinable).append(caption)
    return separate + [
        joined for captions in _runs(joinable) for joined in _combine(captions, rules)
    ]


def _runs(captions: Sequence[Caption]) -> Iterator[list[Caption]]:
    """Yields successive captions, up to `MAX_SENTENCES` and `MAX_BOXES` of them, or one caption."""
    run: list[Caption] = []
    boxes = 0
    for caption in captions:
        boxes += len(caption.regions)
        if run and (len(run) == MAX_SENTENCES or boxes > MAX_BOXES):
            yield run
            run, boxes = [], len(caption.regions)
        run.append(caption)
    if run:
        yield run


def _combine(captions: Sequence[Caption], rules: CaptionRules) -> list[Caption]:
    conflicts = conflict_graph(captions, rules)
    if rules.length == "joined":
        # Each sentence is counted with one space, so the capacity includes one space more.
        sizes, capacity = [len(as_sentence(c.text)) + 1 for c in captions], rules.max_length
    else:
        sizes, capacity = [len(c.text) for c in captions], rules.max_length - 2
    color = best if rules.coloring == "best" else first_fit
    groups = color(sizes, conflicts, capacity)
    return [join(_absent_last([captions[i] for i in group])) for group in groups]


def _absent_last(captions: Sequence[Caption]) -> list[Caption]:
    return sorted(captions, key=lambda caption: bool(caption.absent))  # in their order otherwise


def join(captions: Sequence[Caption]) -> Caption:
    """Joins captions into one, with the spans shifted to their sentence's offset."""
    regions: list[Region] = []
    tokens_negative: list[Span] = []
    provenance: list[Provenance] = []
    absent: list[AbsentSpan] = []
    offset = 0
    for caption in captions:
        for region in caption.regions:
            spans = shift(region.spans, offset)
            regions.append(msgspec.structs.replace(region, spans=spans))
        tokens_negative += shift(consolidate(caption.tokens_negative, caption.text), offset)
        for origin in caption.provenance:
            [span] = shift([origin.span], offset)
            provenance.append(msgspec.structs.replace(origin, span=span))
        for phrase in caption.absent:
            [span] = shift([phrase.span], offset)
            absent.append(msgspec.structs.replace(phrase, span=span))
        offset += len(as_sentence(caption.text)) + 1
    text = join_sentences(caption.text for caption in captions)
    return Caption(text, regions, tokens_negative, provenance, absent=absent)
