"""The pages that ``mdetr-shards browse`` serves over HTTP."""

import re
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path

import pytest

from schemas import Caption, Phrase, Provenance, Question, Region, Sample
from shards.__main__ import main
from shards.inspection.browser import pages as browser_pages
from shards.inspection.browser.pages import BrowserPages
from shards.inspection.browser.search import parse_query
from shards.reading.shard_set import ShardSet
from tests.processes import started
from tests.shard_sets import write_samples, write_shard_set
from tests.shards.inspection.browser.running_server import RunningServer, browse
from tests.shards.inspection.shard_sets import jpeg, write_full_set
from tests.test_architecture import modules_loaded_by

HOSTILE = "</p><script>alert(1)</script><img src=x onerror=alert(1)>\"'\u202e\x1b"
DETAILED = Caption(
    "a man and a dog. Is it red?",
    [Region([(0, 5)], (10.0, 20.0, 110.0, 90.0)), Region([(10, 15)], (200.0, 100.0, 300.0, 280.0))],
    [(0, 5)],
    [Provenance("flickr30k", "7#1", (0, 16)), Provenance("gqa", "0042", (17, 27))],
    [Phrase([(0, 5)], "1234", ["people"], [(10.0, 20.0, 110.0, 90.0)])],
    Question("0042", "no", "attr", "verify", False),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """40 images with one caption each, then one with all details and a hostile caption."""
    folder = tmp_path_factory.mktemp("set")
    plain = [
        Sample(
            f"vg/{i}",
            400,
            300,
            "",
            [Caption(f"cat {i}", [], [], [Provenance("vg", str(i), (0, 3))])],
        )
        for i in range(40)
    ]
    detailed = Sample("flickr30k/7", 400, 300, "", [DETAILED, Caption(HOSTILE, [], [], [])])
    samples = [(sample, jpeg(400, 300)) for sample in [*plain, detailed]]
    shards = [samples[:20], [], samples[20:]]
    with browse(write_samples(folder, shards, name=HOSTILE)) as running:
        yield running


def listed_keys(page: str) -> list[str]:
    return re.findall(r'<p class="where"><a href="/sample/[^"]*">([^<]*)</a>', page)


def link(page: str, rel: str) -> str | None:
    match = re.search(rf'<a rel="{rel}" href="([^"]*)"', page)
    return unescape(match[1]) if match else None


def test_next_and_previous_visit_every_hit_once(server: RunningServer) -> None:
    keys, path = [], "/?text=CAT"
    while path:
        page = server.page(path)
        keys.append(listed_keys(page))
        last, path = path, link(page, "next") or ""
    assert [key for page_keys in keys for key in page_keys] == [f"vg/{i}" for i in range(40)]
    assert [len(page_keys) for page_keys in keys] == [24, 16]
    previous = link(server.page(last), "prev")
    assert previous is not None
    assert listed_keys(server.page(previous)) == keys[0]
    assert "24 matches in images\n1 to 24 of 41" in server.page("/?text=CAT")


def test_timed_out_search_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser_pages, "LIST_SECONDS", 0)
    monkeypatch.setattr(browser_pages, "NEIGHBOR_SECONDS", 0)
    pages = BrowserPages(ShardSet.open(write_shard_set(tmp_path, [[1] * 3, [1] * 3])), None)
    query, keys = "text=vg%2F5", []
    for searched in range(1, 7):
        page = pages.list_page(parse_query(query, "train"))
        keys += listed_keys(page)
        assert f"images\n{searched} to {searched} of 6" in page
        query = (link(page, "next") or "/?").removeprefix("/?")
        assert ("Continue search" in page) == (searched < 6)
    assert (query, keys) == ("", ["vg/5"])
    assert link(pages.sample_page(0, 1, parse_query("text=vg%2F5", "train")), "next") == (
        "/?split=train&text=vg%2F5&from=1.0"
    )


def test_concurrent_requests(server: RunningServer) -> None:
    def request(number: int) -> list[str]:
        assert server.request(f"/image/{number % 2 * 2}/{number}").content == jpeg(400, 300)
        return listed_keys(server.page(f"/?text=cat+{number}&max_length=6"))

    with ThreadPoolExecutor(16) as threads:
        keys = list(threads.map(request, range(10, 20)))
    assert keys == [[f"vg/{number}"] for number in range(10, 20)]


