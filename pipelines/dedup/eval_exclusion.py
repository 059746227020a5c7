"""Reads the images of evaluation sets, which must not be trained on, from the sets' files."""

import re
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from pipelines.dedup.image_keys import flickr_photo_id, gqa_image_key
from pipelines.io import safe_pickle
from pipelines.io.json_records import BadRecord, decode_dict, decode_list
from pipelines.io.raw_files import RawFileError, open_binary
from pipelines.io.slices import Input, Slice
from schemas import EvalImage


class Exclusion(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An evaluation set, a table of the recipe: the images that any of these files names.

    Attributes:
        refs: RefCOCO pickles; images of all references that are not in train.
        questions: GQA question files; images of all questions.
        instances: Files in COCO's layout (COCO 2014 val, LVIS minival); all images.
        ids: Lists of image ids of ``of``, as text (one per line), JSON (a list of ids, or of
            objects with an ``image_id``) or a pickle (a list or set).
        dataset: The dataset whose images ``ids`` names; the key ``of`` in the recipe.
        namespace: Holds out every image that has a duplicate there, for example "coco".
        images: Folders or zips with the set's images, to be hashed for near-duplicates; not
            needed for images that a source of the recipe lists.
    """

    refs: list[str] = []
    questions: list[str] = []
    instances: list[str] = []
    ids: list[str] = []
    dataset: Literal["coco", "vg", "flickr30k"] = msgspec.field(name="of", default="coco")
    namespace: str = ""
    images: list[str] = []

    def paths(self) -> list[str]:
        """Returns all files of the set except images."""
        return [*self.refs, *self.questions, *self.instances, *self.ids]

    def inputs(self) -> list[Input]:
        """Returns the files of the set with their layouts."""
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


class _RefcocoRef(msgspec.Struct, gc=False):
    image_id: int
    split: str


class _Row(msgspec.Struct, gc=False):
    image_id: int | str


def read_held_out(eval_set: str, dataset: str, raw_slice: Slice) -> Iterator[EvalImage]:
    """Yields the images that a slice of an evaluation set's file names, each once.

    ``dataset`` is the one whose images a list of ids names.

    Raises:
        RawFileError: Any record of the file is not in the layout of its role.
    """
    bad: list[BadRecord] = []
    match raw_slice.input.role:
        case "refs":
            references = _read_references(raw_slice.input)
            rows = [EvalImage(eval_set, f"coco/{r.image_id}") for r in references]
        case "questions":
            questions, bad = decode_dict(raw_slice.content, _Question)
            ids = [str(question.imageId) for question in questions.values()]
            rows = [EvalImage(eval_set, gqa_image_key(id_), file=f"{id_}.jpg") for id_ in ids]
        case "instances":
            images, bad = decode_list(raw_slice.content, _Image)
            rows = [
                EvalImage(eval_set, f"coco/{i.id}", flickr_photo_id(i.flickr_url), i.file_name)
                for i in images
            ]
        case _:
            input = raw_slice.input
            rows = [_listed(eval_set, id_, dataset, input) for id_ in _read_ids(input)]
    if bad:
        # Otherwise the image of an unreadable record would be trained on.
        record, error = bad[0]
        raise RawFileError(f"{raw_slice.input.path}: malformed record {record}: {error}")
    yield from {row.key: row for row in rows}.values()


def _read_references(input: Input) -> list[_RefcocoRef]:
    """Reads the references that are not in train; the source's reader rejects bad ones of train."""
    content = safe_pickle.load(input.path)
    if not isinstance(content, list):
        raise RawFileError(f"{input.path}: expected a pickled list, found {type(content).__name__}")
    held_out = [r for r in content if not (isinstance(r, dict) and r.get("split") == "train")]
    references: list[_RefcocoRef] = _convert(held_out, list[_RefcocoRef], input)
    return references


def _listed(eval_set: str, id_: str, dataset: str, input: Input) -> EvalImage:
    """Returns the image that an entry of a list of ids names, leading zeros dropped.

    GQA's lists mix ids of Visual Genome with ids of COCO, as ``n578020``.
    """
    number = id_.removeprefix("n")
    if not re.fullmatch("[0-9]{1,20}", number) or (id_ != number and dataset == "flickr30k"):
        raise RawFileError(f"{input.path}: {id_[:50]!a} is not an image id of {dataset}")
    number = str(int(number))
    namespace = dataset if id_.isdigit() else "coco"
    file = "" if namespace == "coco" else f"{number}.jpg"
    photo = number if dataset == "flickr30k" else ""
    return EvalImage(eval_set, f"{namespace}/{number}", photo, file)


def _read_ids(input: Input) -> list[str]:
    path = input.path
    if path.endswith((".p", ".pkl", ".pickle")):
        ids = safe_pickle.load(path)
        if isinstance(ids, set | frozenset):
            ids = sorted(ids, key=str)
    else:
        with open_binary(path) as file:
            content = file.read()
        ids = _ids_of_json(content, path) if path.endswith(".json") else _lines(content, path)
    rows = _convert(ids, list[int | str | _Row], input)
    return [str(row.image_id if isinstance(row, _Row) else row) for row in rows]


def _ids_of_json(content: bytes, path: str) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RawFileError(f"{path}: expected a JSON list of image ids: {error}") from error


def _lines(content: bytes, path: str) -> list[str]:
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise RawFileError(f"{path}: expected lines of image ids: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def _convert(content: object, layout: Any, input: Input) -> Any:
    try:
        return msgspec.convert(content, layout)
    except msgspec.ValidationError as error:
        raise RawFileError(f"{input.path}: not a list of {input.role}: {error}") from error
