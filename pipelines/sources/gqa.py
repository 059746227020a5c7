"""GQA: questions about Visual Genome images, with scene graphs that hold the boxes.

Layout: cs.stanford.edu/people/dorarad/gqa/download.html. Images of train, val and most of test
are Visual Genome's under its ids; ids such as ``n578020`` are COCO test2015 images.
"""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec

from pipelines.captions.spans import consolidate
from pipelines.geometry.boxes import from_xywh
from pipelines.sources.base import Context, Input, Slice, Source
from pipelines.sources.decoding import decode_dict, malformed
from schemas import (
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    Object,
    Question,
    Region,
    Rejected,
    Span,
)

_IMAGE_ID = re.compile(r"n?[0-9]{1,20}")


class _Operation(msgspec.Struct, gc=False):
    operation: str
    argument: str = ""


class _Words(msgspec.Struct, gc=False):
    """Word number, or ``first:stop`` of a range of words -> object id."""

    question: dict[str, str] = {}
    answer: dict[str, str] = {}


class _Types(msgspec.Struct, gc=False):
    semantic: str | None = None
    structural: str | None = None


class _Question(msgspec.Struct, gc=False):
    question: str
    imageId: str  # noqa: N815
    answer: str | None = None
    isBalanced: bool = True  # noqa: N815
    semantic: list[_Operation] = []
    annotations: _Words = msgspec.field(default_factory=_Words)
    types: _Types = msgspec.field(default_factory=_Types)


class _ImageOfQuestion(msgspec.Struct, gc=False):
    imageId: str  # noqa: N815


class _SceneGraphObject(msgspec.Struct, gc=False):
    x: float
    y: float
    w: float
    h: float


class _SceneGraph(msgspec.Struct, gc=False):
    objects: dict[str, _SceneGraphObject]


class _Size(msgspec.Struct, gc=False):
    width: int
    height: int


class Gqa(Source, kw_only=True):
    """GQA's questions as captions whose regions name objects of the scene graphs."""

    namespace: ClassVar[str] = "gqa"

    questions: dict[str, list[str]]  # split -> its question files
    scene_graphs: dict[str, str] = {}  # split -> its scene graphs; none are published for test

    def paths(self) -> list[str]:
        return [
            *(path for paths in self.questions.values() for path in paths),
            *self.scene_graphs.values(),
        ]

    def split_names(self) -> set[str]:
        return {*self.questions, *self.scene_graphs}

    def image_inputs(self) -> list[Input]:
        """The scene graphs, and the question files of the splits that have none."""
        return [
            *(Input(path, "dict") for path in self.scene_graphs.values()),
            *(
                Input(path, "dict", role=split)
                for split, paths in self.questions.items()
                if split not in self.scene_graphs
                for path in paths
            ),
        ]

    def read_images(self, piece: Slice) -> Iterator[ImageInfo | Rejected]:
        # `read` decodes the same records, and reports those that it cannot use: here they are
        # skipped, so that each is reported once.
        sizes: dict[str, _Size]
        if piece.input.role:
            questions, _ = decode_dict(piece.content, _ImageOfQuestion)
            sizes = dict.fromkeys((q.imageId for q in questions.values()), _Size(0, 0))
        else:
            sizes, bad = decode_dict(piece.content, _Size)
            graphs = decode_dict(piece.content, _SceneGraph)[0] if bad else {}
            without_size = [(id_, fault) for id_, fault in bad if id_ in graphs]
            yield from malformed(self.namespace, without_size, piece.input.path)
        for image_id, size in sizes.items():
            if _IMAGE_ID.fullmatch(image_id):
                yield ImageInfo(
                    image_key(image_id), self.namespace, f"{image_id}.jpg", size.width, size.height
                )

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [
            *(
                Input(path, "dict", role=split)
                for split in splits
                for path in self.questions.get(split, [])
            ),
            *(
                Input(self.scene_graphs[split], "dict")
                for split in splits
                if split in self.scene_graphs
            ),
        ]

    def read(self, piece: Slice, context: Context) -> Iterator[ImageRecord | Rejected]:
        if piece.input.role:
            boxed = piece.input.role in self.scene_graphs
            yield from _read_questions(piece, boxed, find=context.rules.gqa_words == "find")
        else:
            yield from _read_scene_graphs(piece)


