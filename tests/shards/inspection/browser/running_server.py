"""A local server that runs in a thread, for requests over HTTP."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from shards.inspection.browser import pages
from shards.inspection.browser.server import BrowserServer
from shards.local_server import LocalServer
from shards.reading.shard_set import ShardSet


class HttpResponse(NamedTuple):
    """A response to a request."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def text(self) -> str:
        """The decoded content."""
        return self.content.decode()


class RunningServer(NamedTuple):
    """A server that accepts requests at ``port``."""

    port: int

    def request(
        self,
        path: str,
        method: str = "GET",
        host: str | None = None,
        body: bytes | None = None,
        **headers: str,
    ) -> HttpResponse:
        """Sends a request and returns the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        if host is not None:
            headers["Host"] = host
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        result = HttpResponse(response.status, response.msg, response.read())
        connection.close()
        return result

    def page(self, path: str) -> str:
        """Returns the HTML of a page that exists."""
        response = self.request(path)
        assert response.status == 200, response.text
        return response.text


@contextmanager
def browse(folder: Path, split: str | None = None) -> Iterator[RunningServer]:
    """Serves a shard set until the end of the block; searches do not time out."""
    with (
        mock.patch.object(pages, "LIST_SECONDS", 600.0),
        mock.patch.object(pages, "NEIGHBOR_SECONDS", 600.0),
        BrowserServer(ShardSet.open(folder), 0, split) as server,
        served(server) as running,
    ):
        yield running


@contextmanager
def served(server: LocalServer) -> Iterator[RunningServer]:
    """Answers the requests to a server until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield RunningServer(server.server_port)
    finally:
        server.shutdown()
        thread.join()
