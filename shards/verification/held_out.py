"""Reads lists of image ids that must not be in train."""

import re
from pathlib import Path
from typing import NamedTuple

import msgspec

# The format of ids in the lists of each dataset; all others are plain names.
_ID_PATTERNS = {
    "coco": re.compile(r"(?:COCO_[A-Za-z0-9]+_)?(?P<number>[0-9]{1,20})(?:\.jpg)?"),
    "flickr30k": re.compile(r"(?P<number>[0-9]{1,20})(?:\.jpg)?"),
    "vg": re.compile(r"(?P<coco>n?)(?P<number>[0-9]{1,20})"),
}
_ID_PATTERNS["gqa"] = _ID_PATTERNS["vg"]
_PLAIN_ID = re.compile(r"[A-Za-z0-9_+-]{1,80}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_+-]+")


class HeldOutListError(ValueError):
    """A list of held-out images cannot be read, or is empty."""


class HeldOutList(NamedTuple):
    """The image keys of a list, which ``argument`` (such as ``coco=ids.txt``) named.

    ``namespace`` is that of the argument: the keys of a list of ``gqa`` begin with vg or coco.
    """

    argument: str
    namespace: str
    keys: frozenset[str]


class _WithId(msgspec.Struct):
    id: int | str


class _WithImageId(msgspec.Struct):
    image_id: int | str


class _CocoLayout(msgspec.Struct):
    images: list[_WithId]


def read_held_out(argument: str) -> HeldOutList:
    """Reads the list that ``NAMESPACE=FILE`` names, as keys of a shard set.

    FILE has one id per line, or is JSON: a list of ids or of objects with an ``image_id``, or an
    object with a list ``images`` of objects with an ``id`` (COCO's layout). Ids of ``coco`` and
    ``flickr30k`` are numbers or file names (``COCO_train2014_000000000139.jpg``). Those of ``vg``
    and ``gqa`` are the ids in GQA's files: ``n578020`` is COCO's 578020, all other ids of ``gqa``
    are keys of ``vg``. Leading zeros of a number are dropped.

    Raises:
        HeldOutListError: the file has another form, is empty, or has ids of another form.
        OSError: the file cannot be read.
    """
    namespace, equals, path = argument.partition("=")
    if not (equals and path and _NAMESPACE.fullmatch(namespace)):
        raise HeldOutListError(f"expected NAMESPACE=FILE, such as coco=ids.txt, got {argument!r}")
    ids = _read_ids(path)
    if not ids:
        raise HeldOutListError(f"{path} has no image ids")
    return HeldOutList(argument, namespace, frozenset(_key(namespace, id_, path) for id_ in ids))


def _read_ids(path: str) -> list[str]:
    try:
        content = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HeldOutListError(f"{path} is neither lines of ids nor JSON: {error}") from error
    if not content.lstrip().startswith(("[", "{")):
        return [line.strip() for line in content.splitlines() if line.strip()]
    layout = list[int | str | _WithImageId] | _CocoLayout
    try:
        decoded = msgspec.json.decode(content, type=layout)
    except msgspec.MsgspecError as error:
        raise HeldOutListError(f"{path} is not JSON of image ids: {error}") from error
    if isinstance(decoded, _CocoLayout):
        return [str(image.id) for image in decoded.images]
    return [str(row.image_id if isinstance(row, _WithImageId) else row) for row in decoded]


def _key(namespace: str, id_: str, path: str) -> str:
    match = _ID_PATTERNS.get(namespace, _PLAIN_ID).fullmatch(id_)
    if match is None:
        raise HeldOutListError(f"{path}: {id_[:50]!a} is not an image id of {namespace}")
    groups = match.groupdict()
    if "number" in groups:
        id_ = str(int(groups["number"]))
    if "coco" in groups:
        namespace = "coco" if groups["coco"] else "vg"
    return f"{namespace}/{int(id_) if id_.isdecimal() else id_}"
