"""The server of ``mdetr play``: its responses, what it refuses, and how it starts and ends."""

import re
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode

import pytest
from PIL import Image

from mdetr_model.__main__ import main
from mdetr_model.inference.ground import ground
from mdetr_model.inference.images import open_image
from mdetr_model.inference.play_server import PlayServer
from mdetr_model.model_folder import read_model
from schemas.limits import MAX_IMAGE_FILE_BYTES
from tests.processes import started
from tests.shards.inspection.browser.running_server import HttpResponse, RunningServer, served

CAPTION = "a red ball near the small dog"
HOSTILE = "</p><script>alert(1)</script><img src=x onerror=alert(1)>\"'\u202e\x1b"


def png(width: int = 40, height: int = 30) -> bytes:
    file = BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, one that cannot be read, and one with a name that is markup."""
    folder = tmp_path_factory.mktemp("examples")
    for name, content in (
        ("0.png", png(60, 40)),
        ("1.jpg", b"no image"),
        ('2"><script>.png', png(300, 500)),
    ):
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def server(model_folder: Path, examples: Path) -> Iterator[RunningServer]:
    with PlayServer(model_folder, examples, 0.25, 0) as server, served(server) as running:
        yield running


def post(server: RunningServer, image: bytes, **query: object) -> HttpResponse:
    values = {"caption": CAPTION, "threshold": 0} | query
    return server.request(f"/ground?{urlencode(values)}", "POST", body=image)


def rows(page: str) -> list[list[str]]:
    """Returns the texts of the table: number, score, words and box of each object."""
    body = re.findall("<tbody>(.*?)</tbody>", page, re.DOTALL)
    return [
        [unescape(re.sub("<[^>]*>", "", text)) for text in re.findall("<t[hd].*?</t[hd]>", row)]
        for row in re.findall("<tr>(.*?)</tr>", "".join(body))
    ]


def test_result_has_the_objects_of_the_caption(
    server: RunningServer, model_folder: Path, image: Path
) -> None:
    response = post(server, image.read_bytes())
    assert response.status == 200
    [objects] = ground(open_image(image), [CAPTION], *read_model(model_folder), threshold=0.0)
    assert rows(response.text) == [
        [
            "–",
            f"{obj.score:.2f}",
            obj.phrase or "none",
            ", ".join(f"{side:.0f}" for side in obj.box),
        ]
        for obj in objects
    ]
    assert response.text.count('class="box"') == len(objects) == 6
    assert "200 × 60 px" in response.text
    assert 'viewBox="0 0 200 60"' in response.text


def test_page_without_objects_states_the_highest_score(
    server: RunningServer, model_folder: Path, image: Path
) -> None:
    [objects] = ground(open_image(image), [CAPTION], *read_model(model_folder), threshold=0.0)
    text = post(server, image.read_bytes(), threshold=1).text
    assert not rows(text)
    message = f"No object has a score above 1.0; the highest is {objects[0].score:.2f}."
    assert message in text


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (2000, 40)])
def test_images_of_extreme_shapes(server: RunningServer, size: tuple[int, int]) -> None:
    response = post(server, png(*size))
    assert response.status == 200, response.text
    assert len(rows(response.text)) == 6


@pytest.mark.parametrize(
    ("image", "query", "status", "message"),
    [
        (b"no image", {}, 415, "Not an image of a known format (AVIF, "),
        (b"", {}, 415, "Not an image of a known format"),
        (png()[:60], {}, 415, "The image cannot be decoded: "),
        (png(40, 2001), {}, 415, "40 x 2001 pixels are too narrow."),
        (png(), {"caption": ""}, 400, "The caption is empty."),
        (png(), {"caption": " \n"}, 400, "The caption is empty."),
        (png(), {"caption": "x" * 300}, 400, "The caption has 302 tokens, and a model reads 256"),
        (png(), {"threshold": ""}, 400, "Expected a caption, and a minimum score from 0 to 1."),
        (png(), {"threshold": "nan"}, 400, "The minimum score must be from 0 to 1."),
        (png(), {"threshold": 2}, 400, "The minimum score must be from 0 to 1."),
        (png(), {"other": 2}, 400, "Expected a caption, and a minimum score from 0 to 1."),
    ],
)
def test_error_is_explained(
    server: RunningServer, image: bytes, query: dict[str, object], status: int, message: str
) -> None:
    response = post(server, image, **query)
    assert response.status == status
    assert response.text.startswith(message)
    assert re.search(r"[^.]\.$", response.text)
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_text_cannot_become_markup(server: RunningServer) -> None:
    page = server.page("/")
    assert page.count("<script") == page.count('<script src="/play.js"') == 1
    text = post(server, png(), caption=HOSTILE).text
    assert "<script" not in text and "<img src=x" not in text
    assert not re.search("[\x1b\u202e]", text)
    for path in ("/", "/style.css", "/play.js", "/nothing", "/thumbnail/0"):
        policy = server.request(path).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy


def test_concurrent_requests_get_their_own_results(server: RunningServer) -> None:
    widths = range(20, 60)
    with ThreadPoolExecutor(8) as threads:
        texts = threads.map(lambda width: post(server, png(width)).text, widths)
        for width, text in zip(widths, texts, strict=True):
            assert f"{width} × 30 px" in text


def send(server: RunningServer, head: bytes) -> bytes:
    """Sends the head of a request and returns the response."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=300) as connection:
        connection.sendall(head + b"\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Content-Length: %d" % (MAX_IMAGE_FILE_BYTES + 1), b"413"),
        (b"Content-Length: 9999999999999999", b"411"),
        (b"Content-Length: -1", b"411"),
        (b"Transfer-Encoding: chunked", b"411"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 4", b"411"),
    ],
)
def test_body_is_not_read_unless_it_is_small(
    server: RunningServer, header: bytes, status: bytes
) -> None:
    request = b"POST /ground?caption=a&threshold=0 HTTP/1.1\r\nHost: localhost\r\n"
    response = send(server, request + header)
    assert response.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in response


