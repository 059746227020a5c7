"""Decoding slices of raw JSON files into typed records, some of which may be malformed.

A slice is decoded in one call into ``msgspec`` structs, which skip every field that they do not
name. Only if that fails is it decoded record by record, to separate the bad ones from the good. A
whole float (``70010.0``) is then read where a record has an integer, and digits in quotes where it
has an id: tables that passed through other programs have both.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import inspect

from pipelines.io.archives import file_name
from pipelines.io.json_repair import REPAIRED_KEY, repaired
from schemas import Rejected
from schemas.decodable import decodable

T = TypeVar("T")

# JSON and pickles can hold integers of any length; msgpack and Parquet cannot.
Id = Annotated[  # COCO's crowds go beyond 32 bits
    int, msgspec.Meta(ge=-(2**63), le=2**63 - 1, extra={"is_id": True})
]
#: The id of an image across datasets: published files state 0 or -1 where there is none.
ImageId = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1, extra={"is_id": True})]
Category = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]

_TOO_DEEP = "lists or objects are nested too deeply"
_NOT_TEXT = "not Unicode text: a lone surrogate, or bytes that are not UTF-8"


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
        return msgspec.json.decode(content, type=decodable(list[record_type])), []  # type: ignore[valid-type]
    except ValueError:
        elements = raw_elements(content)
    good: list[T] = []
    bad: list[BadRecord] = []
    for position, element in enumerate(elements):
        try:
            good.append(decode_record(element, record_type))
        except ValueError as error:
            bad.append(BadRecord(str(position), _message(error)))
    return good, bad


def decode_dict(content: bytes, record_type: type[T]) -> tuple[dict[str, T], list[BadRecord]]:
    """Returns the good and the bad records of a JSON dict.

    Raises:
        ValueError: ``content`` is not a JSON dict at all.

    >>> decode_dict(b'{"a": 1, "b": null}', int)
    ({'a': 1}, [BadRecord(key='b', error='Expected `int`, got `null`')])
    """
    try:
        decoded = msgspec.json.decode(content, type=decodable(dict[str, record_type]))  # type: ignore[valid-type]
        return decoded, []
    except ValueError:
        elements = decode_file(content, dict[str, msgspec.Raw])
    good: dict[str, T] = {}
    bad: list[BadRecord] = []
    for key, element in elements.items():
        if REPAIRED_KEY in key:
            bad.append(BadRecord(key, _NOT_TEXT))
            continue
        try:
            good[key] = decode_record(element, record_type)
        except ValueError as error:
            bad.append(BadRecord(key, _message(error)))
    return good, bad


def decode_record(content: bytes | memoryview | msgspec.Raw, record_type: type[T]) -> T:
    """Returns one record of JSON; whole floats are integers, and digits in quotes are ids.

    What `json_repair` repairs is repaired.

    Raises:
        ValueError: it is not a record of this type.

    >>> decode_record(b'[7.0, 7]', list[int])
    [7, 7]
    """
    layout: Any = record_type  # for mypy, a type is not hashable
    decoder, info = _decoder(layout)
    try:
        record: T = decoder.decode(content)
    except msgspec.ValidationError as error:
        try:
            record = decoder.decode(_with_integers(msgspec.Raw(bytes(content)), info))
        except msgspec.ValidationError:
            raise error from None
        except RecursionError:
            raise ValueError(_TOO_DEEP) from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except msgspec.DecodeError:
        repaired_content = repaired(bytes(content))
        if repaired_content == content:
            raise
        record = decode_record(repaired_content, record_type)
    return record


def convert_record(value: Any, record_type: type[T]) -> T:
    """Returns one record of plain values, from a pickle; numbers as in `decode_record`.

    Raises:
        msgspec.ValidationError: it is not a record of this type.
    """
    layout: Any = record_type  # for mypy, a type is not hashable
    try:
        return msgspec.convert(value, decodable(record_type))
    except msgspec.ValidationError as error:
        try:
            return msgspec.convert(
                _with_integer_values(value, _decoder(layout)[1]), decodable(record_type)
            )
        except (msgspec.ValidationError, UnicodeEncodeError):
            raise error from None
    except UnicodeEncodeError as error:  # of a lone surrogate
        raise msgspec.ValidationError(_NOT_TEXT) from error


@functools.cache
def _decoder(record_type: Any) -> tuple[msgspec.json.Decoder[Any], inspect.Type]:
    return msgspec.json.Decoder(decodable(record_type)), inspect.type_info(record_type)


def _with_integers(content: msgspec.Raw, info: inspect.Type, is_id: bool = False) -> msgspec.Raw:
    """Returns JSON with integers where a type has them; everything else is unchanged."""
    try:
        match info:
            case inspect.Metadata(type=inner, extra=extra):
                return _with_integers(content, inner, bool(extra and extra.get("is_id")))
            case inspect.IntType():
                number = msgspec.json.decode(content)
                integer = _integer(number, is_id)
                return content if integer is number else _encoded(integer)
            case inspect.UnionType(types=types):
                if bytes(content) == b'""' and _is_id_or_none(types):
                    return _encoded(None)
                for inner in types:
                    content = _with_integers(content, inner)
            case inspect.ListType(item_type=inner):
                elements = msgspec.json.decode(content, type=list[msgspec.Raw])
                return _encoded([_with_integers(element, inner) for element in elements])
            case inspect.DictType(value_type=inner):
                entries = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
                return _encoded({key: _with_integers(e, inner) for key, e in entries.items()})
            case inspect.StructType(fields=fields):
                entries = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
                for field in fields:
                    if field.encode_name in entries:
                        value = entries[field.encode_name]
                        entries[field.encode_name] = _with_integers(value, field.type)
                return _encoded(entries)
    except msgspec.ValidationError:
        pass  # of another type, which the decoder of the record reports
    return content


def _with_integer_values(value: Any, info: inspect.Type, is_id: bool = False) -> Any:
    """Returns plain values as `_with_integers` returns JSON."""
    match info:
        case inspect.Metadata(type=inner, extra=extra):
            return _with_integer_values(value, inner, bool(extra and extra.get("is_id")))
        case inspect.IntType():
            return _integer(value, is_id)
        case inspect.UnionType(types=types):
            if value == "" and _is_id_or_none(types):
                return None
            for inner in types:
                value = _with_integer_values(value, inner)
        case inspect.ListType(item_type=inner) if isinstance(value, list | tuple):
            return [_with_integer_values(element, inner) for element in value]
        case inspect.DictType(value_type=inner) if isinstance(value, dict):
            return {key: _with_integer_values(item, inner) for key, item in value.items()}
        case inspect.StructType(fields=fields) if isinstance(value, dict):
            known = {field.encode_name: field.type for field in fields}
            return {
                key: _with_integer_values(item, known[key]) if key in known else item
                for key, item in value.items()
            }
    return value


def _is_id_or_none(types: tuple[inspect.Type, ...]) -> bool:
    return len(types) == 2 and {type(t) for t in types} == {inspect.Metadata, inspect.NoneType}


def _integer(value: Any, is_id: bool) -> Any:
    """Returns the integer that a value is, or the value itself."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    if is_id and isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}(\.0+)?", value):
        return int(value.partition(".")[0])
    return value