def test_sample_pages_link_to_the_next_and_previous_hit(server: RunningServer) -> None:
    page = server.page("/?text=cat+1")
    assert listed_keys(page) == ["vg/1", *(f"vg/{i}" for i in range(10, 20))]
    match = re.search('href="(/sample/[^"]*)"', page)
    assert match is not None
    paths, path = [], unescape(match[1])
    while path:
        paths.append(path)
        path = link(server.page(path), "next") or ""
    assert len(paths) == len(set(paths)) == 11
    assert link(server.page(paths[5]), "prev") == paths[4]
    assert link(server.page(paths[0]), "prev") is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("dataset=gqa", ["flickr30k/7"]),
        ("min_boxes=2", ["flickr30k/7"]),
        ("min_length=8", ["flickr30k/7"]),
        ("max_length=5&min_boxes=", [f"vg/{i}" for i in range(10)]),
        ("text=cat&max_boxes=0&dataset=gqa", []),
    ],
)
def test_filters_of_a_list_page(server: RunningServer, query: str, expected: list[str]) -> None:
    assert listed_keys(server.page(f"/?{query}")) == expected


def test_sample_page_shows_provenance_and_evaluation_data(server: RunningServer) -> None:
    page = server.page("/sample/2/20?text=dog")
    text = " ".join(unescape(re.sub("<[^>]*>", " ", page)).split())
    for words in (
        *("400 × 300 px", "train-00002-of-00003.tar", "27 characters", "2 boxes"),
        *("flickr30k 7#1 a man and a dog.", "gqa 0042 Is it red?"),
        *(
            "question 0042",
            "answer no",
            "semantic type attr",
            "structural type verify",
            "balanced no",
        ),
        *("own boxes): a man", "a man 1234 people 1"),
        *("1 10 20 100 70 a man", "2 200 100 100 180 a dog", "no match"),
    ):
        assert words in text
    assert page.count('class="caption-row"') == 1
    assert page.count('class="caption-row unmatched"') == 1


def test_images_are_served_with_their_original_bytes(server: RunningServer) -> None:
    match = re.search('src="(/image/[^"]*)"', server.page("/"))
    assert match is not None
    response = server.request(match[1])
    assert response.content == jpeg(400, 300)
    assert response.headers["Content-Type"] == "image/jpeg"
    assert "max-age" in response.headers["Cache-Control"]
    head = server.request(match[1], "HEAD")
    assert (head.status, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(response.content))


def test_text_of_a_set_cannot_become_markup(server: RunningServer) -> None:
    for path in ("/?min_length=30", "/sample/2/20", f"/?text={'%22%3E%3Cscript%3E'}"):
        response = server.request(path)
        assert response.text.count("<script") == response.text.count('<script src="/keys.js"') == 1
        assert "<img src=x" not in response.text
        assert not re.search("[\x1b\u202e]", response.text)
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert "\\u202e\\u001b" in server.page("/sample/2/20")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost:1@evil", ""])
def test_foreign_host_names_are_refused(server: RunningServer, host: str) -> None:
    for path in ("/", "/image/0/0", "/style.css"):
        assert server.request(path, host=host).status == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "localhost:8000"])
def test_localhost_names_are_accepted(server: RunningServer, host: str) -> None:
    assert server.request("/", host=host).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_methods_other_than_get_and_head_are_refused(server: RunningServer, method: str) -> None:
    response = server.request("/", method)
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/sample/0/0", "/nothing", "/?from=x", "/style.css"])
def test_every_response_has_a_content_security_policy(server: RunningServer, path: str) -> None:
    headers = server.request(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("min_boxes=many", "minimum number of boxes is 'many'"),
        ("max_length=-1", "expected a whole number"),
        ("split=nothing", "There is no split 'nothing'; there are train"),
        ("from=here", "'here'; expected SHARD.ROW"),
        ("from=99.0", "There is no row 0 in a shard 99"),
        ("from=2.22", "There is no row 22 in a shard 2"),
        ("before=0.21", "There is no row 21 in a shard 0"),
        ("text=%ff", "The query cannot be parsed"),
        ("&".join(f"a{i}=1" for i in range(30)), "The query cannot be parsed"),
    ],
)
def test_bad_query_is_explained(server: RunningServer, query: str, words: str) -> None:
    response = server.request(f"/?{query}")
    assert response.status == 400
    assert words in unescape(response.text)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/sample/0/20",
        "/sample/1/0",
        "/image/9/0",
        "/image/0/99",
        "/image/../../etc",
        "//[",
    ],
)
def test_unknown_path_is_not_found(server: RunningServer, path: str) -> None:
    assert server.request(path).status == 404


