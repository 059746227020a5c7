"""A web server on the loopback interface that answers as mirrors do, good ones and bad ones."""

import gzip
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Answer(NamedTuple):
    """How one request is answered.

    Attributes:
        status: other than 200, it comes without the file.
        content: sent instead of the file.
        headers: sent in addition.
        close_after: bytes of the body after which the connection is closed.
        stall: bytes of the body after which nothing more comes.
        rate: bytes per second.
        ranges: whether a Range is respected.
        if_range: whether an If-Range is respected.
        etag: an ETag other than that of the content; none if empty.
        length: whether the length is stated.
        chunked: whether the body is sent in chunks.
        packed: whether the body is sent as gzip.
    """

    status: int = 200
    content: bytes | None = None
    headers: dict[str, str] = {}
    close_after: int | None = None
    stall: int | None = None
    rate: int = 0
    ranges: bool = True
    if_range: bool = True
    etag: str | None = None
    length: bool = True
    chunked: bool = False
    packed: bool = False


class Request(NamedTuple):
    """A request, and how many bytes of a body were sent."""

    path: str
    range: str | None


class Mirror:
    """The files of a server by path, and its answers: those listed first, then ``usual``."""

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, list[Answer]] = defaultdict(list)
        self.usual: dict[str, Answer] = defaultdict(Answer)
        self.requests: list[Request] = []
        self.sent = 0  # bytes of bodies
        self.stopped = threading.Event()

    def address(self, path: str) -> str:
        return f"{self.url}/{path}"

    def ranges(self, path: str) -> list[str | None]:
        return [request.range for request in self.requests if request.path == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mirror: Mirror

    def do_GET(self) -> None:
        self.close_connection = True
        path = self.path.lstrip("/")
        self.mirror.requests.append(Request(path, self.headers["Range"]))
        waiting = self.mirror.answers[path]
        answer = waiting.pop(0) if waiting else self.mirror.usual[path]
        content = self.mirror.files.get(path) if answer.content is None else answer.content
        if answer.status != 200 or content is None:
            self._send_status(answer if content is not None else answer._replace(status=404))
        else:
            self._send_file(answer, content)

    def _send_status(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_file(self, answer: Answer, content: bytes) -> None:
        etag = f'"{hash(content)}"' if answer.etag is None else answer.etag
        begin = self._begin(answer, etag)
        if begin is not None and begin >= len(content):
            self._send_status(answer._replace(status=416))
            return
        body = gzip.compress(content) if answer.packed else content[begin or 0 :]
        self.send_response(200 if begin is None else 206)
        if begin is not None:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        if etag:
            self.send_header("ETag", etag)
        if answer.packed:
            self.send_header("Content-Encoding", "gzip")
        if answer.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.length:
            self.send_header("Content-Length", str(len(body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self._send_body(answer, body)
        except OSError:  # the client has gone
            return

    def _begin(self, answer: Answer, etag: str) -> int | None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if match is None or not answer.ranges:
            return None
        condition = self.headers["If-Range"]
        if answer.if_range and condition not in (None, etag):
            return None
        return int(match[1])

    def _send_body(self, answer: Answer, body: bytes) -> None:
        end = min(n for n in (answer.close_after, answer.stall, len(body)) if n is not None)
        step = max(answer.rate // 50, 1) if answer.rate else 1 << 16
        for begin in range(0, end, step):
            part = body[begin : min(begin + step, end)]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if answer.chunked else part)
            self.mirror.sent += len(part)
            if answer.rate:
                time.sleep(0.02)
        if answer.chunked and end == len(body):
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()
        if answer.stall is not None:
            self.mirror.stopped.wait(30)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve() -> Iterator[Mirror]:
    """Yields a server without files, which ends with the block."""
    mirror = Mirror()
    handler = type("Handler", (_Handler,), {"mirror": mirror})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        mirror.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield mirror
        finally:
            mirror.stopped.set()
            server.shutdown()
            thread.join()