def _encoded(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def decode_file(content: bytes | memoryview | msgspec.Raw, layout: type[T]) -> T:
    """Returns a whole JSON file, with what `json_repair` repairs; its records may be ``Raw``.

    Raises:
        ValueError: ``content`` is not in the layout.
    """
    try:
        return msgspec.json.decode(content, type=decodable(layout))
    except ValueError:
        return msgspec.json.decode(repaired(bytes(content)), type=decodable(layout))


def raw_elements(content: bytes | msgspec.Raw) -> list[msgspec.Raw]:
    """Returns the undecoded elements of a JSON list, with what `json_repair` repairs.

    Raises:
        ValueError: ``content`` is not a JSON list at all.
    """
    return decode_file(content, list[msgspec.Raw])


def decode_parts(
    content: bytes | msgspec.Raw, bad: Sequence[BadRecord], part_type: type[T]
) -> list[T | None]:
    """Returns a part, such as the id, of each bad record of a list; None if that is bad, too.

    >>> decode_parts(b'[1, {"id": 7, "size": "x"}]', [BadRecord("1", "size")], dict)
    [{'id': 7, 'size': 'x'}]
    """
    if not bad:
        return []
    elements = raw_elements(content)
    parts: list[T | None] = []
    for record in bad:
        try:
            parts.append(decode_record(elements[int(record.key)], part_type))
        except ValueError:
            parts.append(None)
    return parts


def _message(error: ValueError) -> str:
    return _NOT_TEXT if isinstance(error, UnicodeDecodeError) else str(error)


def reject_malformed(
    source: str,
    bad: Iterable[BadRecord],
    path: str,
    records: int = 1,
    image: str = "",
    boxes: int = 0,
) -> Iterator[Rejected]:
    """Yields a rejection for each bad record of a file.

    Args:
        source: the name of the source.
        bad: the records that could not be decoded.
        path: the file; only its name is reported, so that the bytes of a shard set do not depend
            on where the raw files are.
        records: how many captions each loses; 0 where the loss is counted elsewhere.
        image: the key of their image, if it is known.
        boxes: how many boxes each loses.
    """
    for key, error in bad:
        detail = f"{file_name(path)}: {error}"
        yield Rejected(source, key, "malformed record", detail, image, records, boxes)
