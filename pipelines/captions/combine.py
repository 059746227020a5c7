"""Combines sentences of one image into captions: colors the graph of their conflicts.

A caption is a set of sentences without conflicts whose joined text fits (MDETR, section 4.1 and
appendix A). Sentences are nodes, conflicts edges, captions colors.
"""

from collections.abc import Iterator, Sequence
from random import Random

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
    phrases are captions with ``absent``; they change nothing in how sentences are combined.
    """
    separate: list[Caption] = []
    joinable: list[Caption] = []
    absent: list[Caption] = []
    for caption in captions:
        is_flickr30k = any(origin.dataset == "flickr30k" for origin in caption.provenance)
        if caption.absent:
            absent.append(caption)
        elif is_flickr30k and rules.flickr30k == "separate":
            separate.append(caption)
        else:
            joinable.append(caption)
    groups = [group for run in _runs(joinable) for group in _combine(run, rules)]
    if absent:
        _add_absent(groups, absent, rules)
    return separate + [join(group) for group in groups]


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


def _combine(captions: Sequence[Caption], rules: CaptionRules) -> list[list[Caption]]:
    sizes, capacity = _sizes(captions, rules), _capacity(rules)
    color = best if rules.coloring == "best" else first_fit
    groups = color(sizes, conflict_graph(captions, rules), capacity)
    return [[captions[i] for i in group] for group in groups]


def _sizes(captions: Sequence[Caption], rules: CaptionRules) -> list[int]:
    """Returns how much of the capacity of a caption each sentence takes."""
    if rules.length == "joined":
        return [len(as_sentence(c.text)) + 1 for c in captions]  # with one space
    return [len(c.text) for c in captions]


def _capacity(rules: CaptionRules) -> int:
    # Each sentence is counted with one space, so that of joined ones includes one space more.
    return rules.max_length if rules.length == "joined" else rules.max_length - 2


def _add_absent(
    groups: list[list[Caption]], absent: Sequence[Caption], rules: CaptionRules
) -> None:
    """Adds each absent phrase to the parts of a random caption, or as a caption of its own.

    All captions that have room are as likely, and so are all places in one, so that neither tells
    a model what is absent. They are a function of the texts.
    """
    rng = Random("\n".join(caption.text for group in (*groups, absent) for caption in group))
    sizes = [sum(_sizes(group, rules)) for group in groups]
    for phrase, size in zip(absent, _sizes(absent, rules), strict=True):
        roomy = [i for i, used in enumerate(sizes) if used + size <= _capacity(rules)]
        chosen = rng.choice([*roomy, len(groups)])
        if chosen == len(groups):
            groups.append([])
            sizes.append(0)
        groups[chosen].insert(rng.randint(0, len(groups[chosen])), phrase)
        sizes[chosen] += size


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
