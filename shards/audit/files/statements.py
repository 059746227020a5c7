"""What a record of an annotation file states about its image: ids, file names, addresses.

Files of different tools have the same few fields under the same few names, so there is one reading
of them. A number is an id only together with a dataset: which is stated by the record
(``data_source``), by a folder of its file (``VG_100K/7.jpg``), by the form of a name that only one
dataset has (``COCO_train2014_000000000139.jpg``), or by who calls the audit.
"""

import functools
import json
import math
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal, NamedTuple

import msgspec

from schemas.decodable import decodable
from schemas.image_ids import (
    NAMESPACES,
    ImageIdError,
    RawId,
    has_id,
    image_key,
    namespace_of_dataset,
    normal_key,
    photo_id_of_url,
)
from schemas.splits import is_evaluated_on, is_trained_on

#: Names of datasets in annotation files -> the namespace of their images.
DATASETS = {name: namespace_of_dataset(name) for name in NAMESPACES} | {
    **dict.fromkeys(("refcoco", "refcoco+", "refcocog", "coco2014", "coco2017"), "coco"),
    **dict.fromkeys(("visual_genome", "visualgenome", "phrasecut"), "vg"),
    **dict.fromkeys(("flickr", "flickr30k_entities"), "flickr30k"),
}
#: Folders of published image files.
_FOLDERS = DATASETS | {
    **{f"{s}{y}": "coco" for s in ("train", "val", "test") for y in (2014, 2015, 2017)},
    **dict.fromkeys(("unlabeled2017", "coco_images"), "coco"),
    **dict.fromkeys(("vg_100k", "vg_100k_2", "vg_images"), "vg"),
    **dict.fromkeys(("flickr30k-images", "flickr30k_images"), "flickr30k"),
}
#: The extension of an image file.
IMAGE_EXTENSION = re.compile(r"\.(?:jpe?g|png|webp|bmp|gif|tiff?)$", re.IGNORECASE)
_COCO_NAME = re.compile(r"COCO_[a-z][a-z0-9]*_[0-9]{12}(?:_[0-9]+)?", re.IGNORECASE)
_OF_COCO = re.compile(rf"[0-9]{{12}}|{_COCO_NAME.pattern}", re.IGNORECASE)
_NUMBER = re.compile(r"n?[0-9]{1,20}(?:\.0+)?", re.IGNORECASE)


class Unknown(Enum):
    """Why it is unknown which published image a record is about."""

    NO_ID = "state neither an id nor a file name"
    NUMBER = "have a number for a name, and no dataset is stated"
    OWN_NAME = "have a name that no published dataset has"
    UNREADABLE = "are of records that cannot be read"


class Reading(NamedTuple):
    """How a file is to be read.

    Attributes:
        namespace: That of ids and file names for which the file states no dataset; or empty.
        role: "train": all that is trained on; "eval": what is not in a split to be trained on.
        with_images: Whether statements get the content of images that the file contains.
    """

    namespace: str = ""
    role: Literal["train", "eval"] = "train"
    with_images: bool = False

    def other_split(self, split: object) -> str:
        """Returns a split if it is known to be of the other role; else an empty text.

        A name that is not known is of both: its images are looked for, and held out.
        """
        if not isinstance(split, str):
            return ""
        is_other = is_trained_on(split) if self.role == "eval" else is_evaluated_on(split)
        return split if is_other else ""


class Statement(NamedTuple):
    """What a record states about its image, or about one of its images.

    Attributes:
        name: The image in messages and counts: its key; without one, the name of its file, with
            the record if that contains the image, since other records may have the name, too.
        keys: The keys of the image that its ids and file names state; several may contradict.
        links: Keys of other datasets that the record states for the same photo.
        unknown: Why there are neither keys nor links; None if there are.
        file: The path of the image file as the record states it; empty if it does not.
        captions: The number of captions of the record.
        content: The image file, from formats that contain it, if it is asked for.
        other_split: The split of the record, if it is not of the role that is read.
        is_further: Whether it is another image of the record of the statement before.
    """

    name: str
    keys: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    unknown: Unknown | None = None
    file: str = ""
    captions: int = 0
    content: bytes | None = None
    other_split: str = ""
    is_further: bool = False


