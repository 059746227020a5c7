"""``python -m shards browse``: a process of its own, asked over HTTP and looked at in a browser."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path

import pytest

from schemas import Caption, Phrase, Provenance, Question, Region, Sample
from shards.inspection import browser_pages
from shards.inspection.address import parse
from shards.inspection.browser_pages import BrowserPages
from shards.inspection.gallery import as_url
from shards.reading.shard_set import ShardSet
from tests.shard_sets import write_samples, write_shard_set
from tests.shards.inspection.browse_server import Server, browse
from tests.shards.inspection.chromium import Chromium
from tests.shards.inspection.whole_sets import jpeg
from tests.test_layout import modules_loaded_by

HOSTILE = "</p><script>alert(1)</script><img src=x onerror=alert(1)>\"'\u202e\x1b"
TOLD = Caption(
    "a man and a dog. Is it red?",
    [Region([(0, 5)], (10.0, 20.0, 110.0, 90.0)), Region([(10, 15)], (200.0, 100.0, 300.0, 280.0))],
    [(0, 5)],
    [Provenance("flickr30k", "7#1", (0, 16)), Provenance("gqa", "0042", (17, 27))],
    [Phrase([(0, 5)], "1234", ["people"], [(10.0, 20.0, 110.0, 90.0)])],
    Question("0042", "no", "attr", "verify", False),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """40 images of one caption each, and at the end one that has everything to tell."""
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
    told = Sample("flickr30k/7", 400, 300, "", [TOLD, Caption(HOSTILE, [], [], [])])
    of = [(sample, jpeg(400, 300)) for sample in [*plain, told]]
    with browse(write_samples(folder, [of[:20], [], of[20:]], name=HOSTILE)) as running:
        yield running


def shown(page: str) -> list[str]:
    """The keys of the images of a list."""
    return re.findall(r'<p class="where"><a href="/image/[^"]*">([^<]*)</a>', page)


def link(page: str, rel: str) -> str | None:
    found = re.search(rf'<a rel="{rel}" href="([^"]*)"', page)
    return unescape(found[1]) if found else None


def test_next_and_previous_walk_every_match_once(server: Server) -> None:
    keys, path = [], "/?text=CAT"
    while path:
        page = server.page(path)
        keys.append(shown(page))
        last, path = path, link(page, "next") or ""
    assert [key for of in keys for key in of] == [f"vg/{i}" for i in range(40)]
    assert [len(of) for of in keys] == [24, 16]
    back = link(server.page(last), "prev")
    assert back is not None
    assert shown(server.page(back)) == keys[0]
    assert "24 images found among\n1 to 24 of 41" in server.page("/?text=CAT")


def test_a_search_that_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser_pages, "LIST_SECONDS", 0)
    monkeypatch.setattr(browser_pages, "NEIGHBOUR_SECONDS", 0)
    pages = BrowserPages(ShardSet.open(write_shard_set(tmp_path, [[1] * 3, [1] * 3])), None)
    query, keys = "text=vg%2F5", []
    for looked_at in range(1, 7):
        page = pages.list_page(parse(query, "train"))
        keys += shown(page)
        assert f"among\n{looked_at} to {looked_at} of 6" in page
        query = (link(page, "next") or "/?").removeprefix("/?")
        assert ("Search on" in page) == (looked_at < 6)
    assert (query, keys) == ("", ["vg/5"])
    assert link(pages.image_page(0, 1, parse("text=vg%2F5", "train")), "next") == (
        "/?split=train&text=vg%2F5&from=1.0"
    )


def test_many_ask_at_once(server: Server) -> None:
    def ask(number: int) -> list[str]:
        assert server.ask(f"/image/{number % 2 * 2}/{number}").content == jpeg(400, 300)
        return shown(server.page(f"/?text=cat+{number}&longest=6"))

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(ask, range(10, 20)))
    assert found == [[f"vg/{number}"] for number in range(10, 20)]


def test_images_lead_to_the_next_match_and_back(server: Server) -> None:
    page = server.page("/?text=cat+1")
    assert shown(page) == ["vg/1", *(f"vg/{i}" for i in range(10, 20))]
    found = re.search('href="(/image/[^"]*)"', page)
    assert found is not None
    paths, path = [], unescape(found[1])
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
        ("least_boxes=2", ["flickr30k/7"]),
        ("shortest=8", ["flickr30k/7"]),
        ("longest=5&least_boxes=", [f"vg/{i}" for i in range(10)]),
        ("text=cat&most_boxes=0&dataset=gqa", []),
    ],
)
def test_filters(server: Server, query: str, expected: list[str]) -> None:
    assert shown(server.page(f"/?{query}")) == expected


def test_an_image_tells_where_its_words_are_from(server: Server) -> None:
    page = server.page("/image/2/20?text=dog")
    text = " ".join(unescape(re.sub("<[^>]*>", " ", page)).split())
    for told in (
        *("400 × 300 px", "train-00002-of-00003.tar", "27 characters", "2 boxes"),
        *("flickr30k 7#1 a man and a dog.", "gqa 0042 Is it red?"),
        *("question 0042", "answer no", "about attr", "kind verify", "balanced no"),
        *("but its own: a man", "a man 1234 people 1"),
        *("1 10 20 100 70 a man", "2 200 100 100 180 a dog", "not searched for"),
    ):
        assert told in text
    assert page.count('class="told"') == 1
    assert page.count('class="told other"') == 1


def test_images_are_the_original_bytes(server: Server) -> None:
    found = re.search('src="(/image/[^"]*)"', server.page("/"))
    assert found is not None
    answer = server.ask(found[1])
    assert answer.content == jpeg(400, 300)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert "max-age" in answer.headers["Cache-Control"]
    head = server.ask(found[1], "HEAD")
    assert (head.status, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(answer.content))


def test_text_of_a_set_does_nothing(server: Server) -> None:
    for path in ("/?shortest=30", "/image/2/20", f"/?text={'%22%3E%3Cscript%3E'}"):
        answer = server.ask(path)
        assert answer.text.count("<script") == answer.text.count('<script src="/keys.js"') == 1
        assert "<img src=x" not in answer.text
        assert not re.search("[\x1b\u202e]", answer.text)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert "\\u202e\\u001b" in server.page("/image/2/20")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost:1@evil", ""])
def test_other_names_of_this_machine_are_refused(server: Server, host: str) -> None:
    for path in ("/", "/image/0/0", "/style.css"):
        assert server.ask(path, host=host).status == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "localhost:8000"])
def test_its_own_names_are_answered(server: Server, host: str) -> None:
    assert server.ask("/", host=host).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(server: Server, method: str) -> None:
    answer = server.ask("/", method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/image/0/0", "/nothing", "/?from=x", "/style.css"])
def test_every_answer_is_guarded(server: Server, path: str) -> None:
    headers = server.ask(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("least_boxes=many", "the least number of boxes is 'many'"),
        ("longest=-1", "a whole number is expected"),
        ("split=nothing", "There is no split 'nothing'; there are train"),
        ("from=here", "'here' is no place"),
        ("from=99.0", "There is no image 0 in a shard 99"),
        ("from=2.22", "There is no image 22 in a shard 2"),
        ("before=0.21", "There is no image 21 in a shard 0"),
        ("text=%ff", "The address cannot be read"),
        ("&".join(f"a{i}=1" for i in range(30)), "The address cannot be read"),
    ],
)
def test_bad_queries_are_explained(server: Server, query: str, words: str) -> None:
    answer = server.ask(f"/?{query}")
    assert answer.status == 400
    assert words in unescape(answer.text)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/image/0/20",
        "/image/1/0",
        "/image/9/0",
        "/image/0/99",
        "/image/../../etc",
        "//[",
    ],
)
def test_what_is_not_there(server: Server, path: str) -> None:
    assert server.ask(path).status == 404


def test_damage_is_said_in_its_place(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1, 1, 1], [1]])
    first = tmp_path / "train-00000-of-00002.tar"
    content = first.read_bytes()
    content = content.replace(b"image of vg/0", b"Image of vg/0")
    first.write_bytes(content.replace(b"caption 0 of vg/1", b"caption 0 of vg/9"))
    (tmp_path / "train-00001-of-00002.tar").unlink()
    with browse(tmp_path) as server:
        page = server.page("/")
        assert shown(page) == ["vg/0", "vg/2"]
        assert "vg/0.jpg is damaged" in page
        assert "vg/1.json is damaged" in page
        assert "train-00001-of-00002.tar cannot be opened" in page
        assert "vg/1.json is damaged" in server.page("/image/0/1")
        assert link(server.page("/image/0/1"), "next") == "/image/0/2?split=train"
        assert link(server.page("/image/0/2"), "next") == "/image/1/0?split=train"
        assert "cannot be opened" in server.page("/image/1/0")
        assert link(server.page("/image/1/0"), "prev") == "/image/0/2?split=train"
        assert server.ask("/image/0/0").status == 500
        assert server.ask("/image/0/2").status == 415  # not an image at all


def test_a_set_without_images(tmp_path: Path) -> None:
    with browse(write_shard_set(tmp_path, [[2]], images=False)) as server:
        for page in (server.page("/"), server.page("/image/0/0")):
            assert 'class="box"' in page
            assert "<img" not in page
            assert 'class="fault"' not in page
        answer = server.ask("/image/0/0")
        assert answer.status == 404
        assert "holds annotations alone" in answer.text


def test_only_what_is_needed_is_read(tmp_path: Path) -> None:
    """99 of 100 shards are missing, and the first page is there at once."""
    write_shard_set(tmp_path, [[1] * 30] * 100)
    for path in tmp_path.glob("*.tar"):
        if path.name != "train-00000-of-00100.tar":
            path.unlink()
    with browse(tmp_path) as server:
        begin = time.monotonic()
        page = server.page("/")
        assert time.monotonic() - begin < 5  # however busy the machine is
        assert shown(page) == [f"vg/{i}" for i in range(24)]
        assert "1 to 24 of 3,000" in page
        assert "cannot be opened" not in page
        assert shown(server.page("/?dataset=gqa")) == []  # which the index tells


def test_a_split_to_begin_with(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1]], "val")
    with browse(tmp_path, "--split", "val") as server:
        assert '<option value="val" selected>val' in server.page("/")


def test_it_ends_with_ctrl_c(tmp_path: Path) -> None:
    with browse(write_shard_set(tmp_path, [[1]])) as server:
        server.page("/")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 0


def refusal(*arguments: str) -> str:
    command = [sys.executable, "-m", "shards", "browse", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    return result.stderr


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    folder = str(write_shard_set(tmp_path, [[1]]))
    assert "has no split 'test'; it has train" in refusal(folder, "--split", "test", "--port", "0")
    assert "is not a shard set" in refusal(str(tmp_path / "nothing"))
    assert "'99999' is not a port" in refusal(folder, "--port", "99999")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "already in use" in refusal(folder, "--port", str(taken.getsockname()[1]))


def test_help_is_light() -> None:
    loaded = modules_loaded_by(
        "from shards.__main__ import main\n"
        "try:\n    main(['browse', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0"
    )
    assert "shards.__main__" in loaded
    assert not {"jinja2", "numpy", "pyarrow", "PIL", "fsspec", "http.server"} & loaded


def test_arrow_keys_follow_the_links(server: Server, tmp_path: Path) -> None:
    script = f"""<a rel="next" href="#next">on</a><script>{server.page("/keys.js")}
    const event = new KeyboardEvent("keydown", {{key: "ArrowRight", bubbles: true}});
    document.body.dispatchEvent(event);
    document.querySelector("a").textContent = "went to " + location.hash;</script>"""
    (tmp_path / "keys.html").write_text(f"<body>{script}", encoding="utf-8")
    assert ">went to #next</a>" in Chromium(tmp_path).dom((tmp_path / "keys.html").as_uri())


def test_a_browser_shows_boxes_where_they_are(server: Server, tmp_path: Path) -> None:
    chromium = Chromium(tmp_path, height=900)
    url = f"http://127.0.0.1:{server.port}/image/2/20"
    # A copy that is measured gets nothing from the server, which refuses pages from elsewhere.
    style = f"<style>{server.page('/style.css')}</style>"
    page = server.page("/image/2/20").replace("<head>", f"<head>{style}")
    page = re.sub('src="/image/[^"]*"', f'src="{as_url(jpeg(400, 300))}"', page)
    image, *_ = chromium.find(page, ".told img")
    man, dog = chromium.find(page, ".told .m")[:2]
    seen = chromium.screenshot(url)
    scale = image[2] / 400
    colors = []
    for mark, (x0, y0, y1) in ((man, (10, 20, 90)), (dog, (200, 100, 280))):
        edge = (round(image[0] + x0 * scale), round(image[1] + (y0 + y1) / 2 * scale))
        line = (round(mark[0] + 3), round(mark[1] + mark[3] - 2))
        colors.append(seen.getpixel(edge))
        assert seen.getpixel(line) == colors[-1] != (255, 255, 255)
    assert colors[0] != colors[1]
