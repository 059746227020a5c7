"""CLEVR: questions about rendered scenes, with programs that tell what they speak of.

Layout: cs.stanford.edu/people/jcjohns/clevr (version 1.0), CLEVR-CoGenT and CLEVR-Humans alike. An
object's box follows from where it is in the scene; its words from the program of the question.
"""

import functools
import hashlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from pipelines.geometry.boxes import from_xywh
from pipelines.io.raw_files import RawFileError, open_binary
from pipelines.sources.base import Context, Input, Slice, Source
from pipelines.sources.clevr.programs import (
    ClevrObject,
    Node,
    Things,
    names_an_object_twice,
    objects_of,
    references,
)
from pipelines.sources.clevr.words import aligned, phrases
from pipelines.sources.decoding import decode_list, malformed
from schemas import (
    Box,
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    Question,
    Region,
    Rejected,
    Span,
)

WIDTH, HEIGHT = 480, 320
# Pixels of a length of 1 at a distance of 1: a lens of 35 mm before a sensor of 32 mm.
FOCAL_LENGTH = WIDTH * 35 / 32
# How far the camera looks down: it is at about (7.2, -6.8, 5.1), shifted a little in every scene.
ELEVATION = math.atan2(5.1, math.hypot(7.2, 6.8))

# CLEVR_train_000123.png, and CLEVR_valA_000123.png of CoGenT
_FILE = re.compile(r"[A-Za-z0-9_]{1,60}\.png")
_Coordinate = Annotated[float, msgspec.Meta(ge=-1e4, le=1e4)]
_Distance = Annotated[float, msgspec.Meta(gt=0.1, le=1e4)]
_Triple = tuple[_Coordinate, _Coordinate, _Coordinate]


class PlacedObject(ClevrObject, gc=False):
    """An object with its place: the height of its middle is half its own."""

    rotation: _Coordinate  # degrees, about the vertical
    # Of its middle: pixels from the left and the top; distance.
    pixel_coords: tuple[_Coordinate, _Coordinate, _Distance]
    middle: _Triple = msgspec.field(name="3d_coords")


class _Directions(msgspec.Struct, gc=False):
    right: _Triple


class Scene(msgspec.Struct, gc=False):
    """Objects, and what is right, left, in front of and behind each of them."""

    image_filename: str
    objects: list[PlacedObject]
    relationships: dict[str, list[list[int]]]
    directions: _Directions


class _ImageOfRecord(msgspec.Struct, gc=False):
    image_filename: str


class _Question(msgspec.Struct, gc=False):
    image_filename: str
    question: str
    question_index: int | None = None
    answer: str | bool | int | None = None
    program: list[Node] | None = None


class Clevr(Source, kw_only=True):
    """CLEVR's questions as captions whose regions are the objects that they speak of.

    With ``medium``, as in the first stage of published training, questions that name an object twice
    are not read; see ``names_an_object_twice``.
    """

    namespace: ClassVar[str] = "clevr"
    unique_images: ClassVar[bool] = True

    questions: dict[str, list[str]]  # split -> its question files
    scenes: dict[str, str] = {}  # split -> its scenes; none are published for test
    medium: bool = False

    def paths(self) -> list[str]:
        questions = (path for paths in self.questions.values() for path in paths)
        return [*questions, *self.scenes.values()]

    def split_names(self) -> set[str]:
        return {*self.questions, *self.scenes}

    def image_inputs(self) -> list[Input]:
        """The question files: they name every image that matters."""
        return [
            Input(path, "list", within="questions")
            for paths in self.questions.values()
            for path in paths
        ]

    def read_images(self, piece: Slice) -> Iterator[ImageInfo | Rejected]:
        # What cannot be decoded is reported by ``read``.
        records, _ = decode_list(piece.content, _ImageOfRecord)
        for name in dict.fromkeys(record.image_filename for record in records):
            if _FILE.fullmatch(name):
                yield ImageInfo(_key(name), self.namespace, name, WIDTH, HEIGHT)

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [
            Input(path, "list", within="questions", role=split)
            for split in splits
            for path in self.questions.get(split, [])
        ]

    def read(self, piece: Slice, context: Context) -> Iterator[ImageRecord | Rejected]:
        split, file = piece.input.role, Path(piece.input.path).stem
        scenes = read_scenes(self.scenes[split]) if split in self.scenes else {}
        questions, bad = decode_list(piece.content, _Question)
        yield from malformed(self.namespace, bad, piece.input.path)
        parts: dict[str, ImageRecord] = {}
        for question in questions:
            name, text = question.image_filename, question.question
            id_ = f"{file}:{_number(question)}"
            if not _FILE.fullmatch(name):
                yield Rejected(self.namespace, id_, "bad image name", name)
                continue
            if not text.strip():
                yield Rejected(self.namespace, id_, "no words", repr(text), _key(name))
                continue
            program = question.program or []
            try:
                scene = _scene(scenes, name) if scenes and program else None
                found = objects_of(program, scene.objects, scene.relationships) if scene else []
            except ValueError as error:
                yield Rejected(self.namespace, id_, "bad program", str(error), _key(name))
                continue
            if self.medium and scene and names_an_object_twice(program, found):
                continue
            regions = _regions(text, program, found, scene) if scene else []
            part = parts.setdefault(name, ImageRecord(_key(name), self.namespace, split))
            part.captions.append(
                GroundedCaption(
                    text,
                    regions,
                    negative=[(0, len(text))],
                    dataset="clevr",
                    record=id_,
                    question=Question(id_, _answer(question.answer), None, _kind(program)),
                )
            )
        yield from parts.values()


