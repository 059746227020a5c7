"""The pictures of evaluation sets, from the sets' own files: they are kept out of training."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from pipelines import pickles
from pipelines.raw_files import RawFileError, open_binary
from pipelines.sources.base import Input, Slice
from pipelines.sources.coco import photo_id
from pipelines.sources.records import decode_dict, decode_list
from schemas import HeldOut, Rejected


class Exclusion(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An evaluation set, by any of the files that tell its pictures; a table of the recipe.

    ``refs``: RefCOCO pickles, of which the references that are not in train count. ``questions``:
    GQA question files, of which all count. ``instances``: files in COCO's layout (COCO 2014 val,
    LVIS minival), of which all images count. ``ids``: lists of image ids, as text (one a line),
    JSON (a list of ids, or of objects with an ``image_id``) or a pickle (a list or set), which name
    pictures of the data set ``of``. ``namespace``: every picture that has a copy there counts.
    """

    refs: list[str] = []
    questions: list[str] = []
    instances: list[str] = []
    ids: list[str] = []
    of: Literal["coco", "vg", "flickr30k"] = "coco"
    namespace: str = ""

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
    flickr_url: str = ""


class _Reference(msgspec.Struct, gc=False):
    image_id: int
    split: str


class _Row(msgspec.Struct, gc=False):
    image_id: int | str


def read_held_out(name: str, of: str, piece: Slice) -> Iterator[HeldOut | Rejected]:
    """The pictures that a slice of an evaluation set's file names, each once.

    Raises:
        RawFileError: the file is not in the layout that its role promises.
    """
    keys: dict[str, str] = {}  # to the photo's id
    bad: list[tuple[str, str]] = []
    match piece.input.role:
        case "refs":
            references = _convert(pickles.load(piece.input.path), list[_Reference], piece.input)
            keys = {f"coco/{r.image_id}": "" for r in references if r.split != "train"}
        case "questions":
            questions, bad = decode_dict(piece.content, _Question)
            keys = {gqa_key(str(q.imageId)): "" for q in questions.values()}
        case "instances":
            images, bad = decode_list(piece.content, _Image)
            keys = {f"coco/{i.id}": photo_id(i.flickr_url) for i in images}
        case "ids":
            photos = of == "flickr30k"
            keys = {f"{of}/{id}": id if photos else "" for id in _read_ids(piece.input)}
            if of == "vg":  # GQA's lists mix ids of Visual Genome with ids of COCO, as n578020
                keys = {gqa_key(key.removeprefix("vg/")): "" for key in keys}
    for key, photo in keys.items():
        yield HeldOut(name, key, photo)
    for record, fault in bad:
        yield Rejected(name, record, "malformed record", f"{piece.input.path}: {fault}")


def gqa_key(image_id: str) -> str:
    """GQA's pictures are Visual Genome's, but for those of testdev and test, which are COCO's."""
    return f"coco/{image_id[1:]}" if image_id.startswith("n") else f"vg/{image_id}"


def _read_ids(input: Input) -> list[str]:
    path = input.path
    if path.endswith((".p", ".pkl", ".pickle")):
        ids = pickles.load(path)
        if isinstance(ids, set | frozenset):
            ids = sorted(ids, key=str)
    else:
        with open_binary(path) as file:
            content = file.read()
        if not path.endswith(".json"):
            try:
                lines = content.decode().splitlines()
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
