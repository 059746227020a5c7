"""GQA: questions about images of Visual Genome, and scene graphs with the boxes of objects.

Layout: cs.stanford.edu/people/dorarad/gqa/download.html. Images of train, val and most of test
have their ids of Visual Genome; ids such as ``n578020`` are images of COCO test2015.
"""

import functools
import re
from collections.abc import Callable, Iterator
from typing import ClassVar

import msgspec

from pipelines.captions.spans import consolidate
from pipelines.dedup.joins import TableIds
from pipelines.geometry.boxes import from_xywh
from pipelines.io.archives import file_name
from pipelines.io.json_records import decode_dict, reject_malformed
from pipelines.io.slices import Input, Slice
from pipelines.sources.base import Context, SliceItem, Source
from schemas import (
    AbsentPhrase,
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    Object,
    ObjectRegion,
    Question,
    RawCounts,
    Rejected,
    Span,
)
from schemas.graphemes import is_within_word
from schemas.image_ids import ImageIdError, RawId, image_key
from schemas.limits import MAX_CAPTION_BOXES, MAX_CHARACTERS, MAX_NAME_CHARACTERS
from shards.terminal import count_noun


class _Operation(msgspec.Struct, gc=False):
    operation: str
    argument: str = ""


class _Program(msgspec.Struct, gc=False):
    """What a question asks, as steps that depend on earlier ones."""

    answer: str | None = None
    semantic: list["_Step"] = []


class _Step(_Operation, gc=False):
    dependencies: list[int] = []


class _Annotations(msgspec.Struct, gc=False):
    """Word number, or ``first:stop`` of a range of words -> object id."""

    question: dict[str, int | float | str] = {}
    answer: dict[str, int | float | str] = {}


class _Types(msgspec.Struct, gc=False):
    semantic: str | None = None
    structural: str | None = None


class _Question(msgspec.Struct, gc=False):
    question: str
    imageId: int | float | str  # noqa: N815
    answer: str | None = None
    isBalanced: bool = True  # noqa: N815
    semantic: list[_Operation] = []
    annotations: _Annotations = msgspec.field(default_factory=_Annotations)
    types: _Types = msgspec.field(default_factory=_Types)


class _QuestionImage(msgspec.Struct, gc=False):
    imageId: int | float | str  # noqa: N815


class _SceneGraphObject(msgspec.Struct, gc=False):
    x: float
    y: float
    w: float
    h: float


class _SceneGraph(msgspec.Struct, gc=False):
    objects: dict[str, _SceneGraphObject]


class _Named(msgspec.Struct, gc=False):
    name: str = ""


class _NamedObjects(msgspec.Struct, gc=False):
    objects: dict[str, _Named] = {}


class _Size(msgspec.Struct, gc=False):
    width: int
    height: int


#: The regions of a question, and how many objects it refers to with characters that are no words.
_Regions = tuple[list[ObjectRegion], int]


