"""Threads decode one type at once; in child processes, because the error is a crash."""

import ast
import signal
import sys

import pytest

from tests.processes import run
from tests.test_architecture import modules, name

PROGRAM = """
import resource
import sys
import threading

import msgspec

from schemas.decodable import decodable

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
sys.setswitchinterval(1e-6)
fields = [(f"field_{number}", int) for number in range(10)]
inner = [msgspec.defstruct(f"Inner{n}", fields, array_like=True) for n in range(300)]
types = [msgspec.defstruct(f"Outer{n}", [("inner", inner_type)], array_like=True)
         for n, inner_type in enumerate(inner)]
content = msgspec.msgpack.encode([list(range(10))])
barrier = threading.Barrier(4)
decoded = []

def decode_all():
    for layout in types:
        barrier.wait()
        record = msgspec.msgpack.decode(content, type=LAYOUT)
        decoded.append(record.inner.field_9)

threads = [threading.Thread(target=decode_all) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert decoded == [9] * 1200, decoded
"""


def test_threads_decode_new_types_at_once() -> None:
    program = PROGRAM.replace("LAYOUT", "decodable(layout)")
    run([sys.executable, "-c", program], timeout=300, check=True)


def test_threads_crash_without_it() -> None:
    program = PROGRAM.replace("LAYOUT", "layout")
    results = (run([sys.executable, "-c", program], timeout=300) for _ in range(20))
    if not any(result.returncode == -signal.SIGSEGV for result in results):
        pytest.skip("this version of msgspec does not crash: `decodable` is no longer needed")


_PLAIN = {"bool", "bytes", "dict", "float", "int", "list", "msgspec", "str", "tuple"}


def decoded_types(tree: ast.Module) -> list[ast.expr]:
    """Returns the types that a module decodes or converts to."""
    types = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function = ast.unparse(call.func)
        method = function.rpartition(".")[2]
        if method in ("decode", "convert", "Decoder"):
            types += [keyword.value for keyword in call.keywords if keyword.arg == "type"]
        if function.startswith("msgspec."):
            types += {"convert": call.args[1:], "Decoder": call.args[:1]}.get(method, [])
    return types


def is_safe(layout: ast.expr) -> bool:
    """Returns whether a type is passed through `decodable`, or holds no struct."""
    if isinstance(layout, ast.Call) and ast.unparse(layout.func) == "decodable":
        return True
    return all(node.id in _PLAIN for node in ast.walk(layout) if isinstance(node, ast.Name))


def unsafe_types(source: str) -> list[str]:
    types = decoded_types(ast.parse(source))
    return [ast.unparse(layout) for layout in types if not is_safe(layout)]


def test_every_type_that_is_decoded_is_decodable() -> None:
    unsafe = {name(path): unsafe_types(path.read_text(encoding="utf-8")) for path in modules()}
    assert unsafe.pop("schemas/decodable.py") == ["layout"]
    assert not any(unsafe.values()), unsafe


def test_unsafe_types_are_found() -> None:
    source = (
        "msgspec.json.decode(a, type=A); decode(b, type=decodable(B)); msgspec.convert(c, C)\n"
        "msgspec.json.Decoder(D); msgspec.json.Decoder(list[str]); b.decode(); Decoder(config)\n"
        "msgspec.convert(e, type=E); Decoder(type=F)"
    )
    assert unsafe_types(source) == ["A", "C", "D", "E", "F"]
