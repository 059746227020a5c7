"""A web server for pages on this machine: on the loopback interface, closed to other sites."""

import contextlib
import re
import socket
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor, wait
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, NamedTuple

from shards.terminal import printable

ADDRESS = "127.0.0.1"
_HOST = re.compile(r"(localhost|127\.0\.0\.1)(:[0-9]{1,5})?")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Response(NamedTuple):
    """The response to a request; ``cache`` is its ``Cache-Control``."""

    content: bytes | memoryview
    media_type: str = "text/html; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    cache: str = "no-store"


class RequestError(Exception):
    """A request that is refused with an HTTP status and a message for the user."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class LocalServer(ThreadingHTTPServer):
    """Serves on the loopback interface; port 0 is any free port.

    Raises:
        OSError: the port is taken.
    """

    # The interpreter must not end while a thread answers: `server_close` waits for all of them.
    daemon_threads = False

    def __init__(self, port: int, handler: type["LocalRequestHandler"]) -> None:
        self._connections: set[socket.socket] = set()
        try:
            super().__init__((ADDRESS, port), handler)
        except OSError as error:
            raise OSError(f"port {port} of {ADDRESS}: {error.strerror}") from error

    @property
    def url(self) -> str:
        """The address of the first page."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def serve_until_interrupted(self) -> None:
        """Prints the address, and serves until Ctrl-C."""
        print(f"{self.url} (stop with Ctrl-C)", flush=True)
        # Ctrl-C is an exception in this thread. If it accepted connections, the exception could
        # close one that a thread already answers.
        with ThreadPoolExecutor(1) as thread:
            serving = thread.submit(self.serve_forever)
            try:
                with contextlib.suppress(KeyboardInterrupt):
                    while not serving.done():
                        # The signal may reach another thread, which does not wake this one.
                        wait([serving], timeout=0.5)
            finally:
                self.shutdown()
            serving.result()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers the requests of a connection in a new thread."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Closes the server when the requests that it has received are answered."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):  # closed in the meantime
                connection.shutdown(socket.SHUT_RD)  # no thread waits for another request
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that disconnected; prints any other error to stderr."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class LocalRequestHandler(BaseHTTPRequestHandler):
    """Answers requests to localhost by ``respond``, and refuses all others."""

    #: The methods that ``respond`` answers.
    methods: ClassVar[tuple[str, ...]] = ("GET", "HEAD")
    #: Sources of images, besides the server, in the Content-Security-Policy.
    image_sources: ClassVar[str] = "data:"

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "shards", ""
    timeout = 60  # seconds, of an idle connection
    _body_was_read: bool

    def respond(self, path: str, query: str) -> Response:
        """Returns the response to the request for a path.

        Raises:
            RequestError: it is refused.
        """
        raise NotImplementedError

    def failure(self, status: HTTPStatus, message: str) -> Response:
        """Returns the response to a request that fails."""
        raise NotImplementedError

    def read_body(self, max_bytes: int) -> bytes:
        """Reads the body of the request.

        Raises:
            RequestError: its length is not stated, or larger than ``max_bytes``.
            ConnectionError: the client disconnected.
        """
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not re.fullmatch("[0-9]{1,15}", length):
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "The request has no Content-Length.")
        if int(length) > max_bytes:
            message = f"{int(length):,} bytes are too many; at most {max_bytes:,} are accepted."
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionError("the client disconnected")
        self._body_was_read = True
        return body

    def _handle(self) -> None:
        self._body_was_read = False
        response = self._guarded_response()
        self.send_response(response.status)
        has_body = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        if has_body and not self._body_was_read:
            self.send_header("Connection", "close")  # it is not the next request
        if response.status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", ", ".join(self.methods))
        self.send_header("Content-Type", response.media_type)
        self.send_header("Content-Length", str(len(response.content)))
        self.send_header("Cache-Control", response.cache)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _handle  # noqa: N815

    def _guarded_response(self) -> Response:
        try:
            self._check_sender()
            path, _, query = self.path.partition("?")
            return self.respond(path, query)
        except RequestError as error:
            return self.failure(error.status, str(error))
        except (ConnectionError, TimeoutError):
            raise
        except Exception:  # a bug: the traceback goes to stderr, not to the client
            for line in traceback.format_exc().splitlines():
                print(printable(line), file=sys.stderr)
            message = "This page failed; the server printed the error to its terminal."
            return self.failure(HTTPStatus.INTERNAL_SERVER_ERROR, message)

    def _check_sender(self) -> None:
        """Refuses requests that a page of another site may have sent."""
        # DNS rebinding: a foreign page may let its own host name resolve to this address.
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
            message = "This server answers requests to localhost only."
            raise RequestError(HTTPStatus.FORBIDDEN, message)
        if self.command not in self.methods:
            message = f"This server does not answer {self.command}."
            raise RequestError(HTTPStatus.METHOD_NOT_ALLOWED, message)
        # A browser sends a foreign page's POST, with the page's origin, and hides the response.
        origin = self.headers.get("Origin", f"http://{hosts[0]}")
        if self.command == "POST" and origin != f"http://{hosts[0]}":
            message = "This server answers requests of its own pages only."
            raise RequestError(HTTPStatus.FORBIDDEN, message)

    def end_headers(self) -> None:
        """Adds the headers of all responses."""
        policy = (
            f"default-src 'none'; img-src 'self' {self.image_sources}; style-src 'self'; "
            "script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        )
        self.send_header("Content-Security-Policy", policy)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Does not log requests."""
