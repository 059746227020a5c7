"""Images with boxes: the annotation beside the prediction, and the captions of a word change."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from mdetr_model.report.results import GroundedCaption
from mdetr_model.report.word_change import ChangedCaption, WordChange
from schemas import Box, Region
from shards.evenly_spaced import evenly_spaced
from shards.inspection.caption_markup import BoxOutline, MarkedCaption, mark_caption
from shards.inspection.images import thumbnail_url
from shards.reading.reader import ShardReader

IMAGES = 12
WORD_CHANGES = 6


class SetImage(NamedTuple):
    """An image of the shard set; ``source`` is a ``data:`` URL, '' if there is no image."""

    key: str
    width: int
    height: int
    source: str
    error: str


class GroundingFigure(NamedTuple):
    """An image with a caption, its annotated boxes, and the predicted ones in the same colors."""

    image: SetImage
    annotated: MarkedCaption
    predicted: MarkedCaption
    phrases: int
    right_phrases: int


class ChangedFigure(NamedTuple):
    """A caption as the text before the changed word, the word and the text after it.

    ``outlines`` are the annotated boxes, which have no color, and the predicted one.
    """

    before: str
    word: str
    after: str
    color: int
    outlines: list[BoxOutline]
    is_right: bool


class WordChangeFigure(NamedTuple):
    """An image with two captions that differ in one word."""

    image: SetImage
    captions: tuple[ChangedFigure, ChangedFigure]


def grounding_figures(
    captions: Sequence[GroundedCaption], reader: ShardReader
) -> list[GroundingFigure]:
    """Returns images evenly spaced over the split, each with the caption of the most phrases."""
    of_image: dict[str, GroundedCaption] = {}
    for caption in captions:
        longest = of_image.setdefault(caption.key, caption)
        if len(caption.phrases) > len(longest.phrases):
            of_image[caption.key] = caption
    return [_figure(c, reader) for c in evenly_spaced(list(of_image.values()), IMAGES)]


def word_change_figures(
    changes: Sequence[WordChange], reader: ShardReader
) -> list[WordChangeFigure]:
    """Returns pairs of captions evenly spaced over all pairs."""
    return [
        WordChangeFigure(
            _image(change.first.caption, reader),
            (_changed_figure(change.first, color=0), _changed_figure(change.second, color=1)),
        )
        for change in evenly_spaced(changes, WORD_CHANGES)
    ]


def _figure(caption: GroundedCaption, reader: ShardReader) -> GroundingFigure:
    annotated = [Region(phrase.spans, box) for phrase in caption.phrases for box in phrase.boxes]
    predicted = [Region(phrase.spans, phrase.predicted) for phrase in caption.phrases]
    return GroundingFigure(
        image=_image(caption, reader),
        annotated=mark_caption(replace(caption.caption, regions=annotated)),
        predicted=mark_caption(replace(caption.caption, regions=predicted)),
        phrases=len(caption.phrases),
        right_phrases=sum(phrase.is_right for phrase in caption.phrases),
    )


def _changed_figure(changed: ChangedCaption, color: int) -> ChangedFigure:
    text, (begin, end) = changed.caption.caption.text, changed.word
    phrase = changed.phrase
    return ChangedFigure(
        before=text[:begin],
        word=text[begin:end],
        after=text[end:],
        color=color,
        outlines=[
            *(_outline(i, box, None, "annotated") for i, box in enumerate(phrase.boxes)),
            _outline(len(phrase.boxes), phrase.predicted, color, "predicted"),
        ],
        is_right=phrase.is_right,
    )


def _outline(index: int, box: Box, color: int | None, title: str) -> BoxOutline:
    x0, y0, x1, y1 = box
    return BoxOutline(
        x=x0,
        y=y0,
        width=x1 - x0,
        height=y1 - y0,
        number=None,
        color=color,
        phrase=title,
        region=index,
    )


def _image(caption: GroundedCaption, reader: ShardReader) -> SetImage:
    source, error = thumbnail_url(reader, caption.shard, caption.row)
    return SetImage(caption.key, caption.width, caption.height, source, error)