def test_damaged_files_are_shown_in_place(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1, 1, 1], [1]])
    first = tmp_path / "train-00000-of-00002.tar"
    content = first.read_bytes()
    content = content.replace(b"image of vg/0", b"Image of vg/0")
    first.write_bytes(content.replace(b"caption 0 of vg/1", b"caption 0 of vg/9"))
    (tmp_path / "train-00001-of-00002.tar").unlink()
    with browse(tmp_path) as server:
        page = server.page("/")
        assert listed_keys(page) == ["vg/0", "vg/2"]
        assert "vg/0.jpg is damaged" in page
        assert "vg/1.json is damaged" in page
        assert "train-00001-of-00002.tar cannot be opened" in page
        assert "vg/1.json is damaged" in server.page("/sample/0/1")
        assert link(server.page("/sample/0/1"), "next") == "/sample/0/2?split=train"
        assert link(server.page("/sample/0/2"), "next") == "/sample/1/0?split=train"
        assert "cannot be opened" in server.page("/sample/1/0")
        assert link(server.page("/sample/1/0"), "prev") == "/sample/0/2?split=train"
        assert server.request("/image/0/0").status == 500
        assert server.request("/image/0/2").status == 415  # not an image at all


def test_set_without_images(tmp_path: Path) -> None:
    with browse(write_shard_set(tmp_path, [[2]], images=False)) as server:
        for page in (server.page("/"), server.page("/sample/0/0")):
            assert 'class="box"' in page
            assert "<img" not in page
            assert 'class="error"' not in page
        response = server.request("/image/0/0")
        assert response.status == 404
        assert "has no images" in response.text


def test_list_page_opens_only_the_shards_it_shows(tmp_path: Path) -> None:
    """99 of 100 shards are missing, and neither list page mentions one."""
    write_shard_set(tmp_path, [[1] * 30] * 100)
    for path in tmp_path.glob("*.tar"):
        if path.name != "train-00000-of-00100.tar":
            path.unlink()
    with browse(tmp_path) as server:
        page = server.page("/")
        assert listed_keys(page) == [f"vg/{i}" for i in range(24)]
        assert "1 to 24 of 3,000" in page
        assert "cannot be opened" not in page
        assert listed_keys(server.page("/?dataset=gqa")) == []  # the index rules all out


def test_split_argument_chooses_the_first_split_shown(tmp_path: Path) -> None:
    train, val = ([(Sample(f"vg/{i}", 4, 3, "", []), None)] for i in range(2))
    with browse(write_full_set(tmp_path, {"train": [train], "val": [val]}), "val") as server:
        assert '<option value="val" selected>val' in server.page("/")


def test_command_serves_until_ctrl_c(tmp_path: Path) -> None:
    shards = write_shard_set(tmp_path, [[1]], "val")
    command = [sys.executable, "-m", "shards", "browse", shards, "--port=0", "--split=val"]
    with started(command) as process:
        assert process.stdout is not None
        match = re.match(r"http://127\.0\.0\.1:(\d+)/ ", process.stdout.readline())
        assert match is not None
        assert listed_keys(RunningServer(int(match[1])).page("/")) == ["vg/0"]
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 0


def test_errors_at_start_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(write_shard_set(tmp_path, [[1]]))

    def refusal(*arguments: str) -> str:
        assert main(["browse", *arguments]) == 1
        return capsys.readouterr().err

    assert "has no split 'test'; it has train" in refusal(folder, "--split=test", "--port=0")
    assert "is not a shard set" in refusal(str(tmp_path / "nothing"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "already in use" in refusal(folder, f"--port={server.getsockname()[1]}")
    with pytest.raises(SystemExit) as usage:
        main(["browse", folder, "--port=99999"])
    assert usage.value.code == 2
    assert "'99999' is not a port" in capsys.readouterr().err


def test_help_of_browse_loads_no_heavy_library() -> None:
    loaded = modules_loaded_by(
        "from shards.__main__ import main\n"
        "try:\n    main(['browse', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0"
    )
    assert "shards.__main__" in loaded
    assert not {"jinja2", "numpy", "pyarrow", "PIL", "fsspec", "http.server"} & loaded