def image_key(image_id: str) -> str:
    """The key of an image by its id in GQA's files.

    >>> image_key("2320633"), image_key("n578020")
    ('vg/2320633', 'coco/578020')
    """
    return f"coco/{image_id[1:]}" if image_id.startswith("n") else f"vg/{image_id}"


def _read_scene_graphs(piece: Slice) -> Iterator[ImageRecord | Rejected]:
    # What is lost here are boxes: their questions are counted when they do not find them.
    graphs, bad = decode_dict(piece.content, _SceneGraph)
    yield from malformed("gqa", bad, piece.input.path, records=0)
    for image_id, graph in graphs.items():
        if not _IMAGE_ID.fullmatch(image_id):
            yield Rejected("gqa", image_id, "bad image id", Path(piece.input.path).name, records=0)
            continue
        objects = {
            id_: Object(from_xywh(obj.x, obj.y, obj.w, obj.h), area=obj.h * obj.w)
            for id_, obj in graph.objects.items()
        }
        yield ImageRecord(image_key(image_id), "gqa", "", objects=objects)


def _read_questions(piece: Slice, boxed: bool, find: bool) -> Iterator[ImageRecord | Rejected]:
    """``boxed``: there are scene graphs, which hold the objects that a question names."""
    questions, bad = decode_dict(piece.content, _Question)
    yield from malformed("gqa", bad, piece.input.path)
    parts: dict[str, ImageRecord] = {}
    for id_, question in questions.items():
        image_id, text = question.imageId, question.question
        if not _IMAGE_ID.fullmatch(image_id):
            yield Rejected("gqa", id_, "bad image id", image_id)
            continue
        if not text.strip():
            yield Rejected("gqa", id_, "no words", repr(text), image_key(image_id))
            continue
        try:
            regions = (_found_regions if find else _named_regions)(question) if boxed else []
        except ValueError:
            detail = f"{list(question.annotations.question)} in {text!r}"
            yield Rejected("gqa", id_, "no such words", detail, image_key(image_id))
            continue
        part = parts.get(image_id)
        if part is None:
            part = parts[image_id] = ImageRecord(image_key(image_id), "gqa", piece.input.role)
        part.captions.append(
            GroundedCaption(
                text,
                regions,
                negative=[(0, len(text))],
                dataset="gqa",
                record=id_,
                question=Question(
                    id_,
                    question.answer,
                    question.types.semantic,
                    question.types.structural,
                    question.isBalanced,
                ),
            )
        )
    yield from parts.values()


# --- words of an object ---------------------------------------------------------------------------

_WORD = re.compile(r"\S+")
_QUESTION_WORD = re.compile(r"\b(?:what|which|who|where)\b", re.IGNORECASE)


def _named_regions(question: _Question) -> list[Region]:
    """One region for each object that words of the question name, with all of these words.

    An object's words are those of the annotation; else, if the program of the question selects
    it or relates something to it, its name where that stands in the question and speaks of no
    other object yet; else, if it is the answer, the question word.
    """
    text = question.question
    spans: dict[str, list[Span]] = {}
    for span, id_ in _annotated_spans(question, text):
        spans.setdefault(id_, []).append(span)
    for operation in question.semantic:
        name, id_ = _named_object(operation.argument)
        if id_ and id_ not in spans:
            place = _place(name, text, spans)
            if place:
                spans[id_] = [place]
    answers = [id_ for id_ in question.annotations.answer.values() if id_ not in spans]
    if answers:
        question_word = _QUESTION_WORD.search(text)
        if question_word:
            spans.update((id_, [question_word.span()]) for id_ in answers)
    regions = (Region(consolidate(places, text), object=id_) for id_, places in spans.items())
    return [region for region in regions if region.spans]


def _annotated_spans(question: _Question, text: str) -> list[tuple[Span, str]]:
    """Where the annotated words are in ``text``, and whose they are.

    Raises ``ValueError`` for words that ``text`` does not have.
    """
    annotated = question.annotations.question
    if not annotated:
        return []
    words = [match.span() for match in _WORD.finditer(text)]
    spans = []
    for key, id_ in annotated.items():
        first, stop = _word_range(key, len(words))
        spans.append(((words[first][0], words[stop - 1][1]), id_))
    return spans


