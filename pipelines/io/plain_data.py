"""Files that are read as a whole: lists and dicts in a pickle or in JSON."""

from typing import Any

import msgspec

from pipelines.io.archives import read_whole
from pipelines.io.raw_files import RawFileError, without_byte_order_mark
from schemas import safe_pickle
from schemas.limits import MAX_CONTAINERS, MAX_WHOLE_FILE_BYTES


def load(path: str) -> Any:
    """Returns the object in a pickle or a JSON file, which is recognized by its content.

    Raises:
        RawFileError: It is neither, or beyond the limits of `schemas.limits`.
        FileNotFoundError: There is no such file.
    """
    content = without_byte_order_mark(read_whole(path, MAX_WHOLE_FILE_BYTES))
    # No pickle begins with a bracket.
    return (
        loads_json(content, path)
        if content.lstrip()[:1] in (b"[", b"{")
        else loads_pickle(content, path)
    )


def loads_pickle(content: bytes, name: str) -> Any:
    """Returns the object in a pickle, which messages call ``name``.

    Raises:
        RawFileError: It is no pickle of plain data, or beyond the limits of `schemas.limits`.
    """
    try:
        return safe_pickle.loads(content, name)
    except safe_pickle.PickleError as error:
        raise RawFileError(str(error)) from error


def loads_json(content: bytes, name: str) -> Any:
    """Returns the object in JSON, which messages call ``name``.

    Raises:
        RawFileError: It is not JSON, or has too many lists and dicts.
    """
    containers = content.count(b"[") + content.count(b"{")
    if containers > MAX_CONTAINERS:
        raise RawFileError(f"{name}: {containers} lists and dicts, more than {MAX_CONTAINERS}")
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RawFileError(f"{name}: expected JSON: {error}") from error
