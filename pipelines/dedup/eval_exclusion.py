"""Reads the images of evaluation sets, which must not be trained on, from the sets' files."""

from collections.abc import Iterable, Iterator, Set
from typing import Any

import msgspec

from pipelines.dedup.joins import TableIds
from pipelines.io import plain_data
from pipelines.io.archives import read_whole
from pipelines.io.json_records import BadRecord, ImageId, convert_record, decode_dict, decode_list
from pipelines.io.raw_files import RawFileError, without_byte_order_mark
from pipelines.io.references import load_references
from pipelines.io.slices import Input, Slice
from schemas import EvalImage
from schemas.image_ids import (
    ImageIdError,
    RawId,
    image_key,
    key_of_file,
    keys_of_listed,
    namespace_of,
    namespace_of_dataset,
    photo_id_of_key,
    photo_id_of_url,
    published_file,
)
from schemas.joins import PHOTO_ID
from schemas.limits import MAX_LIST_BYTES, MAX_LISTED_IDS


class Exclusion(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An evaluation set, a table of the recipe: the images that any of these files names.

    Attributes:
        refs: RefCOCO's refs, pickles, JSON or Parquet; images of references that are not in train.
        questions: GQA question files; images of all questions.
        scene_graphs: GQA scene graphs; all their images.
        instances: Files in COCO's layout (COCO 2014 val, LVIS minival); all images.
        ids: Lists of image ids of ``of``, as text (one per line), JSON (a list of ids, or of
            objects with an ``image_id``) or a pickle (a list or set).
        dataset: The dataset whose images ``ids`` names; the key ``of`` in the recipe. The ids of
            several datasets look the same, so it has no default.
        namespace: Holds out every image that has a duplicate there, for example "coco".
        allow_empty: Whether it may name no image, as of a small part of a dataset.
        images: Folders or zips with the set's images, to be hashed for near-duplicates; not
            needed for images that a source of the recipe lists.
    """

    refs: list[str] = []
    questions: list[str] = []
    scene_graphs: list[str] = []
    instances: list[str] = []
    ids: list[str] = []
    dataset: str = msgspec.field(name="of", default="")
    namespace: str = ""
    allow_empty: bool = False
    images: list[str] = []

    def paths(self) -> list[str]:
        """Returns all files of the set except images."""
        return [*self.refs, *self.questions, *self.scene_graphs, *self.instances, *self.ids]

    def image_ids(self) -> TableIds:
        """Returns the namespaces of the images that the files name, with the ids that they state.

        GQA's images of COCO are of test2015, which no other dataset has.
        """
        ids: dict[str, Set[str] | None] = {}
        if self.questions or self.scene_graphs or self.dataset == "gqa":
            ids |= {"vg": frozenset(), "coco": None}
        if self.ids and self.dataset:
            ids.setdefault(namespace_of_dataset(self.dataset), frozenset())
            if self.dataset == "vg":
                ids.setdefault("coco", None)
        if self.namespace:
            ids[self.namespace] = frozenset()
        if self.refs:
            ids["coco"] = frozenset()
        if self.instances:
            ids["coco"] = frozenset({PHOTO_ID})
        return ids

    def inputs(self) -> list[Input]:
        """Returns the files of the set with their layouts."""
        return [
            *(Input(path, "file", role="refs") for path in self.refs),
            *(Input(path, "dict", role="questions") for path in self.questions),
            *(Input(path, "dict", role="scene graphs") for path in self.scene_graphs),
            *(Input(path, "list", within="images", role="instances") for path in self.instances),
            *(Input(path, "file", role="ids") for path in self.ids),
        ]


class _Question(msgspec.Struct, gc=False):
    imageId: int | float | str  # noqa: N815 - as published


class _SceneGraph(msgspec.Struct, gc=False):
    pass


class _Image(msgspec.Struct, gc=False):
    id: ImageId
    file_name: str = ""
    flickr_url: str = ""


class _RefcocoRef(msgspec.Struct, gc=False):
    image_id: ImageId
    split: str


class _Row(msgspec.Struct, gc=False):
    image_id: int | float | str


def read_held_out(
    eval_set: str, dataset: str, raw_slice: Slice, others: frozenset[str] = frozenset()
) -> Iterator[EvalImage]:
    """Yields the images that a slice of an evaluation set's file names, each once.

    ``dataset`` is the one whose images a list of ids names, ``others`` has the namespaces of the
    recipe that are not published.

    Raises:
        RawFileError: Any record of the file is not in the layout of its role.
    """
    bad: list[BadRecord] = []
    match raw_slice.input.role:
        case "refs":
            references = _read_references(raw_slice.input)
            keys = [image_key("coco", reference.image_id) for reference in references]
            rows = [EvalImage(eval_set, key, file=published_file(key)) for key in keys]
        case "questions":
            questions, bad = decode_dict(raw_slice.content, _Question)
            ids = dict.fromkeys(question.imageId for question in questions.values())
            rows = _listed(eval_set, ids, "gqa", raw_slice.input)
        case "scene graphs":
            graphs, bad = decode_dict(raw_slice.content, _SceneGraph)
            rows = _listed(eval_set, graphs, "gqa", raw_slice.input)
        case "instances":
            images, bad = decode_list(raw_slice.content, _Image)
            rows = [_image_of_table(eval_set, image, raw_slice.input) for image in images]
        case _:
            ids_of_list = _read_ids(raw_slice.input)
            rows = _listed(eval_set, ids_of_list, dataset, raw_slice.input, others)
    if bad:
        # Otherwise the image of an unreadable record would be trained on.
        record, error = bad[0]
        raise RawFileError(f"{raw_slice.input.path}: malformed record {record}: {error}")
    yield from {row.key: row for row in rows}.values()


def list_errors(
    eval_set: str, exclusion: Exclusion, others: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Yields a line for each small file of an evaluation set that is wrong, or names no image.

    Large files are checked when their slices are read. ``others`` is as of `read_held_out`.
    """
    for input in exclusion.inputs():
        if input.layout != "file":
            continue
        try:
            rows = read_held_out(eval_set, exclusion.dataset, Slice(input, b""), others)
            if not any(rows) and not exclusion.allow_empty:
                what = "no reference that is not in train" if input.role == "refs" else "no image"
                yield f"exclude.{eval_set}: {input.path} names {what}"
        except RawFileError as error:
            yield f"exclude.{eval_set}: {error}"


def _read_references(input: Input) -> list[_RefcocoRef]:
    """Reads the references that are not in train; the source's reader rejects bad ones of train.

    "train" is the file's own word for a part of its references, whatever splits and roles a recipe
    has.
    """
    content = load_references(input.path)
    held_out = [r for r in content if not (isinstance(r, dict) and r.get("split") == "train")]
    references: list[_RefcocoRef] = _convert(held_out, list[_RefcocoRef], input)
    return references


def _image_of_table(eval_set: str, image: _Image, input: Input) -> EvalImage:
    key = image_key("coco", image.id)
    if key_of_file("coco", image.file_name) not in ("", key):
        # Ids that were counted anew would hold out other images.
        raise RawFileError(f"{input.path}: image {image.id} is the file {image.file_name[:80]!a}")
    file = image.file_name or published_file(key)
    return EvalImage(eval_set, key, photo_id_of_url(image.flickr_url), file)


def _listed(
    eval_set: str,
    ids: Iterable[RawId],
    dataset: str,
    input: Input,
    others: frozenset[str] = frozenset(),
) -> list[EvalImage]:
    """Returns the images that ids of a dataset name, with the names of their files there."""
    rows: list[EvalImage] = []
    for id_ in ids:
        try:
            keys = keys_of_listed(dataset, id_, others)
        except ImageIdError as error:
            raise RawFileError(f"{input.path}: {error}") from error
        for key in keys:
            if dataset in ("gqa", "vg") and namespace_of(key) == "coco":
                rows.append(EvalImage(eval_set, key, file=f"n{key.partition('/')[2]}.jpg"))
            else:
                rows.append(EvalImage(eval_set, key, photo_id_of_key(key), published_file(key)))
    return rows


def _read_ids(input: Input) -> list[RawId]:
    path = input.path
    content = without_byte_order_mark(read_whole(path, MAX_LIST_BYTES))
    name = path.removesuffix(".zip")
    if name.endswith((".p", ".pkl", ".pickle")):
        ids = plain_data.loads_pickle(content, path)
        if isinstance(ids, set | frozenset):
            ids = sorted(ids, key=str)
    elif name.endswith(".json"):
        ids = plain_data.loads_json(content, path)
    else:
        ids = _lines(content, path)
    if isinstance(ids, list):
        _check_number(len(ids), path)
    rows = _convert(ids, list[int | float | str | _Row], input)
    return [row.image_id if isinstance(row, _Row) else row for row in rows]


def _lines(content: bytes, path: str) -> list[str]:
    _check_number(content.count(b"\n"), path)
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise RawFileError(f"{path}: expected lines of image ids: {error}") from error
    # A mark may be in the middle of a list that was joined from several.
    ids = (line.removeprefix("\ufeff").strip() for line in lines)
    return [id_ for id_ in ids if id_]


def _check_number(count: int, path: str) -> None:
    if count > MAX_LISTED_IDS:
        raise RawFileError(f"{path}: {count} ids, more than {MAX_LISTED_IDS}")


def _convert(content: object, layout: Any, input: Input) -> Any:
    try:
        return convert_record(content, layout)
    except msgspec.ValidationError as error:
        raise RawFileError(f"{input.path}: not a list of {input.role}: {error}") from error