class Record(msgspec.Struct, gc=False):
    """The fields of a record that state its image, under all names that formats give them.

    ``image`` may be a path, an object with a ``path``, or a list of several images.
    """

    id: RawId = None
    image_id: RawId = None
    imageId: RawId = None  # noqa: N815 - as GQA has it
    key: RawId = None
    original_id: RawId = None
    original_img_id: RawId = None
    coco_id: RawId = None
    cocoid: RawId = None
    flickr_id: RawId = None
    data_source: str | None = None
    dataset_name: str | None = None
    file_name: str | None = None
    filename: str | None = None
    file: str | None = None
    image: Any = None
    image_path: str | None = None
    img_path: str | None = None
    path: str | None = None
    coco_url: str | None = None
    flickr_url: str | None = None
    url: str | None = None
    caption: msgspec.Raw = msgspec.Raw()
    captions: list[msgspec.Raw] | None = None
    grounding: msgspec.Raw = msgspec.Raw()
    split: Any = None

    def caption_count(self) -> int:
        """Returns the number of captions of the record; ODVG's ``grounding`` has one."""
        if self.captions is not None:
            return len(self.captions)
        stated = bytes(self.caption) or bytes(self.grounding)
        return int(stated not in (b"", b"null"))

    def files(self) -> tuple[str, ...]:
        """Returns the stated paths and addresses of the image file."""
        image = self.image.get("path") if isinstance(self.image, dict) else self.image
        image = image if isinstance(image, str) else None
        names = (self.file_name, self.filename, self.file, image, self.image_path, self.img_path)
        return tuple(filter(None, (*names, self.path, self.coco_url, self.url)))


#: The fields of which a record needs one to state its image; an ``id`` may be a numbering.
STATING_FIELDS = frozenset(Record.__struct_fields__) - {
    *("id", "data_source", "dataset_name", "caption", "captions", "grounding", "split")
}

_RECORDS = msgspec.json.Decoder(decodable(list[Record]))


def decode_records(content: bytes) -> list[Record | None]:
    """Returns the records of a JSON list; None for one that cannot be read.

    Python's JSON has numbers that are not finite and halves of characters, which the fast decoder
    refuses: after it, records are tried one by one.

    Raises:
        ValueError: It is not JSON of a list.
    """
    try:
        return list(_RECORDS.decode(content))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        elements = json.loads(content.decode("utf-8", "surrogateescape"))
    return [converted(element) for element in elements]


def converted(element: object) -> Record | None:
    """Returns the record of an object of JSON; None if a field is of another type."""
    if not isinstance(element, dict):
        return None
    counts = {
        "captions": [msgspec.Raw()] * len(captions)
        if isinstance(captions := element.get("captions"), list)
        else None,
        **{
            name: msgspec.Raw(b"1")
            for name in ("caption", "grounding")
            if element.get(name) is not None
        },
    }
    names = element.keys() & {*Record.__struct_fields__} - counts.keys()
    fields = {name: element[name] for name in names}
    try:
        for value in _texts(fields):
            value.encode()  # halves of characters cannot be written anywhere
        return msgspec.convert(fields | counts, decodable(Record))
    except (msgspec.ValidationError, UnicodeEncodeError):
        return None