def test_requests_of_other_sites_are_refused(server: RunningServer) -> None:
    path = f"/ground?{urlencode({'caption': CAPTION, 'threshold': 0})}"
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{server.port}"):
        assert server.request(path, "POST", body=png(), Origin=origin).status == 403
    same = f"http://127.0.0.1:{server.port}"
    assert server.request(path, "POST", body=png(), Origin=same).status == 200
    for method in ("GET", "POST"):
        assert server.request("/", method, host="evil.example").status == 403
    response = server.request("/", "PUT")
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/ground", "/example/3", "/thumbnail/3", "/example/../0.png", "/example/-1"],
)
def test_unknown_path_is_not_found(server: RunningServer, path: str) -> None:
    assert server.request(path).status == 404


def test_examples_are_served_by_number(server: RunningServer, examples: Path) -> None:
    assert server.page("/").count('class="example"') == 3
    assert server.request("/example/0").content == (examples / "0.png").read_bytes()
    response = server.request("/thumbnail/2")
    assert response.headers["Content-Type"] == "image/jpeg"
    assert Image.open(BytesIO(response.content)).size == (144, 240)
    response = server.request("/thumbnail/1")
    assert response.status == 415
    assert response.text.startswith(f"The image cannot be shown: {examples / '1.jpg'}: not an im")
    assert server.request("/", "POST", body=b"").status == 404


def test_example_that_was_deleted(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    with PlayServer(model_folder, tmp_path, 0.25, 0) as server, served(server) as running:
        (tmp_path / "a.png").unlink()
        response = running.request("/example/0")
    path = tmp_path / "a.png"
    assert response.status == 415
    assert response.text == f"The image cannot be shown: {path}: No such file or directory"


def test_command_serves_until_ctrl_c(model_folder: Path) -> None:
    """Ctrl-C during requests, too: the interpreter ends when the model has."""
    command = [sys.executable, "-m", "mdetr_model", "play", "--model", model_folder, "--port", "0"]
    with started(command) as process, ThreadPoolExecutor(4) as threads:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        [port] = next(
            filter(None, (re.findall(r"http://127\.0\.0\.1:(\d+)/ \(", x) for x in lines))
        )
        server = RunningServer(int(port))
        assert len(rows(post(server, png()).text)) == 6

        def send_until_closed() -> None:
            try:
                while True:
                    post(server, png(800, 600))
            except (OSError, ConnectionError):
                pass

        clients = [threads.submit(send_until_closed) for _ in range(4)]
        assert post(server, png()).status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 0
        assert "Traceback" not in process.stdout.read()
        for client in clients:
            client.result()


def test_errors_at_start_are_reported(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(*arguments: object) -> str:
        assert main(["play", *map(str, arguments)]) == 1
        return capsys.readouterr().err.splitlines()[-1]

    assert "there is no folder" in refusal("--model", tmp_path / "nothing")
    model = ("--model", model_folder)
    assert "has no files with the name of an image" in refusal(*model, "--images", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        assert f"port {number} of 127.0.0.1: Address already in use" in refusal(
            *model, "--port", number
        )
    with pytest.raises(SystemExit) as usage:
        main(["play", "--model", "x", "--port", "99999"])
    assert usage.value.code == 2
