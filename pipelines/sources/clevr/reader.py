"""The source CLEVR: questions, with the boxes of the objects that their programs refer to.

Layout: cs.stanford.edu/people/jcjohns/clevr (version 1.0), also of CLEVR-CoGenT and CLEVR-Humans.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec

from pipelines.io.json_records import decode_list, reject_malformed
from pipelines.io.slices import Input, Slice
from pipelines.sources.base import Context, SliceItem, Source
from pipelines.sources.clevr.phrases import align, noun_phrases
from pipelines.sources.clevr.programs import (
    ObjectIds,
    ProgramNode,
    mentions_an_object_twice,
    object_references,
    run_program,
)
from pipelines.sources.clevr.scenes import (
    HEIGHT,
    WIDTH,
    ClevrScene,
    camera_angles,
    object_box,
    read_scenes,
)
from schemas import (
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    NotAskedFor,
    Question,
    RawCounts,
    Region,
    Rejected,
    Span,
)
from schemas.image_ids import ImageIdError, image_key
from schemas.limits import MAX_CHARACTERS

# CLEVR_train_000123.png, and CLEVR_valA_000123.png of CoGenT
_FILE_NAME = re.compile(r"[A-Za-z0-9_]{1,60}\.png")


class _QuestionImage(msgspec.Struct, gc=False):
    image_filename: str


class _Question(msgspec.Struct, gc=False):
    image_filename: str
    question: str
    question_index: int | None = None
    answer: str | bool | int | None = None
    program: list[ProgramNode] | None = None


class Clevr(Source, kw_only=True):
    """CLEVR's questions as captions whose regions are the objects that they refer to.

    With ``medium``, as in the first stage of the published training, questions that mention an
    object twice are not read; see ``mentions_an_object_twice``.
    """

    namespace: ClassVar[str] = "clevr"
    unique_images: ClassVar[bool] = True

    questions: dict[str, list[str]]  # split -> its question files
    scenes: dict[str, str] = {}  # split -> its scene file; none are published for test
    medium: bool = False

    def paths(self) -> list[str]:
        questions = (path for paths in self.questions.values() for path in paths)
        return [*questions, *self.scenes.values()]

    def split_names(self) -> set[str]:
        return {*self.questions, *self.scenes}

    def image_tables(self) -> list[Input]:
        """Returns the question files, which name every image that is used."""
        return [
            Input(path, "list", within="questions")
            for paths in self.questions.values()
            for path in paths
        ]

    def read_image_table(self, raw_slice: Slice) -> Iterator[ImageInfo | Rejected]:
        images, _ = decode_list(raw_slice.content, _QuestionImage)  # `read` reports the bad ones
        for name in dict.fromkeys(image.image_filename for image in images):
            if key := _key(name):
                yield ImageInfo(key, self.namespace, name, WIDTH, HEIGHT)

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [
            Input(path, "list", within="questions", role=split)
            for split in splits
            for path in self.questions.get(split, [])
        ]

    def read(self, raw_slice: Slice, context: Context) -> Iterator[SliceItem]:
        split, file = raw_slice.input.role, Path(raw_slice.input.path).stem
        scenes = read_scenes(self.scenes[split]) if split in self.scenes else None
        questions, bad = decode_list(raw_slice.content, _Question)
        yield from reject_malformed(self.namespace, bad, raw_slice.input.path)
        left_out = NotAskedFor(self.namespace, "questions that mention an object twice", 0, 0)
        boxes = 0
        records: dict[str, ImageRecord] = {}
        for question in questions:
            name, text = question.image_filename, question.question
            id_ = f"{file}:{_question_id(question)}"
            key = _key(name)
            if not key:
                yield Rejected(self.namespace, id_, "bad image name", name)
                continue
            if not text.strip():
                yield Rejected(self.namespace, id_, "no words", ascii(text[:100]), key)
                continue
            if len(text) > MAX_CHARACTERS:
                yield Rejected(self.namespace, id_, "text too long", f"{len(text)} characters", key)
                continue
            regions: list[Region] = []
            program = question.program
            if scenes and program:
                try:
                    scene = scenes.scene(name)
                    results = run_program(program, scene.objects, scene.relationships)
                except ValueError as error:
                    yield Rejected(self.namespace, id_, "bad program", str(error), key)
                    continue
                spans = _object_spans(text, program, results)
                boxes += len(spans)
                if self.medium and mentions_an_object_twice(program, results):
                    left_out.captions += 1
                    left_out.boxes += len(spans)
                    continue
                regions = _regions(spans, scene)
            record = records.setdefault(name, ImageRecord(key, self.namespace, split))
            record.captions.append(
                GroundedCaption(
                    text,
                    regions,
                    tokens_negative=[(0, len(text))],
                    dataset="clevr",
                    record=id_,
                    question=Question(
                        id=id_,
                        answer=_answer(question.answer),
                        structural_type=_question_type(program or []),
                    ),
                )
            )
        yield from records.values()
        yield RawCounts(self.namespace, captions=len(questions) + len(bad), boxes=boxes)
        if left_out.captions:
            yield left_out


def _question_id(question: _Question) -> str:
    """Returns the question's index or, if it has none (CLEVR-Humans), image and text hash."""
    if question.question_index is not None:
        return str(question.question_index)
    text_hash = hashlib.blake2b(question.question.encode(), digest_size=6).hexdigest()
    return f"{question.image_filename.removesuffix('.png')}:{text_hash}"


def _key(file_name: str) -> str:
    """Returns the key of an image by the name of its file; empty if it is not such a name."""
    try:
        return image_key("clevr", file_name) if _FILE_NAME.fullmatch(file_name) else ""
    except ImageIdError:  # a number that is not positive
        return ""


def _object_spans(
    text: str, program: list[ProgramNode], results: list[ObjectIds | None]
) -> dict[int, list[Span]]:
    """Returns all words that name each object that the question names."""
    phrases = noun_phrases(text, is_comparison=program[-1].name.startswith("equal_"))
    spans: dict[int, list[Span]] = {}
    for phrase, reference in align(phrases, object_references(program, results)):
        for obj in reference.objects:
            spans.setdefault(obj, []).append(phrase.span)
    return spans


def _regions(spans: dict[int, list[Span]], scene: ClevrScene) -> list[Region]:
    """Returns a region for each object that the question names."""
    angles = camera_angles(scene)
    return [
        Region(sorted(object_spans), box=object_box(scene.objects[obj], angles))
        for obj, object_spans in sorted(spans.items())
    ]


def _answer(answer: str | bool | int | None) -> str | None:
    """Returns yes and no for the booleans of the generator, as the released files have them."""
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return None if answer is None else str(answer)


def _question_type(program: list[ProgramNode]) -> str | None:
    """Returns the type of question under which accuracies are published; None if unknown."""
    if not program:
        return None
    function = program[-1].name
    if function in ("count", "exist"):
        return function
    if function in ("equal_integer", "greater_than", "less_than"):
        return "compare number"
    return "compare attribute" if function.startswith("equal_") else "query attribute"
