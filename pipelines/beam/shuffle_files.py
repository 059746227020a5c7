"""Files for what the local runner shuffles, which holds several copies of it in memory otherwise.

The elements of the shuffle then only state where their content is.
"""

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from schemas.decodable import decodable


class _Part(msgspec.Struct, array_like=True):
    file: str
    start: int
    size: int


def write_parts(parts: Mapping[bytes, bytes], folder: str) -> Iterator[tuple[bytes, bytes]]:
    """Writes the contents of several keys to a new file; yields where each is, by key."""
    if not parts:
        return
    name, start = uuid.uuid4().hex, 0
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, name).write_bytes(b"".join(parts.values()))
    for key, content in parts.items():
        yield key, msgspec.msgpack.encode(_Part(name, start, len(content)))
        start += len(content)


def read_part(part: bytes, folder: str) -> bytes:
    """Returns the content of a key."""
    place = msgspec.msgpack.decode(part, type=decodable(_Part))
    with Path(folder, place.file).open("rb") as file:
        file.seek(place.start)
        return file.read(place.size)
