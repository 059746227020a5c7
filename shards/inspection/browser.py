"""``python -m shards browse``: a local web server that shows a shard set, and changes nothing."""

import re
import sys
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from shards.console.printable import printable
from shards.format.manifest import ShardError
from shards.inspection.address import BadAddressError, parse
from shards.inspection.browser_pages import BrowserPages, NoSuchPageError, NotAnImageError
from shards.inspection.templates import render
from shards.reading.reader import MissingImageError
from shards.reading.shard_set import ShardSet

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


class Answer(NamedTuple):
    """What a request gets; an image's URL names its shard's content, so it may be kept."""

    content: bytes | memoryview
    kind: str = "text/html; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    cache: str = "no-store"


class Browser(ThreadingHTTPServer):
    """Serves a shard set on the loopback interface, at ``port`` or at a free one (0).

    Raises:
        OSError: the port is taken.
        ValueError: the set has no split ``split``.
    """

    def __init__(self, shards: ShardSet, port: int, split: str | None) -> None:
        self.pages = BrowserPages(shards, split)
        super().__init__((ADDRESS, port), _Handler)

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked may have gone meanwhile; anything else is shown where the server runs."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Browser
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "shards", ""
    timeout = 60  # seconds, of a connection on which nothing comes

    def do_GET(self) -> None:
        answer = self._answer()
        self.send_response(answer.status)
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.send_header("Connection", "close")  # what comes with the request is not read
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.content)))
        self.send_header("Cache-Control", answer.cache)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content)

    do_HEAD = do_GET  # noqa: N815

    def _refuse(self) -> None:
        self.close_connection = True  # what comes with the request is not read
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
        """Requests are not of interest."""

    def _answer(self) -> Answer:
        # A page from elsewhere may have a name of its own resolve to this address.
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
            return _failure(HTTPStatus.FORBIDDEN, "This server answers to localhost alone.")
        try:
            path, _, query = self.path.partition("?")
            return self._page(path, query)
        except BadAddressError as error:
            return _failure(HTTPStatus.BAD_REQUEST, str(error))
        except (NoSuchPageError, MissingImageError) as error:
            return _failure(HTTPStatus.NOT_FOUND, str(error))
        except NotAnImageError as error:
            return _failure(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error))
        except ShardError as error:
            return _failure(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except Exception:  # which no page foresees: it is told where the server runs
            for line in traceback.format_exc().splitlines():
                print(printable(line), file=sys.stderr)
            words = "This page cannot be made; where the server runs, it says why."
            return _failure(HTTPStatus.INTERNAL_SERVER_ERROR, words)

    def _page(self, path: str, query: str) -> Answer:
        pages = self.server.pages
        if path == "/style.css":
            return Answer(render("browse.css").encode(), "text/css; charset=utf-8")
        if path == "/keys.js":
            return Answer(render("keys.js").encode(), "text/javascript; charset=utf-8")
        if path == "/":
            return Answer(pages.list_page(parse(query, pages.split)).encode())
        found = re.fullmatch(r"/(image|image)/([0-9]{1,9})/([0-9]{1,9})", path)
        if found is None:
            raise NoSuchPageError("There is no such page.")
        shard, row = int(found[2]), int(found[3])
        if found[1] == "image":
            content, kind = pages.image(shard, row)
            return Answer(content, kind, cache="private, max-age=86400, immutable")
        return Answer(pages.image_page(shard, row, parse(query, pages.split)).encode())


def _failure(status: HTTPStatus, words: str) -> Answer:
    page = render("failure.html", status=f"{status.value} {status.phrase}", words=words)
    return Answer(page.encode(), status=status)