def _word_range(key: str, words: int) -> tuple[int, int]:
    """``"3"`` is (3, 4) and ``"6:8"`` is (6, 8). Raises ``ValueError`` outside of ``words``."""
    first, colon, last = key.partition(":")
    start = int(first)
    stop = int(last) if colon else start + 1
    if not 0 <= start < stop <= words:
        raise ValueError(f"words {key} of {words}")
    return start, stop


def _named_object(argument: str) -> tuple[str, str]:
    """Name and id in an operation's argument, empty where it has none.

    >>> _named_object("traffic light (3855001)"), _named_object("cart,near,s (1039872)")
    (('traffic light', '3855001'), ('cart', '1039872'))
    >>> _named_object("_,wearing,o (1000107)"), _named_object("scene"), _named_object("dog (-)")
    (('', '1000107'), ('', ''), ('', ''))
    """
    if not argument.endswith(")"):
        return "", ""
    head, _, id_ = argument[:-1].rpartition("(")
    if not id_.isdecimal():
        return "", ""
    name = head.partition(",")[0].strip()
    return ("" if name == "_" else name), id_


def _place(name: str, text: str, taken: dict[str, list[Span]]) -> Span | None:
    """The first place of a name, as whole words, that is not part of another object's words."""
    if not name:
        return None
    for match in _name_pattern(name).finditer(text):
        start, stop = match.span()
        if all(stop <= a or b <= start for places in taken.values() for a, b in places):
            return start, stop
    return None


@functools.lru_cache(maxsize=4096)
def _name_pattern(name: str) -> re.Pattern[str]:
    """A name as whole words, in any case, its last word in the singular or the regular plural.

    >>> [bool(_name_pattern(name).search("the buses")) for name in ("bus", "buses", "us")]
    [True, True, False]
    """
    forms = {name, f"{name}s", f"{name}es"}
    if name.endswith("y"):
        forms.add(f"{name[:-1]}ies")
    for ending, singular in (("ies", "y"), ("es", ""), ("s", "")):
        if name.endswith(ending) and len(name) > len(ending) + 1:
            forms.add(name.removesuffix(ending) + singular)
    longest_first = sorted(forms, key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)


# --- words as the published scripts find them -----------------------------------------------------

_DIGITS = re.compile(r"[0-9]+")
_LETTERS = re.compile(r"[A-z]+")  # with the six characters between Z and a
_FOUND_QUESTION_WORDS = ("What", "what", "Who", "who", "Where", "where")


def _found_regions(question: _Question) -> list[Region]:
    """The regions of the published scripts, of which several may name one object.

    A name is where its first word's letters first occur, within another word too; one that does
    not occur gets the span from -1 on. What stands at the same span replaces what stood there.
    """
    text = question.question
    annotated = _annotated_spans(question, " ".join(text.split()))
    known = set(question.annotations.question.values())
    found: dict[Span, str] = {}
    for operation in question.semantic:
        if operation.operation != "select":
            continue
        id_, name = _DIGITS.search(operation.argument), _LETTERS.search(operation.argument)
        if id_ and name and id_[0] not in known:
            found[_found(name[0], text)] = id_[0]
    known.update(found.values())
    question_word = next((word for word in _FOUND_QUESTION_WORDS if word in text), None)
    if question_word:
        for answer in question.annotations.answer.values():
            if answer not in known:
                found[_found(question_word, text)] = answer
    return [
        Region(consolidate([_wrapped(span, text)], text), object=id_)
        for span, id_ in [*annotated, *found.items()]
    ]


def _wrapped(span: Span, text: str) -> Span:
    """A span from -1 on as indexing reads it: behind a final question mark the text begins anew."""
    ends_in_mark = not text[-1].isalnum()
    return (0, span[1]) if span[0] == -1 and ends_in_mark else span


def _found(words: str, text: str) -> Span:
    start = text.find(words)
    return start, start + len(words)
