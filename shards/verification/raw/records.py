"""A raw record, as far as a sentence of a sample can be compared with it."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeVar

T = TypeVar("T")
Box = tuple[float, float, float, float]


class RawRecord(NamedTuple):
    """A sentence of a raw file.

    Attributes:
        image: The key of its image in its own dataset.
        same_as: The key of the image from which that was made; empty if the file states none.
        text: The sentence as published.
        size: Width and height of the image, for which the boxes are; (0, 0) if not known.
        boxes: The boxes that its regions may have, (x0, y0, x1, y1) in pixels of the image.
        regions: "each": a region for each box; "some": each region has one of the boxes; "near":
            each region is near one of them, since a build takes means.
        alternatives: Boxes that a build may take instead of ``boxes``.
        facts: Fields of the question, of the caption, or of each region, by name.
        place: The file and the position in it, by which a build names a malformed record.
    """

    image: str
    text: str
    size: tuple[int, int] = (0, 0)
    boxes: tuple[Box, ...] = ()
    regions: Literal["each", "some", "near"] = "some"
    alternatives: tuple[Box, ...] = ()
    same_as: str = ""
    facts: Mapping[str, Any] = MappingProxyType({})
    place: str = ""


def corners(x: float, y: float, width: float, height: float) -> Box:
    """Returns a box of (x, y, width, height) by its corners."""
    return x, y, x + width, y + height


def readable(items: Iterable[Any], read: Callable[..., T], *arguments: Any) -> Iterator[T]:
    """Yields ``read(item, *arguments)`` of each item, without those that are malformed.

    A build rejects them, too; a sentence that it made of one is no raw record of the image.

    >>> list(readable([{"id": 1}, None, {}], lambda item: item["id"]))
    [1]
    """
    for item in items:
        try:
            result = read(item, *arguments)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
            continue
        yield result


def size_of(record: Mapping[str, Any]) -> tuple[int, int]:
    """Returns width and height, which files state as integers, floats or texts.

    Raises:
        KeyError, TypeError, ValueError: they are missing, or no numbers.
    """
    return int(float(record["width"])), int(float(record["height"]))


def text_of(value: Any) -> str:
    """Returns a value that is a text.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def place(path: str, position: object) -> str:
    """Returns where a record is: the name of its file, and the position there.

    >>> place("refcoco/refs.p.zip", 7)
    'refs.p: 7'
    """
    return f"{path.rpartition('/')[2].removesuffix('.zip')}: {position}"


def record_id(value: Any) -> str:
    """Returns the id of a record as builds spell it: a whole float, or one in quotes, as integer.

    >>> record_id(7), record_id(7.0), record_id("7.0"), record_id("07005"), record_id("a-7")
    ('7', '7', '7', '7005', 'a-7')
    """
    match = re.fullmatch(r"(-?[0-9]+)(\.0+)?", str(value))
    return str(int(match[1])) if match else str(value)


def vg_image_id(row: Mapping[str, Any]) -> Any:
    """Returns the id of an image in a record of Visual Genome, which version 1.0 calls ``id``."""
    return row["image_id"] if "image_id" in row else row["id"]
