"""Reads untrusted pickles without executing code.

RefCOCO's ``refs(*).p`` and the published lists of image ids are pickles. A pickle is a program
that may call any function of any module; here it may only create plain containers, strings,
numbers, booleans and ``None``. Scalars of numpy, which pandas writes, are read as numbers: the
functions that a pickle names for them are replaced by ones of this module, which a pickle can call
but not change, and which are never part of what is returned.
"""

import io
import pickle
import pickletools
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from schemas.limits import FREE_PICKLE_OBJECTS, MAX_CONTAINERS

_MAKES_CONTAINER = frozenset(
    {
        *("EMPTY_LIST", "LIST", "EMPTY_DICT", "DICT", "EMPTY_SET", "FROZENSET", "REDUCE"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    }
)
_CONTAINERS = frozenset({dict, list, tuple, set, frozenset})
_PLAIN = _CONTAINERS | {type(None), bool, int, float, str, bytes, bytearray}


class PickleError(ValueError):
    """Bytes are no pickle of plain data; the message names the file."""


def loads(content: bytes, name: str = "<pickle>") -> Any:
    """Returns the object in the bytes of a pickle, which messages call ``name``.

    Strings that Python 2 wrote as bytes are read as UTF-8, or as Latin-1 if that fails.

    Raises:
        PickleError: Not a pickle, truncated, beyond the limits of `schemas.limits`, or it
            refers to anything but plain data, which the message names.
    """
    try:
        _check_program(content)
        try:
            data = _PlainUnpickler(io.BytesIO(content), encoding="utf-8").load()
        except UnicodeDecodeError:
            data = _PlainUnpickler(io.BytesIO(content), encoding="latin-1").load()
        _check_data(data, max(len(content), FREE_PICKLE_OBJECTS))
        return data
    except _TooLargeError as error:
        raise PickleError(f"{name}: a pickle {error}") from None
    except _ForbiddenError as error:
        raise PickleError(f"{name}: the pickle asks for {error}, which is not plain data") from None
    # Arbitrary bytes run as a pickle program, which can fail in any way.
    except Exception as error:
        raise PickleError(
            f"{name}: not a pickle, or a truncated one ({type(error).__name__}: {error})"
        ) from error


class _ForbiddenError(Exception):
    """A pickle refers to something that is not plain data."""


class _TooLargeError(Exception):
    """A pickle takes more memory than its size allows."""


def _check_program(content: bytes) -> None:
    """Checks the operations of a pickle before they run.

    The unpickler keeps memoized objects in an array as large as the largest number: six bytes can
    ask for 64 GB. And one byte makes an empty list, which takes 64.

    Raises:
        ValueError: A memo number is beyond the length of the pickle.
        _TooLargeError: It makes too many lists, dicts, tuples and sets.
    """
    containers = 0
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name in ("PUT", "BINPUT", "LONG_BINPUT"):
            if isinstance(argument, int) and argument >= len(content):
                raise ValueError(f"memo number {argument} in {len(content)} bytes")
        elif name in _MAKES_CONTAINER:
            containers += 1
    if containers > MAX_CONTAINERS:
        raise _TooLargeError(f"of {containers} lists and dicts, more than {MAX_CONTAINERS}")


def _check_data(data: object, limit: int) -> None:
    """Checks that an object is plain data, of at most ``limit`` objects.

    Shared objects are counted each time: readers copy what they use, so a list that is in a
    thousand places costs a thousand times.

    Raises:
        _ForbiddenError: It is or contains anything else, such as a function.
        _TooLargeError: It has more, or contains itself.
    """
    count = 0
    pending: list[Any] = [(data,)]
    while pending:
        container = pending.pop()
        count += len(container)
        if count > limit:
            raise _TooLargeError(
                f"that contains the same objects again and again: more than {limit} in all"
            )
        _check_plain(container)
        if type(container) is dict:
            count += len(container)
            pending += [item for item in container if type(item) in _CONTAINERS]
            container = container.values()
            _check_plain(container)
        pending += [item for item in container if type(item) in _CONTAINERS]


def _check_plain(items: Iterable[object]) -> None:
    if not set(map(type, items)) <= _PLAIN:
        raise _ForbiddenError("a function as data")


class _NumberType:
    """What stands for a dtype of numpy: the code of a number, with its byte order."""

    __slots__ = ("code",)

    def __init__(self, code: object) -> None:
        if not isinstance(code, str) or not re.fullmatch("[iuf][1248]|b1", code):
            raise _ForbiddenError(f"numpy's type {code!a}")
        self.code = code

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, ...); all of the rest is None or -1 for a number.
        self.code = f"{'>' if state[1] == '>' else '<'}{self.code.lstrip('<>')}"


def _number_type(code: object, *_: object) -> _NumberType:
    return _NumberType(code)


def _number(number_type: object, content: object) -> int | float | bool:
    if not isinstance(number_type, _NumberType):
        raise _ForbiddenError("a scalar of no type of numpy")
    # Python 2 wrote the bytes as a string.
    raw = content.encode("latin-1") if isinstance(content, str) else content
    if not isinstance(raw, bytes) or len(raw) != np.dtype(number_type.code).itemsize:
        raise ValueError(f"{raw!a:.40} as a number of type {number_type.code}")
    number: int | float | bool = np.frombuffer(raw, number_type.code)[0].item()
    return number


def _latin_1(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _ForbiddenError(f"text in {encoding!a:.40}")
    return text.encode("latin-1")


class _Function:
    """A function that a pickle may call, but cannot change: it has no attributes to set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        # Unpickling calls this instead of setting attributes.
        raise _ForbiddenError("a change of a function")


_ALLOWED = {
    ("builtins", "set"): _Function(set),
    ("builtins", "frozenset"): _Function(frozenset),
    ("__builtin__", "set"): _Function(set),
    ("__builtin__", "frozenset"): _Function(frozenset),
    ("numpy", "dtype"): _Function(_number_type),
    ("numpy.core.multiarray", "scalar"): _Function(_number),  # before numpy 2
    ("numpy._core.multiarray", "scalar"): _Function(_number),
    ("_codecs", "encode"): _Function(_latin_1),  # bytes, in the protocols of Python 2
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Function:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _ForbiddenError(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _ForbiddenError("an object outside of the file")
