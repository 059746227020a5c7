"""Lists of pictures that may not be trained on, from files of ids."""

import re
from pathlib import Path
from typing import NamedTuple

import msgspec

_ID = re.compile(r"[A-Za-z0-9_+-]{1,80}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_+-]+")


class HeldOutError(ValueError):
    """A list of held-out pictures that cannot be read, or names none."""


class HeldOut(NamedTuple):
    """A list as it was asked for, ``coco=ids.txt``, and the keys of its pictures."""

    name: str
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
    object with a list ``images`` of objects with an ``id`` (the layout of COCO). Leading zeros of
    a number are dropped. Ids of Visual Genome and of GQA are those of GQA's files: ``n578020``
    stands for COCO's 578020, and what else ``gqa`` names stands under ``vg``.

    Raises:
        HeldOutError: it is not of that form, or names no picture.
        OSError: the file cannot be read.
    """
    namespace, equals, path = argument.partition("=")
    if not (equals and path and _NAMESPACE.fullmatch(namespace)):
        raise HeldOutError(f"expected NAMESPACE=FILE, such as coco=ids.txt, found {argument!r}")
    ids = _ids(path)
    if not ids:
        raise HeldOutError(f"{path} names no picture")
    return HeldOut(argument, frozenset(_key(namespace, id_, path) for id_ in ids))


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
    if not _ID.fullmatch(id_):
        raise HeldOutError(f"{path}: {id_[:50]!a} is no id of a picture")
    if namespace in ("gqa", "vg"):
        namespace = "vg"
        if re.fullmatch("n[0-9]+", id_):
            namespace, id_ = "coco", id_[1:]
    return f"{namespace}/{int(id_) if id_.isdecimal() else id_}"
