"""The local, read-only web server of ``mdetr-shards browse``."""

import re
import sys
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from shards.format.manifest import ShardError
from shards.inspection.browser.pages import BrowserPages, NoSuchPageError, NotAnImageError
from shards.inspection.browser.search import BadQueryError, parse_query
from shards.inspection.rendering import render
from shards.reading.reader import MissingImageError
from shards.reading.shard_set import ShardSet
from shards.terminal import printable

ADDRESS = "127.0.0.1"
_HOST = re.compile(r"(localhost|127\.0\.0\.1)(:[0-9]{1,5})?")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Response(NamedTuple):
    """The response to a GET or HEAD request; ``cache`` is its ``Cache-Control``."""

    content: bytes | memoryview
    media_type: str = "text/html; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    cache: str = "no-store"


class BrowserServer(ThreadingHTTPServer):
    """Serves a shard set on the loopback interface; port 0 is any free port.

    Raises:
        OSError: the port is taken.
        ValueError: the set has no split ``split``.
    """

    def __init__(self, shards: ShardSet, port: int, split: str | None) -> None:
        self.pages = BrowserPages(shards, split)
        super().__init__((ADDRESS, port), _BrowserHandler)

    @property
    def url(self) -> str:
        """The address of the list page."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that disconnected; prints any other error to stderr."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _BrowserHandler(BaseHTTPRequestHandler):
    server: BrowserServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "shards", ""
    timeout = 60  # seconds, of an idle connection

    def do_GET(self) -> None:
        response = self._respond()
        self.send_response(response.status)
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.send_header("Connection", "close")  # the body of the request is not read
        self.send_header("Content-Type", response.media_type)
        self.send_header("Content-Length", str(len(response.content)))
        self.send_header("Cache-Control", response.cache)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.content)

    do_HEAD = do_GET  # noqa: N815

    def _refuse(self) -> None:
        self.close_connection = True  # the body of the request is not read
        self.send_response(HTTPStatus.METHOD_NOT_ALLOWED)
        self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Does not log requests."""

    def _respond(self) -> Response:
        # DNS rebinding: a foreign page may let its own host name resolve to this address.
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
            return _failure(HTTPStatus.FORBIDDEN, "This server answers requests to localhost only.")
        try:
            path, _, query = self.path.partition("?")
            return self._page(path, query)
        except BadQueryError as error:
            return _failure(HTTPStatus.BAD_REQUEST, str(error))
        except (NoSuchPageError, MissingImageError) as error:
            return _failure(HTTPStatus.NOT_FOUND, str(error))
        except NotAnImageError as error:
            return _failure(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error))
        except ShardError as error:
            return _failure(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except Exception:  # a bug: the traceback goes to stderr, not to the client
            for line in traceback.format_exc().splitlines():
                print(printable(line), file=sys.stderr)
            message = "This page failed; the server printed the error to its terminal."
            return _failure(HTTPStatus.INTERNAL_SERVER_ERROR, message)

    def _page(self, path: str, query: str) -> Response:
        pages = self.server.pages
        if path == "/style.css":
            return Response(render("browse.css").encode(), "text/css; charset=utf-8")
        if path == "/keys.js":
            return Response(render("keys.js").encode(), "text/javascript; charset=utf-8")
        if path == "/":
            return Response(pages.list_page(parse_query(query, pages.default_split)).encode())
        match = re.fullmatch(r"/(sample|image)/([0-9]{1,9})/([0-9]{1,9})", path)
        if match is None:
            raise NoSuchPageError("There is no such page.")
        shard, row = int(match[2]), int(match[3])
        if match[1] == "image":
            content, media_type = pages.image(shard, row)
            return Response(content, media_type, cache="private, max-age=86400, immutable")
        search_query = parse_query(query, pages.default_split)
        return Response(pages.sample_page(shard, row, search_query).encode())


def _failure(status: HTTPStatus, message: str) -> Response:
    page = render("failure.html", status=f"{status.value} {status.phrase}", message=message)
    return Response(page.encode(), status=status)