def _number(question: _Question) -> str:
    """Its own, where it has one; CLEVR-Humans' may not, and are told by image and words."""
    if question.question_index is not None:
        return str(question.question_index)
    words = hashlib.blake2b(question.question.encode(), digest_size=6).hexdigest()
    return f"{question.image_filename.removesuffix('.png')}:{words}"


def _key(file: str) -> str:
    return f"clevr/{file.removesuffix('.png')}"


@functools.lru_cache(maxsize=1)
def read_scenes(path: str) -> dict[str, msgspec.Raw]:
    """The scenes of a file, undecoded, by the names of their images: as large as the file is.

    Raises:
        RawFileError: the file is something else.
    """
    try:
        with open_binary(path) as file:
            content = msgspec.json.decode(file.read(), type=dict[str, msgspec.Raw])
        scenes = msgspec.json.decode(content["scenes"], type=list[msgspec.Raw])
        names = (msgspec.json.decode(scene, type=_ImageOfRecord) for scene in scenes)
        return {of.image_filename: scene for of, scene in zip(names, scenes, strict=True)}
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError) as error:
        raise RawFileError(f"{path}: not a file of CLEVR's scenes: {error}") from error


def _scene(scenes: dict[str, msgspec.Raw], name: str) -> Scene:
    """
    Raises:
        ValueError: there is no such scene, or it is none.
    """
    if name not in scenes:
        raise ValueError(f"there is no scene of {name}")
    return msgspec.json.decode(scenes[name], type=Scene)


def _regions(
    text: str, program: list[Node], found: list[Things | None], scene: Scene
) -> list[Region]:
    """One region an object that the question names, with all words that do."""
    said = phrases(text, compares=program[-1].name.startswith("equal_"))
    spans: dict[int, list[Span]] = {}
    for phrase, meant in aligned(said, references(program, found)):
        for obj in meant.objects:
            spans.setdefault(obj, []).append(phrase.span)
    return [
        Region(sorted(of_object), box=box_of(scene.objects[obj], scene.directions.right))
        for obj, of_object in sorted(spans.items())
    ]


def box_of(obj: PlacedObject, right: tuple[float, float, float]) -> Box:
    """The box of an object, in pixels: what it fills seen from a distance, without perspective in it.

    Args:
        right: the direction, in the scene, that is right in the image.
    """
    x, y, distance = obj.pixel_coords
    half = obj.middle[2]  # of a ball its radius, of a cube half its side
    wide, deep, tall = half, half, half * math.cos(ELEVATION)
    if obj.shape == "cube":
        turned = math.radians(obj.rotation) - math.atan2(right[1], right[0])
        wide = deep = half * (abs(math.cos(turned)) + abs(math.sin(turned)))
    if obj.shape == "sphere":
        tall = half
    else:  # its upper and lower faces are seen at a slant
        tall += deep * math.sin(ELEVATION)
    scale = FOCAL_LENGTH / distance
    return from_xywh(x - wide * scale, y - tall * scale, 2 * wide * scale, 2 * tall * scale)


def _answer(answer: str | bool | int | None) -> str | None:
    """The generator writes booleans where the released files have yes and no."""
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return None if answer is None else str(answer)


def _kind(program: list[Node]) -> str | None:
    """The kind of question, as the published tables have them; None without a program."""
    if not program:
        return None
    last = program[-1].name
    if last in ("count", "exist"):
        return last
    if last in ("equal_integer", "greater_than", "less_than"):
        return "compare number"
    return "compare attribute" if last.startswith("equal_") else "query attribute"
