"""Reads lists of image ids that must not be in train."""

import contextlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from schemas.decodable import decodable
from schemas.image_ids import ImageIdError, RawId, keys_of_listed, known_namespace, namespace_of
from shards.format.manifest import ShardError
from shards.reading.shard_set import ShardSet


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
    id: int | float | str


class _WithImageId(msgspec.Struct):
    image_id: int | float | str


class _CocoLayout(msgspec.Struct):
    images: list[_WithId]


def namespaces_of_keys(shards: ShardSet) -> frozenset[str]:
    """Returns the namespaces of a set's keys; shards whose index cannot be read are left out."""
    namespaces: set[str] = set()
    for shard in range(len(shards.shards)):
        with contextlib.suppress(ShardError):  # `verify` reports it
            namespaces.update(map(namespace_of, shards.rows(shard, ["key"])["key"].to_pylist()))
    return frozenset(namespaces)


def read_held_out(argument: str, others: frozenset[str] = frozenset()) -> HeldOutList:
    """Reads the list that ``NAMESPACE=FILE`` names, as keys of a shard set.

    FILE has one id per line, or is JSON: a list of ids or of objects with an ``image_id``, or an
    object with a list ``images`` of objects with an ``id`` (COCO's layout). Ids are spelled as
    `keys_of_listed` reads them. NAMESPACE is a published one, or one of ``others``, as of the shard
    set.

    Raises:
        HeldOutListError: the namespace is unknown, or the file has another form, is empty, or has
            ids of another form.
        OSError: the file cannot be read.
    """
    namespace, _, path = argument.partition("=")
    if not (path and namespace):
        raise HeldOutListError(f"expected NAMESPACE=FILE, such as coco=ids.txt, got {argument!r}")
    try:
        namespace = known_namespace(namespace, others)
        ids = _read_ids(path)
        if not ids:
            raise HeldOutListError(f"{path} has no image ids")
        keys_of_list = frozenset(
            key for id_ in ids for key in keys_of_listed(namespace, id_, others)
        )
    except ImageIdError as error:
        raise HeldOutListError(f"{path}: {error}") from error
    return HeldOutList(argument, namespace, keys_of_list)


def _read_ids(path: str) -> list[RawId]:
    try:
        content = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HeldOutListError(f"{path} is neither lines of ids nor JSON: {error}") from error
    if not content.lstrip().startswith(("[", "{")):
        return [line.strip() for line in content.splitlines() if line.strip()]
    layout = list[int | float | str | _WithImageId] | _CocoLayout
    try:
        decoded = msgspec.json.decode(content, type=decodable(layout))
    except msgspec.MsgspecError as error:
        raise HeldOutListError(f"{path} is not JSON of image ids: {error}") from error
    if isinstance(decoded, _CocoLayout):
        return [image.id for image in decoded.images]
    return [row.image_id if isinstance(row, _WithImageId) else row for row in decoded]
