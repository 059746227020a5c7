"""An S3 store, by moto, that can be slow, fail at intervals, and fail or wait on order.

    python -m tests.s3_server PORT [OPTION ...]

Orders are files of a folder, and hold while they exist. ``hold``: requests that match its regular
expression, such as ``GET .*json``, wait; ``held`` then has the address of the client, and
``waiting`` a line for each. ``outage``: every request is answered with 503.
"""

import argparse
import itertools
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from tests.servers import server


@contextmanager
def serve_s3(
    *,
    fail_every: int = 0,
    delay: float = 0.0,
    log: Path | None = None,
    orders: Path | None = None,
) -> Iterator[dict[str, str]]:
    """Runs a store, and yields the environment variables that AWS libraries need to access it."""
    options = ["{port}", f"--fail-every={fail_every}", f"--delay={delay}"]
    options += [f"--log={log}"] if log else []
    options += [f"--orders={orders}"] if orders else []
    with server("tests.s3_server", options) as port:
        yield environment_of(f"http://127.0.0.1:{port}")


def environment_of(endpoint: str) -> dict[str, str]:
    """Returns the environment variables that AWS libraries need to access a store."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }


def options_of(environment: dict[str, str]) -> dict[str, Any]:
    """Returns options of fsspec's file system, to find the store without the environment."""
    return {
        "key": environment["AWS_ACCESS_KEY_ID"],
        "secret": environment["AWS_SECRET_ACCESS_KEY"],
        "endpoint_url": environment["AWS_ENDPOINT_URL"],
        "skip_instance_cache": True,
    }


class Request(NamedTuple):
    method: str
    path: str  # /BUCKET/KEY
    sent: int  # bytes of the answer


def requests(log: Path) -> list[Request]:
    """Reads the lines of a log."""
    lines = (line.split(maxsplit=2) for line in log.read_text().splitlines())
    return [Request(method, path, int(sent)) for method, sent, path in lines]


class _Unreliable:
    """A WSGI application that fails or waits before it calls another one."""

    def __init__(self, application: Any, options: argparse.Namespace) -> None:
        self._application = application
        self._fail_every = options.fail_every
        self._delay = options.delay
        self._log = options.log.open("a", buffering=1) if options.log else None
        self._orders = options.orders
        self._requests = itertools.count(1)
        # moto checks the condition of a request and carries it out in two steps.
        self._one_request = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        time.sleep(self._delay)
        self._wait_if_held(environ)
        if self._is_to_fail():
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>"]
        with self._one_request:
            content = list(self._application(environ, start_response))
        if self._log:
            sent = sum(map(len, content))
            self._log.write(f"{environ['REQUEST_METHOD']} {sent} {environ['PATH_INFO']}\n")
        return content

    def _is_to_fail(self) -> bool:
        if self._orders and (self._orders / "outage").exists():
            return True
        return self._fail_every and next(self._requests) % self._fail_every == 0

    def _wait_if_held(self, environ: dict[str, Any]) -> None:
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        is_waiting = False
        while self._orders and (pattern := _text(self._orders / "hold")):
            if not re.fullmatch(pattern, request):
                return
            if not is_waiting:
                is_waiting = True
                with (self._orders / "waiting").open("a") as waiting:
                    waiting.write(f"{request}\n")
            _write(self._orders / "held", environ["REMOTE_ADDR"])
            time.sleep(0.05)


def _text(file: Path) -> str:
    """Returns the content of a file; "" if there is none."""
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def _write(file: Path, text: str) -> None:
    """Writes a file that is never seen unfinished."""
    unfinished = file.with_suffix(f".{threading.get_ident()}")
    unfinished.write_text(text)
    unfinished.rename(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--address", default="127.0.0.1", help="to listen on")
    parser.add_argument("--fail-every", type=int, default=0, help="answer each N-th with 503")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--log", type=Path, help="gets a line for each answer: method, bytes, path")
    parser.add_argument("--orders", type=Path, help="folder of the files hold and outage")
    options = parser.parse_args()
    os.environ["MOTO_S3_CUSTOM_ENDPOINTS"] = f"http://{options.address}:{options.port}"
    unreliable = _Unreliable(DomainDispatcherApplication(create_backend_app), options)
    make_server(options.address, options.port, unreliable, threaded=True).serve_forever()


if __name__ == "__main__":
    main()
