"""Reads untrusted pickles without executing code.

RefCOCO's ``refs(*).p`` and the published lists of image ids are pickles. A pickle is a program
that may call any function of any module; here it may only create plain containers, strings,
numbers, booleans and ``None``.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

from pipelines.io.raw_files import RawFileError, open_binary

MAX_BYTES = 1 << 30  # the largest published one, refs(umd).p, has less than 100 MB


def load(path: str) -> Any:
    """Returns the object in a pickle, a local file or a URL.

    Raises:
        RawFileError: As `loads`; the message names the file.
    """
    with open_binary(path) as file:
        return loads(file.read(MAX_BYTES + 1), path)


def loads(content: bytes, name: str = "<pickle>") -> Any:
    """Returns the object in the bytes of a pickle, which messages call ``name``.

    Strings that Python 2 wrote as bytes are read as UTF-8, or as Latin-1 if that fails.

    Raises:
        RawFileError: Not a pickle, truncated, larger than ``MAX_BYTES``, or it refers to anything
            but plain data, which the message names.
    """
    if len(content) > MAX_BYTES:
        raise RawFileError(f"{name}: a pickle of more than {MAX_BYTES} bytes")
    try:
        _check_memo(content)
        try:
            return _PlainUnpickler(io.BytesIO(content), encoding="utf-8").load()
        except UnicodeDecodeError:
            return _PlainUnpickler(io.BytesIO(content), encoding="latin-1").load()
    except _ForbiddenError as error:
        raise RawFileError(
            f"{name}: the pickle asks for {error}, which is not plain data"
        ) from None
    # Arbitrary bytes run as a pickle program, which can fail in any way.
    except Exception as error:
        raise RawFileError(
            f"{name}: not a pickle, or a truncated one ({type(error).__name__}: {error})"
        ) from error


class _ForbiddenError(Exception):
    """A pickle refers to something that is not plain data."""


def _check_memo(content: bytes) -> None:
    """Checks that no object has a memo number beyond the length of the pickle.

    The unpickler keeps memoized objects in an array as large as the largest number: six bytes can
    ask for 64 GB.

    Raises:
        ValueError: A memo number is too large.
    """
    for opcode, argument, _ in pickletools.genops(content):
        numbers = opcode.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if numbers and isinstance(argument, int) and argument >= len(content):
            raise ValueError(f"memo number {argument} in {len(content)} bytes")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("__builtin__", "set"): set,
    ("__builtin__", "frozenset"): frozenset,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _ForbiddenError(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _ForbiddenError("an object outside of the file")