class Gqa(Source, kw_only=True):
    """GQA's questions as captions whose regions refer to objects of the scene graphs."""

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

    def image_ids(self) -> TableIds:
        # Its images of COCO are of test2015, which no other dataset has.
        return {"vg": frozenset(), "coco": None}

    def image_tables(self) -> list[Input]:
        """Returns the scene graphs, and the question files of the splits that have none."""
        return [
            *(Input(path, "dict") for path in self.scene_graphs.values()),
            *(
                Input(path, "dict", role=split)
                for split, paths in self.questions.items()
                if split not in self.scene_graphs
                for path in paths
            ),
        ]

    def read_image_table(self, raw_slice: Slice) -> Iterator[ImageInfo | Rejected]:
        # `read` decodes the same records, and reports those that it cannot use.
        sizes: dict[str, _Size]
        if raw_slice.input.role:
            questions, _ = decode_dict(raw_slice.content, _QuestionImage)
            sizes = dict.fromkeys((str(q.imageId) for q in questions.values()), _Size(0, 0))
        else:
            sizes, bad = decode_dict(raw_slice.content, _Size)
            graphs = decode_dict(raw_slice.content, _SceneGraph)[0] if bad else {}
            bad_sizes = [record for record in bad if record.key in graphs]
            yield from reject_malformed(self.namespace, bad_sizes, raw_slice.input.path)
        for image_id, size in sizes.items():
            if key := _key(image_id):
                yield ImageInfo(
                    key=key,
                    source=self.namespace,
                    file=_file_name(key),
                    width=size.width,
                    height=size.height,
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

    def read(self, raw_slice: Slice, context: Context) -> Iterator[SliceItem]:
        split = raw_slice.input.role
        if not split:
            yield from _read_scene_graphs(raw_slice, context.negatives)
            return
        regions_of: Callable[[_Question], _Regions] = _no_regions
        if split in self.scene_graphs:  # they hold the objects that a question refers to
            published = context.rules.gqa_words == "find"
            regions_of = _published_regions if published else _object_regions
        absent: _AbsentByImage = _absent_phrases(raw_slice) if context.negatives else {}
        yield from _read_questions(raw_slice, regions_of, absent)


def _read_scene_graphs(raw_slice: Slice, with_names: bool) -> Iterator[ImageRecord | Rejected]:
    # A bad graph is not counted as a record: the questions that lack its boxes are.
    graphs, bad = decode_dict(raw_slice.content, _SceneGraph)
    yield from reject_malformed("gqa", bad, raw_slice.input.path, records=0)
    named = decode_dict(raw_slice.content, _NamedObjects)[0] if with_names else {}
    for image_id, graph in graphs.items():
        key = _key(image_id)
        if not key:
            file = file_name(raw_slice.input.path)
            yield Rejected("gqa", image_id, "bad image id", file, records=0)
            continue
        objects = {
            id_: Object(from_xywh(obj.x, obj.y, obj.w, obj.h), area=obj.h * obj.w)
            for id_, obj in graph.objects.items()
        }
        names: list[str] = []
        if image_id in named:
            names = sorted({obj.name for obj in named[image_id].objects.values()})
        yield ImageRecord(key, "gqa", "", objects=objects, names=names)


def _key(image_id: RawId) -> str:
    """Returns the key of an image; empty if it has no valid id."""
    try:
        return image_key("gqa", image_id)
    except ImageIdError:
        return ""


def _file_name(key: str) -> str:
    """Returns the name of an image's file: COCO's ids have an "n" in GQA."""
    namespace, _, id_ = key.partition("/")
    return f"n{id_}.jpg" if namespace == "coco" else f"{id_}.jpg"


def _read_questions(
    raw_slice: Slice, regions_of: Callable[[_Question], _Regions], absent: "_AbsentByImage"
) -> Iterator[SliceItem]:
    questions, bad = decode_dict(raw_slice.content, _Question)
    yield from reject_malformed("gqa", bad, raw_slice.input.path)
    boxes = 0
    records = {
        key: ImageRecord(key, "gqa", raw_slice.input.role, absent=phrases)
        for key, phrases in absent.items()
    }
    for id_, question in questions.items():
        key, text = _key(question.imageId), question.question
        if not key:
            yield Rejected("gqa", id_, "bad image id", str(question.imageId))
            continue
        if not text.strip():
            yield Rejected("gqa", id_, "no words", ascii(text[:100]), key)
            continue
        if len(text) > MAX_CHARACTERS:
            yield Rejected("gqa", id_, "text too long", f"{len(text)} characters", key)
            continue
        objects = _object_count(question)
        if objects > MAX_CAPTION_BOXES:
            yield Rejected("gqa", id_, "too many objects", str(objects), key)
            continue
        try:
            regions, without_words = regions_of(question)
        except ValueError:
            detail = f"{list(question.annotations.question)} in {text!r}"
            yield Rejected("gqa", id_, "no such words", detail, key)
            continue
        boxes += len(regions) + without_words
        if without_words:
            detail = f"of {count_noun(without_words, 'object')} in {text!r}"
            yield Rejected("gqa", id_, "no words", detail, key, int(not regions), without_words)
            if not regions:
                continue
        record = records.setdefault(key, ImageRecord(key, "gqa", raw_slice.input.role))
        record.captions.append(
            GroundedCaption(
                text=text,
                regions=[],
                object_regions=regions,
                tokens_negative=[(0, len(text))],
                dataset="gqa",
                record=id_,
                question=Question(
                    id=id_,
                    answer=question.answer,
                    semantic_type=question.types.semantic,
                    structural_type=question.types.structural,
                    balanced=question.isBalanced,
                ),
            )
        )
    yield from records.values()
    yield RawCounts("gqa", captions=len(questions) + len(bad), boxes=boxes)


def _object_count(question: _Question) -> int:
    """Returns how many mentions of objects a question has at most."""
    annotations = question.annotations
    return len(annotations.question) + len(annotations.answer) + len(question.semantic)


# --- phrases that an answer denies ----------------------------------------------------------------

_AbsentByImage = dict[str, list[AbsentPhrase]]

_PHRASE = re.compile(r"[^\W\d_]+(?:[ -][^\W\d_]+)*")
#: Properties that are written before a noun, by the step of a program that asks for them.
_ADJECTIVE_STEPS = frozenset(("filter color", "filter material", "filter shape", "filter size"))


def _absent_phrases(raw_slice: Slice) -> _AbsentByImage:
    """Returns the phrases that the questions of each image prove to be absent."""
    questions, _ = decode_dict(raw_slice.content, _QuestionImage)
    programs, _ = decode_dict(raw_slice.content, _Program)
    absent: _AbsentByImage = {}
    for id_, program in programs.items():
        key = _key(questions[id_].imageId) if id_ in questions else ""
        if key:
            absent.setdefault(key, []).extend(
                AbsentPhrase(phrase, "gqa", id_, "answered no") for phrase in _denied(program)
            )
    return {key: phrases for key, phrases in absent.items() if phrases}


def _denied(program: _Program) -> Iterator[str]:
    """Yields the phrases that name nothing in the image, as the answer of a program proves.

    Only a "no" to whether objects exist proves that: "Is the ball red?" proves nothing about other
    balls, and "Is the dog left of the cat?" nothing about either. A "no" to "Is there a dog or a
    cat?" denies both; to "Are there both?", one of them, which is known if the scene graph has the
    other. The scene graph must not have the object either: it is written ``dog (-)``.

    >>> steps = [_Step("select", "dog (-) "), _Step("exist", "?", [0])]
    >>> list(_denied(_Program("no", steps))), list(_denied(_Program("yes", steps)))
    (['dog'], [])
    """
    steps = program.semantic
    if program.answer != "no" or not steps:
        return
    last = len(steps) - 1
    operands = _earlier(steps, last) if steps[last].operation in ("or", "and") else [last]
    if not all(steps[i].operation == "exist" for i in operands):
        return
    if steps[last].operation == "and":
        operands = [i for i in operands if not _is_selected(steps, i)]
        if len(operands) != 1:
            return
    for operand in operands:
        if phrase := _missing_phrase(steps, operand):
            yield phrase


def _earlier(steps: list[_Step], step: int) -> list[int]:
    """Returns the steps that a step depends on, without those that are not before it."""
    return [i for i in steps[step].dependencies if 0 <= i < step]


def _is_selected(steps: list[_Step], exist: int) -> bool:
    """Returns whether an object that the scene graph has is all that a step asks for."""
    selected = _earlier(steps, exist)
    return (
        len(selected) == 1
        and steps[selected[0]].operation == "select"
        and bool(_parse_argument(steps[selected[0]].argument)[1])
    )


def _missing_phrase(steps: list[_Step], exist: int) -> str:
    """Returns the adjectives and the noun of what does not exist; empty if it is no such phrase."""
    adjectives: list[str] = []
    earlier = _earlier(steps, exist)
    while len(earlier) == 1:
        step = steps[earlier[0]]
        if step.operation == "select":
            name, missing, rest = step.argument.partition("(-)")
            phrase = " ".join([*adjectives, name.strip()])
            is_missing = bool(missing) and not rest.strip() and bool(name.strip())
            return phrase if is_missing and _PHRASE.fullmatch(phrase) else ""
        if step.operation not in _ADJECTIVE_STEPS:
            return ""
        adjectives.append(step.argument.strip())
        earlier = _earlier(steps, earlier[0])
    return ""


# --- the words of an object -----------------------------------------------------------------------

_WORD = re.compile(r"\S+")
_QUESTION_WORD = re.compile(r"\b(?:what|which|who|where)\b", re.IGNORECASE)


def _no_regions(question: _Question) -> _Regions:
    return [], 0


def _object_regions(question: _Question) -> _Regions:
    """Returns a region for each object that the question names, with all words that name it.

    The words of an object are the annotated ones. If there are none, and the question's program
    selects or relates the object, its words are its name, if it occurs in the question outside the
    words of other objects. An answer without words has the question word.

    Raises:
        ValueError: the question does not have the annotated words.
    """
    text = question.question
    names = _Names(text)
    spans: dict[str, list[Span]] = {}
    for span, id_ in _annotated_spans(question, text):
        spans.setdefault(id_, []).append(span)
        names.take(span)
    for operation in question.semantic:
        name, id_ = _parse_argument(operation.argument)
        if id_ and id_ not in spans:
            name_span = names.find(name)
            if name_span:
                spans[id_] = [name_span]
                names.take(name_span)
    answered = _object_ids(question.annotations.answer)
    answers = [id_ for id_ in answered.values() if id_ not in spans]
    if answers:
        question_word = _QUESTION_WORD.search(text)
        if question_word:
            spans.update((id_, [question_word.span()]) for id_ in answers)
    regions = (
        ObjectRegion(consolidate(object_spans, text), id_) for id_, object_spans in spans.items()
    )
    named = [region for region in regions if region.spans]
    return named, len(spans) - len(named)


def _object_ids(annotated: dict[str, int | float | str]) -> dict[str, str]:
    """Returns annotations with ids as the scene graphs have them: as text without a fraction."""
    return {
        words: str(int(id_)) if isinstance(id_, float) and id_.is_integer() else str(id_)
        for words, id_ in annotated.items()
    }


def _annotated_spans(question: _Question, text: str) -> list[tuple[Span, str]]:
    """Returns the spans of the annotated words in ``text``, each with the id of its object.

    Raises:
        ValueError: ``text`` does not have the words.
    """
    annotated = _object_ids(question.annotations.question)
    if not annotated:
        return []
    words = [match.span() for match in _WORD.finditer(text)]
    spans = []
    for key, id_ in annotated.items():
        first, stop = _parse_word_range(key, len(words))
        spans.append(((words[first][0], words[stop - 1][1]), id_))
    return spans


def _parse_word_range(key: str, word_count: int) -> tuple[int, int]:
    """Returns (3, 4) for ``"3"`` and (6, 8) for ``"6:8"``; raises ``ValueError`` out of range."""
    first, colon, last = key.partition(":")
    start = int(first)
    stop = int(last) if colon else start + 1
    if not 0 <= start < stop <= word_count:
        raise ValueError(f"words {key} of {word_count}")
    return start, stop


def _parse_argument(argument: str) -> tuple[str, str]:
    """Returns the name and the id of the object in an operation's argument, empty if there is none.

    >>> _parse_argument("traffic light (3855001)"), _parse_argument("cart,near,s (1039872)")
    (('traffic light', '3855001'), ('cart', '1039872'))
    >>> _parse_argument("_,wearing,o (1000107)"), _parse_argument("scene")
    (('', '1000107'), ('', ''))
    >>> _parse_argument("dog (-)")
    ('', '')
    """
    if not argument.endswith(")"):
        return "", ""
    head, _, id_ = argument[:-1].rpartition("(")
    if not id_.isdecimal():
        return "", ""
    name = head.partition(",")[0].strip()
    return ("" if name == "_" else name), id_


class _Names:
    """Finds names in a text, as whole words, outside the words of other objects.

    A word that was found or taken stays taken, so the search for a name goes on from where that for
    the same name ended: time grows with the text and the number of different names.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._is_taken = bytearray(len(text))  # by character
        self._rest: dict[str, Iterator[Span]] = {}  # by pattern, the occurrences from there on

    def take(self, span: Span) -> None:
        """Marks the words of an object."""
        start, stop = span
        self._is_taken[start:stop] = b"\1" * (stop - start)

    def find(self, name: str) -> Span | None:
        """Returns the first span of a name, none of whose characters is taken."""
        if not 0 < len(name) <= MAX_NAME_CHARACTERS:
            return None
        pattern = _name_pattern(name)
        rest = self._rest.setdefault(pattern.pattern, self._occurrences(pattern))
        return next((span for span in rest if not any(self._is_taken[slice(*span)])), None)

    def _occurrences(self, pattern: re.Pattern[str]) -> Iterator[Span]:
        text = self._text
        for match in pattern.finditer(text):
            start, stop = match.span()
            # \b also ends before an accent.
            if not is_within_word(text, start) and not is_within_word(text, stop):
                yield start, stop


@functools.lru_cache(maxsize=4096)
def _name_pattern(name: str) -> re.Pattern[str]:
    """Returns a case-insensitive pattern of a name as whole words, in singular or regular plural.

    >>> [bool(_name_pattern(name).search("the buses")) for name in ("bus", "buses", "us")]
    [True, True, False]
    """
    forms = {name, f"{name}s", f"{name}es"}
    if name.endswith("y"):
        forms.add(f"{name[:-1]}ies")
    for ending, singular in (("ies", "y"), ("es", ""), ("s", "")):
        if name.endswith(ending) and len(name) > len(ending) + 1:
            forms.add(name.removesuffix(ending) + singular)
    lower = {_lower(form) for form in forms}  # equal for "Dog" and "dog"
    longest_first = sorted(lower, key=lambda form: (-len(form), form))
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)


def _lower(text: str) -> str:
    """Returns a text in lower case, with as many characters: not that of a dotted capital I."""
    return "".join(lower if len(lower := char.lower()) == 1 else char for char in text)


# --- the words of an object in the published scripts ----------------------------------------------

_DIGITS = re.compile(r"[0-9]+")
_LETTERS = re.compile(r"[A-z]+")  # including the six characters between Z and a
_PUBLISHED_QUESTION_WORDS = ("What", "what", "Who", "who", "Where", "where")


def _published_regions(question: _Question) -> _Regions:
    """Returns the regions of the published scripts, of which several may refer to one object.

    A name is where the letters of its first word first occur, even inside another word; a name that
    does not occur gets the span from -1 on. A later object replaces an earlier one with the same
    span.

    Raises:
        ValueError: the question does not have the annotated words.
    """
    text = question.question
    annotated_spans = _annotated_spans(question, " ".join(text.split()))
    known_ids = set(_object_ids(question.annotations.question).values())
    id_by_span: dict[Span, str] = {}
    for operation in question.semantic:
        if operation.operation != "select":
            continue
        id_, name = _DIGITS.search(operation.argument), _LETTERS.search(operation.argument)
        if id_ and name and id_[0] not in known_ids:
            id_by_span[_find(name[0], text)] = id_[0]
    known_ids.update(id_by_span.values())
    question_word = next((word for word in _PUBLISHED_QUESTION_WORDS if word in text), None)
    if question_word:
        for answer in _object_ids(question.annotations.answer).values():
            if answer not in known_ids:
                id_by_span[_find(question_word, text)] = answer
    regions = [
        ObjectRegion(consolidate([_wrap(span, text)], text), id_)
        for span, id_ in [*annotated_spans, *id_by_span.items()]
    ]
    return regions, 0


def _find(words: str, text: str) -> Span:
    """Returns the first span of ``words``, from -1 on if they do not occur."""
    start = text.find(words)
    return start, start + len(words)


def _wrap(span: Span, text: str) -> Span:
    """Reads a start of -1 as Python indexes do: the last character, then the text from its start.

    If the last character is a question mark, only the text from its start remains.
    """
    ends_in_mark = not text[-1].isalnum()
    return (0, span[1]) if span[0] == -1 and ends_in_mark else span
