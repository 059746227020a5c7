"""An S3 store on the loopback interface, by moto, that can be slow and fail at intervals.

    python -m tests.s3_server PORT FAIL_EVERY DELAY [LOG]

Every FAIL_EVERY-th request is answered with 503 (0: none), each one after DELAY seconds. LOG gets a
line for each other request: method, bytes of content that are sent, path.
"""

import itertools
import os
import sys
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
    *, fail_every: int = 0, delay: float = 0.0, log: Path | None = None
) -> Iterator[dict[str, str]]:
    """Runs a store, and yields the environment variables that AWS libraries need to access it."""
    options = ["{port}", str(fail_every), str(delay), *([str(log)] if log else [])]
    with server("tests.s3_server", options) as port:
        yield {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
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

    def __init__(self, application: Any, fail_every: int, delay: float, log: Path | None) -> None:
        self._application = application
        self._fail_every = fail_every
        self._delay = delay
        self._log = log.open("a", buffering=1) if log else None
        self._requests = itertools.count(1)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        time.sleep(self._delay)
        if self._fail_every and next(self._requests) % self._fail_every == 0:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>"]
        content = list(self._application(environ, start_response))
        if self._log:
            sent = sum(map(len, content))
            self._log.write(f"{environ['REQUEST_METHOD']} {sent} {environ['PATH_INFO']}\n")
        return content


def main() -> None:
    port, fail_every, delay = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    log = Path(sys.argv[4]) if len(sys.argv) > 4 else None
    os.environ["MOTO_S3_CUSTOM_ENDPOINTS"] = f"http://127.0.0.1:{port}"
    application = DomainDispatcherApplication(create_backend_app)
    unreliable = _Unreliable(application, fail_every, delay, log)
    make_server("127.0.0.1", port, unreliable, threaded=True).serve_forever()


if __name__ == "__main__":
    main()
