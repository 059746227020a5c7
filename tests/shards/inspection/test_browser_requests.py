"""What `shards browse` makes of requests that are not those of a browser, and of its own faults."""

import json
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import pytest

from schemas import Caption, Provenance, Sample
from shards.inspection.browser import Browser
from shards.inspection.browser_pages import BrowserPages
from shards.reading.shard_set import ShardSet
from tests.shard_sets import write_shard_set
from tests.shards.inspection.browse_server import Server, browse
from tests.shards.inspection.whole_sets import write_whole_set

GUARDED = b"Content-Security-Policy: default-src 'none'"
HOST = b"Host: localhost\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with browse(write_shard_set(tmp_path_factory.mktemp("set"), [[1, 1]])) as running:
        yield running


def sent(server: Server, request: bytes) -> bytes:
    """All that comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("header", [b"Content-Length: 40", b"Transfer-Encoding: chunked"])
def test_a_body_is_not_taken_for_a_request(server: Server, header: bytes) -> None:
    hidden = b"GET /image/0/1 HTTP/1.1\r\n" + HOST + b"\r\n"
    found = sent(server, b"GET /keys.js HTTP/1.1\r\n" + HOST + header + b"\r\n\r\n" + hidden)
    assert found.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in found


def test_requests_without_a_body_share_a_connection(server: Server) -> None:
    assert sent(server, (b"GET /keys.js HTTP/1.1\r\n" + HOST + b"\r\n") * 2).count(b" 200 OK") == 2


@pytest.mark.parametrize("hosts", [b"", HOST * 2, HOST + b"Host: evil.example\r\n"])
def test_there_is_one_host(server: Server, hosts: bytes) -> None:
    found = sent(server, b"GET / HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 403 ")


def test_an_unforeseen_fault_is_answered_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> str:
        raise RuntimeError("no such \x1b[2J object")

    monkeypatch.setattr(BrowserPages, "list_page", fail)
    shards = ShardSet.open(write_shard_set(tmp_path, [[1]]))
    with (
        Browser(shards, 0, None) as running,
        socket.create_connection(("127.0.0.1", running.server_port), timeout=30) as asking,
    ):
        asking.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        running.handle_request()
        found = b"".join(iter(lambda: asking.recv(65536), b""))
    assert found.startswith(b"HTTP/1.1 500 ")
    assert GUARDED in found
    assert b"no such" not in found
    assert "RuntimeError: no such \\x1b[2J object" in capsys.readouterr().err


def test_a_recipe_of_another_form_is_no_fault(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1]])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["recipe"] = {"sources": ["vg"]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with browse(tmp_path) as running:
        assert "1 image found" in running.page("/?dataset=vg")


class Form(HTMLParser):
    """The values that a page's form sends."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self._select = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "select":
            self._select = given["name"]
        elif tag == "option" and "selected" in given:
            self.values[self._select] = given["value"]
        elif tag == "input":
            self.values[given["name"]] = given["value"]


def test_a_form_sends_what_it_was_given(tmp_path: Path) -> None:
    odd = '<b>\u200bdata \u202e"set" &amp;'
    of = Sample("vg/1", 4, 3, "", [Caption(odd, [], [], [Provenance(odd, "1", (0, 1))])])
    shards = write_whole_set(
        tmp_path, {"train": [[(of, None)]]}, recipe={"sources": {odd: {}, "vg": {}}}
    )
    with browse(shards) as running:
        page = running.page("/?" + urlencode({"text": odd, "dataset": odd}))
        sent_again = Form(page).values
        assert (sent_again["text"], sent_again["dataset"]) == (odd, odd)
        assert sent_again["split"] == "train"
        assert "1 image found" in running.page("/?" + urlencode(sent_again))
        assert "data \\u202e" in page


def test_a_place_of_another_split_is_refused(tmp_path: Path) -> None:
    of = [(Sample("vg/1", 4, 3, "", [Caption("a", [], [], [])]), None)]
    with browse(write_whole_set(tmp_path, {"train": [of], "val": [of]})) as running:
        assert running.ask("/?split=train&from=0.1").status == 200
        answer = running.ask("/?split=train&from=1.0")
        assert answer.status == 400
        assert "There is no image 0 in a shard 1 of train" in answer.text
