"""Reading pickles that other people made, without running what is in them.

RefCOCO's ``refs(*).p`` and the published lists of image ids are pickles. A pickle is a program
that may call any function of any module; here it may build plain containers, strings,
numbers, booleans and ``None``, and name nothing else.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

from pipelines.io.raw_files import RawFileError, open_binary

MAX_BYTES = 1 << 30  # the largest published one, refs(umd).p, has under 100 MB


def load(source: str | BinaryIO) -> Any:
    """The object in a pickle: a path that Beam can open, or an open binary file.

    Strings that Python 2 wrote as bytes are read as UTF-8, or as Latin-1 if that fails.

    Raises:
        RawFileError: no pickle, a truncated one, one larger than ``MAX_BYTES``, or one that asks
            for anything but plain data; the message names the file, and what was asked for.
    """
    if isinstance(source, str):
        with open_binary(source) as file:
            return _loads(file.read(MAX_BYTES + 1), source)
    return _loads(source.read(MAX_BYTES + 1), getattr(source, "name", "<pickle>"))


def _loads(content: bytes, name: str) -> Any:
    if len(content) > MAX_BYTES:
        raise RawFileError(f"{name}: a pickle of more than {MAX_BYTES} bytes")
    try:
        _check_memo(content)
        try:
            return _PlainUnpickler(io.BytesIO(content), encoding="utf-8").load()
        except UnicodeDecodeError:
            return _PlainUnpickler(io.BytesIO(content), encoding="latin-1").load()
    except _ForbiddenError as fault:
        raise RawFileError(
            f"{name}: the pickle asks for {fault}, which is not plain data"
        ) from None
    # Bytes that are no pickle are run as one, and can fail in any way that a program can.
    except Exception as fault:
        raise RawFileError(
            f"{name}: not a pickle, or a truncated one ({type(fault).__name__}: {fault})"
        ) from fault


class _ForbiddenError(Exception):
    pass


def _check_memo(content: bytes) -> None:
    """Raises ``ValueError`` for one that numbers an object beyond its own length.

    The unpickler keeps numbered objects in an array that it makes as large as the largest number:
    six bytes can ask for 64 GB.
    """
    for opcode, argument, _ in pickletools.genops(content):
        numbers = opcode.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if numbers and isinstance(argument, int) and argument >= len(content):
            raise ValueError(f"object number {argument} in {len(content)} bytes")


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
