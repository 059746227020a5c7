"""Responses of the server of ``mdetr-shards browse`` to unusual requests, and to its bugs."""

import json
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import pytest

from schemas import Caption, Provenance, Sample
from shards.inspection.browser.pages import BrowserPages
from shards.inspection.browser.server import BrowserServer
from shards.reading.shard_set import ShardSet
from tests.shard_sets import write_shard_set
from tests.shards.inspection.browser.running_server import RunningServer, browse
from tests.shards.inspection.shard_sets import write_full_set

GUARDED = b"Content-Security-Policy: default-src 'none'"
HOST = b"Host: localhost\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with browse(write_shard_set(tmp_path_factory.mktemp("set"), [[1, 1]])) as running:
        yield running


def send(server: RunningServer, request: bytes) -> bytes:
    """Sends bytes and returns everything that the server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=300) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("header", [b"Content-Length: 40", b"Transfer-Encoding: chunked"])
def test_request_body_is_not_read_as_a_request(server: RunningServer, header: bytes) -> None:
    hidden = b"GET /image/0/1 HTTP/1.1\r\n" + HOST + b"\r\n"
    response = send(server, b"GET /keys.js HTTP/1.1\r\n" + HOST + header + b"\r\n\r\n" + hidden)
    assert response.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in response


def test_requests_without_a_body_share_a_connection(server: RunningServer) -> None:
    assert send(server, (b"GET /keys.js HTTP/1.1\r\n" + HOST + b"\r\n") * 2).count(b" 200 OK") == 2


@pytest.mark.parametrize("hosts", [b"", HOST * 2, HOST + b"Host: evil.example\r\n"])
def test_request_must_have_exactly_one_host(server: RunningServer, hosts: bytes) -> None:
    response = send(server, b"GET / HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 403 ")


def test_bug_gives_status_500_and_a_traceback_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> str:
        raise RuntimeError("no such \x1b[2J object")

    monkeypatch.setattr(BrowserPages, "list_page", fail)
    shards = ShardSet.open(write_shard_set(tmp_path, [[1]]))
    with (
        BrowserServer(shards, 0, None) as running,
        socket.create_connection(("127.0.0.1", running.server_port), timeout=300) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        running.handle_request()
        response = b"".join(iter(lambda: connection.recv(65536), b""))
    assert response.startswith(b"HTTP/1.1 500 ")
    assert GUARDED in response
    assert b"no such" not in response
    assert "RuntimeError: no such \\x1b[2J object" in capsys.readouterr().err


def test_recipe_of_another_form_is_no_error(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1]])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["recipe"] = {"sources": ["vg"]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with browse(tmp_path) as running:
        assert "1 match in images" in running.page("/?dataset=vg")


class SearchForm(HTMLParser):
    """The values that a page's form sends."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self._select = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "select":
            self._select = attributes["name"]
        elif tag == "option" and "selected" in attributes:
            self.values[self._select] = attributes["value"]
        elif tag == "input":
            self.values[attributes["name"]] = attributes["value"]


def test_form_sends_its_values_back_unchanged(tmp_path: Path) -> None:
    odd = '<b>\u200bdata \u202e"set" &amp;'
    sample = Sample("vg/1", 4, 3, "", [Caption(odd, [], [], [Provenance(odd, "1", (0, 1))])])
    shards = write_full_set(
        tmp_path, {"train": [[(sample, None)]]}, recipe={"sources": {odd: {}, "vg": {}}}
    )
    with browse(shards) as running:
        page = running.page("/?" + urlencode({"text": odd, "dataset": odd}))
        values = SearchForm(page).values
        assert (values["text"], values["dataset"]) == (odd, odd)
        assert values["split"] == "train"
        assert "1 match in images" in running.page("/?" + urlencode(values))
        assert "data \\u202e" in page


def test_position_in_another_split_is_refused(tmp_path: Path) -> None:
    samples = [(Sample("vg/1", 4, 3, "", [Caption("a", [], [], [])]), None)]
    with browse(write_full_set(tmp_path, {"train": [samples], "val": [samples]})) as running:
        assert running.request("/?split=train&from=0.1").status == 200
        response = running.request("/?split=train&from=1.0")
        assert response.status == 400
        assert "There is no row 0 in a shard 1 of train" in response.text
