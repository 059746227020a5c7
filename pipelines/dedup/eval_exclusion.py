"""The images of evaluation sets, from the sets' own files: they are kept out of training."""

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from pipelines.io import safe_pickle
from pipelines.io.raw_files import RawFileError, open_binary
from pipelines.sources.base import Input, Slice
from pipelines.sources.coco import flickr_photo_id
from pipelines.sources.decoding import decode_dict, decode_list
from pipelines.sources.gqa import image_key
from schemas import EvalImage


class Exclusion(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An evaluation set, by any of the files that tell its images; a table of the recipe.

    ``refs``: RefCOCO pickles, of which the references that are not in train count. ``questions``:
    GQA question files, of which all count. ``instances``: files in COCO's layout (COCO 2014 val,
    LVIS minival), of which all images count. ``ids``: lists of image ids, as text (one a line),
    JSON (a list of ids, or of objects with an ``image_id``) or a pickle (a list or set), which name
    images of the data set ``of``. ``namespace``: every image that has a copy there counts.
    ``images``: folders or zips with the set's images, for the net of perceptual hashes; those
    of images that a source of the recipe lists are found without.
    """

    refs: list[str] = []
    questions: list[str] = []
    instances: list[str] = []
    ids: list[str] = []
    of: Literal["coco", "vg", "flickr30k"] = "coco"
    namespace: str = ""
    images: list[str] = []

    def paths(self) -> list[str]:
        return [*self.refs, *self.questions, *self.instances, *self.ids]

    def inputs(self) -> list[Input]:
        return [
            *(Input(path, "file", role="refs") for path in self.refs),
            *(Input(path, "dict", role="questions") for path in self.questions),
            *(Input(path, "list", within="images", role="instances") for path in self.instances),
            *(Input(path, "file", role="ids") for path in self.ids),
        ]


class _Question(msgspec.Struct, gc=False):
    imageId: str | int  # noqa: N815 - as published


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str = ""
    flickr_url: str = ""


class _Reference(msgspec.Struct, gc=False):
    image_id: int
    split: str


class _Row(msgspec.Struct, gc=False):
    image_id: int | str


def read_held_out(name: str, of: str, piece: Slice) -> Iterator[EvalImage]:
    """The images that a slice of an evaluation set's file names, each once.

    Raises:
        RawFileError: the file is not in the layout that its role promises, to the last record.
    """
    bad: list[tuple[str, str]] = []
    match piece.input.role:
        case "refs":
            rows = [EvalImage(name, f"coco/{r.image_id}") for r in _read_references(piece.input)]
        case "questions":
            questions, bad = decode_dict(piece.content, _Question)
            ids = [str(question.imageId) for question in questions.values()]
            rows = [EvalImage(name, image_key(id_), file=f"{id_}.jpg") for id_ in ids]
        case "instances":
            images, bad = decode_list(piece.content, _Image)
            rows = [
                EvalImage(name, f"coco/{i.id}", flickr_photo_id(i.flickr_url), i.file_name)
                for i in images
            ]
        case _:
            rows = [_listed(name, id_, of, piece.input) for id_ in _read_ids(piece.input)]
    if bad:
        # A record that cannot be read may be of an image that would then be trained on.
        record, fault = bad[0]
        raise RawFileError(f"{piece.input.path}: malformed record {record}: {fault}")
    yield from {row.key: row for row in rows}.values()


def _read_references(input: Input) -> list[_Reference]:
    """The references that are not in train. A bad one of train is left to the source's reader."""
    content = safe_pickle.load(input.path)
    if not isinstance(content, list):
        raise RawFileError(f"{input.path}: a pickled list expected, found {type(content).__name__}")
    held_out = [r for r in content if not (isinstance(r, dict) and r.get("split") == "train")]
    return _convert(held_out, list[_Reference], input)


def _listed(name: str, id_: str, of: str, input: Input) -> EvalImage:
    """An image of a list of ids, leading zeros dropped.

    GQA's lists mix ids of Visual Genome with ids of COCO, as ``n578020``.
    """
    number = id_.removeprefix("n")
    if not re.fullmatch("[0-9]{1,20}", number) or (id_ != number and of == "flickr30k"):
        raise RawFileError(f"{input.path}: {id_[:50]!a} is no image id of {of}")
    number = str(int(number))
    namespace = of if id_.isdigit() else "coco"
    file = "" if namespace == "coco" else f"{number}.jpg"
    return EvalImage(name, f"{namespace}/{number}", number if of == "flickr30k" else "", file)


def _read_ids(input: Input) -> list[str]:
    path = input.path
    if path.endswith((".p", ".pkl", ".pickle")):
        ids = safe_pickle.load(path)
        if isinstance(ids, set | frozenset):
            ids = sorted(ids, key=str)
    else:
        with open_binary(path) as file:
            content = file.read()
        if not path.endswith(".json"):
            try:
                lines = content.decode("utf-8-sig").splitlines()
            except UnicodeDecodeError as fault:
                raise RawFileError(f"{path}: expected lines of image ids: {fault}") from fault
            ids = [line.strip() for line in lines if line.strip()]
        else:
            try:
                ids = msgspec.json.decode(content)
            except (msgspec.DecodeError, UnicodeDecodeError) as fault:
                raise RawFileError(f"{path}: expected a JSON list of image ids: {fault}") from fault
    rows = _convert(ids, list[int | str | _Row], input)
    return [str(row.image_id if isinstance(row, _Row) else row) for row in rows]


def _convert(content: object, layout: type, input: Input):  # type: ignore[no-untyped-def]
    try:
        return msgspec.convert(content, layout)
    except msgspec.ValidationError as fault:
        raise RawFileError(f"{input.path}: not a list of {input.role}: {fault}") from fault
