"""The local, read-only web server of ``mdetr-shards browse``."""

import re
from http import HTTPStatus

from shards.format.manifest import ShardError
from shards.inspection.browser.pages import BrowserPages, NoSuchPageError, NotAnImageError
from shards.inspection.browser.search import BadQueryError, parse_query
from shards.inspection.rendering import render
from shards.local_server import LocalRequestHandler, LocalServer, RequestError, Response
from shards.reading.reader import MissingImageError
from shards.reading.shard_set import ShardSet


class BrowserServer(LocalServer):
    """Serves a shard set on the loopback interface; port 0 is any free port.

    Raises:
        OSError: the port is taken.
        ValueError: the set has no split ``split``.
    """

    def __init__(self, shards: ShardSet, port: int, split: str | None) -> None:
        self.pages = BrowserPages(shards, split)
        super().__init__(port, _BrowserHandler)


class _BrowserHandler(LocalRequestHandler):
    server: BrowserServer

    def respond(self, path: str, query: str) -> Response:
        try:
            return self._page(path, query)
        except BadQueryError as error:
            raise RequestError(HTTPStatus.BAD_REQUEST, str(error)) from error
        except (NoSuchPageError, MissingImageError) as error:
            raise RequestError(HTTPStatus.NOT_FOUND, str(error)) from error
        except NotAnImageError as error:
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error)) from error
        except ShardError as error:
            raise RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from error

    def failure(self, status: HTTPStatus, message: str) -> Response:
        page = render("failure.html", status=f"{status.value} {status.phrase}", message=message)
        return Response(page.encode(), status=status)

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
