"""Lists of images that may not be trained on, from files of ids."""

import re
from pathlib import Path
from typing import NamedTuple

import msgspec

# How ids are written in the lists of each data set; of others they are plain names.
_NUMBERS = {
    "coco": re.compile(r"(?:COCO_[A-Za-z0-9]+_)?(?P<number>[0-9]{1,20})(?:\.jpg)?"),
    "flickr30k": re.compile(r"(?P<number>[0-9]{1,20})(?:\.jpg)?"),
    "vg": re.compile(r"(?P<coco>n?)(?P<number>[0-9]{1,20})"),
}
_NUMBERS["gqa"] = _NUMBERS["vg"]
_ID = re.compile(r"[A-Za-z0-9_+-]{1,80}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_+-]+")


class HeldOutError(ValueError):
    """A list of held-out images that cannot be read, or names none."""


class HeldOut(NamedTuple):
    """A list as it was asked for, ``coco=ids.txt``, and the keys of its images."""

    name: str
    namespace: str  # as asked for: ``gqa``, though its keys begin with vg or coco
    keys: frozenset[str]


class _ById(msgspec.Struct):
    id: int | str


class _ByImageId(msgspec.Struct):
    image_id: int | str


class _CocoLayout(msgspec.Struct):
    images: list[_ById]


def read_held_out(argument: str) -> HeldOut:
    """The list that ``NAMESPACE=FILE`` names, as keys of a shard set.

    FILE has an id a line, or is JSON: a list of ids or of objects with an ``image_id``, or an
    object with a list ``images`` of objects with an ``id`` (the layout of COCO). Ids of ``coco``
    and ``flickr30k`` are numbers, or names of files (``COCO_train2014_000000000139.jpg``). Those of
    ``vg`` and ``gqa`` are those of GQA's files: ``n578020`` stands for COCO's 578020, and what else
    ``gqa`` names stands under ``vg``. Leading zeros of a number are dropped.

    Raises:
        HeldOutError: it is not of that form, names no image, or has ids of another form.
        OSError: the file cannot be read.
    """
    namespace, equals, path = argument.partition("=")
    if not (equals and path and _NAMESPACE.fullmatch(namespace)):
        raise HeldOutError(f"expected NAMESPACE=FILE, such as coco=ids.txt, found {argument!r}")
    ids = _ids(path)
    if not ids:
        raise HeldOutError(f"{path} names no image")
    return HeldOut(argument, namespace, frozenset(_key(namespace, id_, path) for id_ in ids))


def _ids(path: str) -> list[str]:
    try:
        content = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HeldOutError(f"{path} is neither lines of ids nor JSON: {error}") from error
    if not content.lstrip().startswith(("[", "{")):
        return [line.strip() for line in content.splitlines() if line.strip()]
    layout = list[int | str | _ByImageId] | _CocoLayout
    try:
        found = msgspec.json.decode(content, type=layout)
    except msgspec.MsgspecError as error:
        raise HeldOutError(f"{path} is not JSON of image ids: {error}") from error
    if isinstance(found, _CocoLayout):
        return [str(image.id) for image in found.images]
    return [str(row.image_id if isinstance(row, _ByImageId) else row) for row in found]


def _key(namespace: str, id_: str, path: str) -> str:
    found = _NUMBERS.get(namespace, _ID).fullmatch(id_)
    if found is None:
        raise HeldOutError(f"{path}: {id_[:50]!a} is no id of an image of {namespace}")
    parts = found.groupdict()
    if "number" in parts:
        id_ = str(int(parts["number"]))
    if "coco" in parts:
        namespace = "coco" if parts["coco"] else "vg"
    return f"{namespace}/{int(id_) if id_.isdecimal() else id_}"
