"""Decoding the slices of a raw JSON file into typed records, of which some may be bad.

A slice is decoded in one call into ``msgspec`` structs, which skip every field that they do not
name. Only if that fails is it decoded element by element, to tell the bad ones from the good.
"""

from typing import TypeVar

import msgspec

T = TypeVar("T")

Bad = tuple[str, str]  # position in the list, or key in the dict; what is wrong with the record


def decode_list(content: bytes, type_: type[T]) -> tuple[list[T], list[Bad]]:
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
