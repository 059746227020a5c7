"""Decoding slices of raw JSON files into typed records, some of which may be malformed.

A slice is decoded in one call into ``msgspec`` structs, which skip every field that they do not
name. Only if that fails is it decoded record by record, to separate the bad ones from the good.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

import msgspec

from schemas import Rejected

T = TypeVar("T")

# JSON and pickles can hold integers of any length; msgpack and Parquet cannot.
Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # COCO's crowds go beyond 32 bits
Category = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


class BadRecord(NamedTuple):
    """A record that could not be decoded."""

    key: str  # its position in the list, or its key in the dict
    error: str


def decode_list(
    content: bytes | msgspec.Raw, record_type: type[T]
) -> tuple[list[T], list[BadRecord]]:
    """Returns the good and the bad records of a JSON list.

    Raises:
        ValueError: ``content`` is not a JSON list at all.

    >>> decode_list(b'[1, "two", 3]', int)
    ([1, 3], [BadRecord(key='1', error='Expected `int`, got `str`')])
    """
    try:
        return msgspec.json.decode(content, type=list[record_type]), []  # type: ignore[valid-type]
    except ValueError:
        elements = msgspec.json.decode(content, type=list[msgspec.Raw])
    decoder = msgspec.json.Decoder(record_type)
    good: list[T] = []
    bad: list[BadRecord] = []
    for position, element in enumerate(elements):
        try:
            good.append(decoder.decode(element))
        except ValueError as error:
            bad.append(BadRecord(str(position), str(error)))
    return good, bad


def decode_dict(content: bytes, record_type: type[T]) -> tuple[dict[str, T], list[BadRecord]]:
    """Returns the good and the bad records of a JSON dict.

    Raises:
        ValueError: ``content`` is not a JSON dict at all.

    >>> decode_dict(b'{"a": 1, "b": null}', int)
    ({'a': 1}, [BadRecord(key='b', error='Expected `int`, got `null`')])
    """
    try:
        decoded = msgspec.json.decode(content, type=dict[str, record_type])  # type: ignore[valid-type]
        return decoded, []
    except ValueError:
        elements = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    decoder = msgspec.json.Decoder(record_type)
    good: dict[str, T] = {}
    bad: list[BadRecord] = []
    for key, element in elements.items():
        try:
            good[key] = decoder.decode(element)
        except ValueError as error:
            bad.append(BadRecord(key, str(error)))
    return good, bad


def reject_malformed(
    source: str, bad: Iterable[BadRecord], path: str, records: int = 1, image: str = ""
) -> Iterator[Rejected]:
    """Yields a rejection for each bad record of a file.

    Args:
        source: the name of the source.
        bad: the records that could not be decoded.
        path: the file; only its name is reported, so that the bytes of a shard set do not depend
            on where the raw files are.
        records: how many records each loses; 0 where the loss is counted elsewhere.
        image: the key of their image, if it is known.
    """
    for key, error in bad:
        detail = f"{Path(path).name}: {error}"
        yield Rejected(source, key, "malformed record", detail, image, records)