def _texts(value: object) -> Iterator[str]:
    """Yields the texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def place_of(number: int, file: str = "") -> str:
    """Returns a record in messages: its number, and its file if there are several.

    >>> place_of(3), place_of(3, "b.tar")
    ('record 3', 'record 3 of b.tar')
    """
    return f"record {number} of {file}" if file else f"record {number}"


def states(
    record: Record | None,
    reading: Reading,
    place: str,
    *,
    use_id: bool = False,
    contains_image: bool = False,
    split: str = "",
) -> list[Statement]:
    """Returns what a record states about its image, or about each of several images.

    Args:
        reading: Its namespace is that of ids and file names where the record does not state any.
        place: Where the record is, which stands for an image without any name.
        use_id: Whether ``id`` is an id of the image if it has no file name, as in COCO's layout.
        contains_image: Whether the record contains its image.
        split: That of the record's file, where the record states none.
    """
    if record is None:
        statement = Statement(place, unknown=Unknown.UNREADABLE)
        return [statement._replace(other_split=reading.other_split(split))]
    if isinstance(record.image, list):
        records = [msgspec.structs.replace(record, image=image) for image in record.image]
    else:
        records = [record]
    other_split = reading.other_split(record.split or split)
    statements = []
    for number, of_image in enumerate(records or [record]):
        statement = _of_image(of_image, reading.namespace, use_id)
        image_place = f"image {number} of {place}" if len(records) > 1 else place
        if not statement.name:
            statement = statement._replace(name=image_place)
        elif contains_image and statement.unknown:
            statement = statement._replace(name=f"{statement.name} ({image_place})")
        if other_split or number:
            statement = statement._replace(other_split=other_split, is_further=number > 0)
        statements.append(statement)
    return statements


def _of_image(record: Record, default: str, use_id: bool) -> Statement:
    """Returns what a record with one image states; without any name, the name is empty."""
    ids = (record.original_id, record.original_img_id, record.image_id, record.imageId)
    files = record.files()
    if use_id and not files and not any(id_ is not None for id_ in ids):
        ids = (record.id, None, None, None)
    statement = _state(
        record.data_source or "",
        record.dataset_name or "",
        ids,
        record.key,
        files,
        (
            record.cocoid if record.coco_id is None else record.coco_id,
            record.flickr_id,
            record.flickr_url or record.url or "",
        ),
        default,
    )
    captions = record.caption_count()
    return statement._replace(captions=captions) if captions else statement


def state_name(text: str, default: str) -> Statement:
    """Returns what a line of a list states: a key, an id, or the name of a file."""
    if text.partition("/")[0] in NAMESPACES and (key := normal_key(text)):
        return Statement(key, (key,))
    is_file = "/" in text or "\\" in text or IMAGE_EXTENSION.search(text)
    ids, files = ((), (text,)) if is_file else ((text,), ())
    return _state("", "", ids, None, files, (None, None, ""), default)


@functools.lru_cache(maxsize=1 << 12, typed=True)
def _state(
    data_source: str,
    dataset_name: str,
    ids: tuple[RawId, ...],
    key: RawId,
    files: tuple[str, ...],
    links: tuple[RawId, RawId, str],
    default: str,
) -> Statement:
    """Returns a statement without the number of captions."""
    dataset = DATASETS.get((data_source or dataset_name).lower(), "")
    # A dataset that is not published has images of its own, whatever their numbers.
    is_own = bool(data_source) and not dataset
    namespace = dataset or ("" if is_own else default)
    known: list[str] = []
    if isinstance(key, str) and key.partition("/")[0] in NAMESPACES:
        known += filter(None, [normal_key(key)])
    stated = [id_ for id_ in ids if id_ is not None]
    of_ids: list[str | Unknown | None] = []
    if stated:
        folder = next(filter(None, map(namespace_of_folder, files)), "")
        of_ids = [_key_of_id(id_, namespace or folder) for id_ in stated]
    known += (result for result in of_ids if isinstance(result, str))
    # The number in a file's name may be one of the file's own; a name of COCO is not.
    is_known = bool(known)
    of_files = [_key_of_file(p, namespace) for p in files if not is_known or _is_published(p)]
    known += (result for result in of_files if isinstance(result, str))
    keys = tuple(dict.fromkeys(known))
    linked = tuple(key for key in _links(*links) if key not in keys) if any(links) else ()
    file = files[0] if files else ""
    if keys or linked:
        return Statement((*keys, *linked)[0], keys, linked, None, file)
    text = next((str(id_) for id_ in (*stated, key) if id_ is not None), "")
    unknown = next((r for r in (*of_files, *of_ids) if isinstance(r, Unknown)), Unknown.NO_ID)
    if unknown is Unknown.NUMBER and is_own:
        unknown = Unknown.OWN_NAME
    return Statement(file or text, unknown=unknown, file=file)


def _key_of_id(id_: RawId, namespace: str) -> str | Unknown | None:
    """Returns the key of an id, or why there is none; None for a statement that there is no id."""
    if id_ is None or (isinstance(id_, float) and math.isnan(id_)):  # as tables have it
        return None
    try:
        if not has_id(id_):
            return None
    except ImageIdError:
        return Unknown.OWN_NAME
    if isinstance(id_, str) and _COCO_NAME.fullmatch(IMAGE_EXTENSION.sub("", id_.strip())):
        return _image_key("coco", IMAGE_EXTENSION.sub("", id_.strip()))
    if namespace:
        return _image_key(namespace, id_)
    return Unknown.NUMBER if _NUMBER.fullmatch(str(id_).strip()) else Unknown.OWN_NAME


def _key_of_file(path: str, namespace: str) -> str | Unknown:
    """Returns the key that the name of a file states, or why there is none."""
    stem = _stem(path)
    if _OF_COCO.fullmatch(stem):
        return _image_key("coco", stem)
    if not _NUMBER.fullmatch(stem):
        return Unknown.OWN_NAME
    namespace = namespace_of_folder(path) or namespace
    return _image_key(namespace, stem) if namespace else Unknown.NUMBER


def _image_key(namespace: str, id_: RawId) -> str | Unknown:
    try:
        return image_key(namespace, id_)
    except ImageIdError:
        return Unknown.OWN_NAME


def _is_published(path: str) -> bool:
    """Returns whether a file's name or folder is that of one dataset only."""
    return bool(_OF_COCO.fullmatch(_stem(path)) or namespace_of_folder(path))


def _stem(path: str) -> str:
    name = path.partition("?")[0].replace("\\", "/").rpartition("/")[2]
    return IMAGE_EXTENSION.sub("", name)


def namespace_of_folder(path: str) -> str:
    """Returns the namespace of the images of a file's folders, the innermost first; or empty."""
    folders, slash, _ = path.replace("\\", "/").rpartition("/")
    return _namespace_of_folders(folders) if slash else ""


@functools.lru_cache(maxsize=1 << 10)
def _namespace_of_folders(folders: str) -> str:
    names = reversed(folders.lower().split("/"))
    return next((_FOLDERS[name] for name in names if name in _FOLDERS), "")


def _links(coco_id: RawId, flickr_id: RawId, url: str) -> Iterator[str]:
    for namespace, id_ in (("coco", coco_id), ("flickr30k", flickr_id)):
        if isinstance(key := _key_of_id(id_, namespace), str):
            yield key
    if photo := photo_id_of_url(url):
        yield f"flickr30k/{photo}"
