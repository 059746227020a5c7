"""The page of ``mdetr play`` as a user has it in Chromium: files are chosen and dropped."""

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from mdetr_model.inference.images import open_image
from mdetr_model.inference.play_server import PlayServer
from mdetr_model.model_folder import write_model
from mdetr_model.modeling import MdetrForGrounding, MdetrProcessor
from schemas.limits import MAX_IMAGE_FILE_BYTES
from tests.chromium_session import ChromiumSession, chromium_session
from tests.processes import started
from tests.shards.inspection.browser.running_server import served

CAPTION = "a red ball near the small dog"
BALL, DOG = (2, 10), (20, 29)
BOX = (50, 60, 110, 180)  # of all objects, in an image of 200 x 240


@torch.no_grad()
def name_ball_and_dog(
    model: MdetrForGrounding, processor: MdetrProcessor, image: Image.Image
) -> None:
    """Sets the heads: objects 0 to 2 are the ball, 3 to 5 the dog, in CAPTION and `image`."""
    inputs = processor(images=image, text=[CAPTION], return_tensors="pt")
    [queries] = model.mdetr(**inputs).last_hidden_state
    targets = torch.tensor([9.0] * 3 + [-9.0] * 3)
    direction = torch.linalg.lstsq(queries, targets[:, None], driver="gelsd").solution[:, 0]
    tokens = model.object_heads.tokens
    tokens.weight.zero_()
    tokens.bias.fill_(-20)
    for sign, (begin, end) in ((1, BALL), (-1, DOG)):
        rows = slice(begin + 1, end + 1)  # a token is a byte; the first one begins the text
        tokens.weight[rows], tokens.bias[rows] = sign * direction, 0
    x0, y0, x1, y1 = BOX
    center_and_size = ((x0 + x1) / 400, (y0 + y1) / 480, (x1 - x0) / 200, (y1 - y0) / 240)
    model.object_heads.box.last.weight.zero_()
    logits = [math.log(value / (1 - value)) for value in center_and_size]
    model.object_heads.box.last.bias.copy_(torch.tensor(logits))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A white image with a black box, which its EXIF orientation turns upright, and others."""
    folder = tmp_path_factory.mktemp("images")
    upright = Image.new("RGB", (200, 240), "white")
    ImageDraw.Draw(upright).rectangle((50, 60, 109, 179), fill="black")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    upright.rotate(90, expand=True).save(folder / "turned.jpg", exif=exif, quality=95)
    upright.save(folder / "upright.tiff")
    (folder / "text.png").write_text("no image")
    with (folder / "large.png").open("wb") as file:
        file.truncate(MAX_IMAGE_FILE_BYTES + 1)
    (folder / "examples").mkdir()
    upright.save(folder / "examples" / "example.png")
    return folder


@pytest.fixture(scope="module")
def url(
    model_folder: Path, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("named") / "model"
    model = MdetrForGrounding.from_pretrained(model_folder).eval()
    processor = MdetrProcessor.from_pretrained(model_folder)
    name_ball_and_dog(model, processor, open_image(images / "turned.jpg"))
    write_model(folder, model, processor)
    with PlayServer(folder, images / "examples", 0.7, 0) as server, served(server):
        yield server.url


@pytest.fixture
def page(url: str, tmp_path: Path) -> Iterator[ChromiumSession]:
    with chromium_session(tmp_path) as session:
        session.open(url)
        yield session


def detect(page: ChromiumSession, caption: str = CAPTION) -> None:
    page.click("textarea")
    page.type(caption)
    page.click("form button")


def wait_for_boxes(page: ChromiumSession) -> None:
    page.wait("document.querySelector('#stage .box') && document.querySelector('tbody')")
    page.wait("document.querySelector('#stage img').complete")


def assert_boxes_are_on_the_image(page: ChromiumSession) -> None:
    """Checks on a screenshot that the outline is where the image has the black box."""
    left, top, right, bottom = page.evaluate(
        "(() => { const b = document.querySelector('#stage .box').getBoundingClientRect();"
        "return [b.left, b.top, b.right, b.bottom]; })()"
    )
    assert right - left > 100
    assert (bottom - top) / (right - left) == pytest.approx(2, rel=0.02)
    screenshot = page.screenshot()
    x, y = (left + right) / 2, (top + bottom) / 2
    for inside, outside in (
        ((left + 6, y), (left - 6, y)),
        ((right - 6, y), (right + 6, y)),
        ((x, bottom - 6), (x, bottom + 6)),
        ((x, top + 6), (x, top - 6)),
    ):
        assert max(screenshot.getpixel((round(inside[0]), round(inside[1])))) < 40
        assert min(screenshot.getpixel((round(outside[0]), round(outside[1])))) > 215


def test_words_have_the_colors_of_their_boxes(page: ChromiumSession, images: Path) -> None:
    page.choose_file("input[type=file]", images / "turned.jpg")
    page.wait("document.querySelector('#stage img').complete")
    detect(page)
    wait_for_boxes(page)
    style = "getComputedStyle(e)"
    marks = "[...document.querySelectorAll('#result .m')]"
    words = page.evaluate(f"{marks}.map(e => [e.textContent, {style}.borderBottomColor])")
    assert [text for text, _ in words] == ["red ball", "small dog"]
    assert words[0][1] != words[1][1]
    strokes = page.evaluate(
        f"[...document.querySelectorAll('#stage .box')].map(e => [e.parentNode.querySelector("
        f"'title').textContent, {style}.stroke])"
    )
    assert sorted(strokes) == sorted(words * 3)
    table = "[...document.querySelectorAll('tbody tr')]"
    numbers = page.evaluate(
        f"{table}.map(row => [row.cells[2].textContent, "
        "getComputedStyle(row.querySelector('.number')).backgroundColor])"
    )
    assert sorted(numbers) == sorted(strokes)
    assert_boxes_are_on_the_image(page)


def test_file_is_dropped_and_enter_detects(page: ChromiumSession, images: Path) -> None:
    page.drop_file("#stage", images / "upright.tiff")  # which Chromium cannot show itself
    page.wait("document.querySelector('#stage img')")
    page.click("textarea")
    page.type(CAPTION)
    page.press("Enter")
    wait_for_boxes(page)
    assert_boxes_are_on_the_image(page)


def test_example_is_chosen_by_a_click(page: ChromiumSession) -> None:
    page.wait("document.querySelector('.example img').complete")
    page.click(".example")
    page.wait("document.activeElement.name === 'caption'")
    page.type(CAPTION)
    page.click("form button")
    wait_for_boxes(page)
    assert_boxes_are_on_the_image(page)


def test_errors_are_shown_and_the_page_goes_on(page: ChromiumSession, images: Path) -> None:
    for file, caption, message in (
        (None, CAPTION, "Choose an image first."),
        ("turned.jpg", " ", "Type a caption first."),
        ("turned.jpg", "x" * 300, "The caption has 302 tokens, and a model reads 256"),
        ("text.png", CAPTION, "Not an image of a known format"),
        ("large.png", CAPTION, "The file is too large."),
    ):
        if file:
            page.choose_file("input[type=file]", images / file)
        detect(page, caption)
        page.wait("!document.querySelector('.error').hidden")
        assert page.evaluate("document.querySelector('.error').textContent").startswith(message)
        page.evaluate("document.querySelector('textarea').value = ''")
        page.choose_file("input[type=file]", images / "turned.jpg")
        page.wait("document.querySelector('.error').hidden")
    detect(page)
    wait_for_boxes(page)


def test_page_fits_a_small_screen(url: str, images: Path, tmp_path: Path) -> None:
    with chromium_session(tmp_path, 500, 900) as page:
        device = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        page.send("Emulation.setDeviceMetricsOverride", **device)
        page.open(url)
        page.choose_file("input[type=file]", images / "turned.jpg")
        detect(page)
        wait_for_boxes(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_page_says_that_the_server_has_ended(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "mdetr_model", "play", "--model", model_folder, "--port", "0"]
    with chromium_session(tmp_path) as page:
        with started(command, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            page.open(process.stdout.readline().split()[0])
        page.choose_file("input[type=file]", images / "turned.jpg")
        detect(page)
        page.wait("!document.querySelector('.error').hidden")
        error = page.evaluate("document.querySelector('.error').textContent")
        assert error.startswith("The server does not answer")
