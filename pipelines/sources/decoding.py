"""Decoding the slices of a raw JSON file into typed records, of which some may be bad.

A slice is decoded in one call into ``msgspec`` structs, which skip every field that they do not
name. Only if that fails is it decoded element by element, to tell the bad ones from the good.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from schemas import Rejected

T = TypeVar("T")

Bad = tuple[str, str]  # position in the list, or key in the dict; what is wrong with the record

# JSON and pickles know integers of any length; records that are packed or written do not.
Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # COCO's crowds go beyond 32 bits
Category = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


def decode_list(content: bytes | msgspec.Raw, type_: type[T]) -> tuple[list[T], list[Bad]]:
    """The good records of a JSON list, and the position in ``content`` and the fault of the bad.

    Raises ``ValueError`` if ``content`` is not a JSON list at all.

    >>> decode_list(b'[1, "two", 3]', int)
    ([1, 3], [('1', 'Expected `int`, got `str`')])
    """
    try:
        return msgspec.json.decode(content, type=list[type_]), []  # type: ignore[valid-type]
    except ValueError:
        elements = msgspec.json.decode(content, type=list[msgspec.Raw])
    decoder = msgspec.json.Decoder(type_)
    good: list[T] = []
    bad: list[Bad] = []
    for position, element in enumerate(elements):
        try:
            good.append(decoder.decode(element))
        except ValueError as fault:
            bad.append((str(position), str(fault)))
    return good, bad


def decode_dict(content: bytes, type_: type[T]) -> tuple[dict[str, T], list[Bad]]:
    """The good records of a JSON dict, and the key and the fault of the bad ones.

    Raises ``ValueError`` if ``content`` is not a JSON dict at all.

    >>> decode_dict(b'{"a": 1, "b": null}', int)
    ({'a': 1}, [('b', 'Expected `int`, got `null`')])
    """
    try:
        return msgspec.json.decode(content, type=dict[str, type_]), []  # type: ignore[valid-type]
    except ValueError:
        elements = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    decoder = msgspec.json.Decoder(type_)
    good: dict[str, T] = {}
    bad: list[Bad] = []
    for key, element in elements.items():
        try:
            good[key] = decoder.decode(element)
        except ValueError as fault:
            bad.append((key, str(fault)))
    return good, bad


def malformed(
    source: str, bad: Iterable[Bad], path: str, records: int = 1, image: str = ""
) -> Iterator[Rejected]:
    """The bad records of a file. ``records``: how many are lost by each, 0 where it is counted
    elsewhere.

    Of ``path`` only the name is told: the same data at another place gives the same bytes.
    """
    for record, fault in bad:
        detail = f"{Path(path).name}: {fault}"
        yield Rejected(source, record, "malformed record", detail, image, records)
