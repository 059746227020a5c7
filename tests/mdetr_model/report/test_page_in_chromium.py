"""The page about a trained model as Chromium renders it."""

from pathlib import Path

import pytest

from mdetr_model.__main__ import main
from schemas import Box, Caption, Phrase
from tests.http_server import serve
from tests.mdetr_model.report import evaluations
from tests.mdetr_model.report.evaluations import (
    OBJECTS,
    WIDTH,
    caption,
    image,
    nothing,
    write_files,
)
from tests.shards.inspection.chromium import Chromium, Element


def write_page(paths: evaluations.Paths) -> str:
    assert main(paths.arguments()) == 0
    return paths.page.read_text(encoding="utf-8")


def assert_box(outline: Element, frame: Element, box: Box) -> None:
    """Checks that an outline is where a box of the image is."""
    scale = frame[2] / WIDTH
    expected = (frame[0] + box[0] * scale, frame[1] + box[1] * scale)
    assert outline[:2] == pytest.approx(expected, abs=1.5)
    assert outline[2] == pytest.approx((box[2] - box[0]) * scale, abs=1.5)


def test_annotated_and_predicted_boxes_are_side_by_side(tmp_path: Path) -> None:
    moved: Box = (200.0, 200.0, 300.0, 300.0)

    def predict(text: Caption, phrase: Phrase) -> Box:
        return moved if "star" in text.text else OBJECTS["red circle"]

    samples = [
        image(1, caption("the blue star", "blue star"), caption("x red circle", "red circle"))
    ]
    page = write_page(write_files(tmp_path, samples, predict))
    chromium = Chromium(tmp_path)
    annotated_frame, predicted_frame = chromium.locate(page, ".figures img")
    annotated, predicted = chromium.locate(page, ".figures .box")
    assert annotated_frame[1] == predicted_frame[1]
    assert annotated_frame[0] + annotated_frame[2] < predicted_frame[0]
    assert_box(annotated, annotated_frame, OBJECTS["blue star"])
    assert_box(predicted, predicted_frame, moved)


def test_predicted_box_of_a_changed_word_has_the_color_of_the_word(tmp_path: Path) -> None:
    samples = [image(1, caption("red circle", "red circle"), caption("blue circle", "blue circle"))]
    paths = write_files(tmp_path, samples, lambda _, __: (100.0, 150.0, 180.0, 290.0))
    page = write_page(paths)
    chromium = Chromium(tmp_path)
    screenshot = chromium.screenshot(paths.page.as_uri())
    frames = chromium.locate(page, ".change img")
    outlines = chromium.locate(page, ".change .box")
    words = chromium.locate(page, ".change .m")
    assert (len(frames), len(outlines), len(words)) == (2, 4, 2)
    colors = []
    for number, name in enumerate(["red circle", "blue circle"]):
        annotated, predicted = outlines[2 * number : 2 * number + 2]
        assert_box(annotated, frames[number], OBJECTS[name])
        assert_box(predicted, frames[number], (100.0, 150.0, 180.0, 290.0))
        left, top, _, height, _ = predicted
        color = screenshot.getpixel((int(left), round(top + height / 2)))  # within the line
        word = words[number]
        underline = screenshot.getpixel((round(word[0] + 3), round(word[1] + word[3] - 2)))
        assert isinstance(color, tuple)
        assert isinstance(underline, tuple)
        assert all(abs(a - b) <= 6 for a, b in zip(color, underline, strict=True))
        colors.append(color)
    assert colors[0] != colors[1]


def test_bars_are_proportional_to_recall(tmp_path: Path) -> None:
    page = write_page(write_files(tmp_path, evaluations.images(1)))
    track, model, _, baseline, *_ = Chromium(tmp_path).locate(page, ".headline rect")
    assert model[2] == pytest.approx(track[2])
    assert baseline[2] == pytest.approx(track[2] / 4, abs=0.5)


def test_page_requests_nothing_from_a_server(tmp_path: Path) -> None:
    hostile = "</p><script>alert(1)</script><img src=x onerror=alert(1)><iframe src='/frame'>"
    paths = write_files(tmp_path, [image(1, caption(f"{hostile} red circle", "red circle"))])
    write_page(paths)
    with serve(tmp_path) as server:
        dom = Chromium(tmp_path).dom(f"{server.url}/index.html")
    assert dom.count("<figure") == 1
    assert "<script" not in dom
    assert set(server.requests) <= {"index.html", "favicon.ico"}


@pytest.mark.parametrize("width", [360, 1280])
def test_page_fits_the_window(tmp_path: Path, width: int) -> None:
    long = caption("red" * 90 + " red circle", "red circle")
    other = caption("red" * 90 + " blue circle", "blue circle")
    page = write_page(
        write_files(tmp_path, [image(10**40, long, other), *evaluations.images(6)], nothing)
    )
    content_width, visible_width = Chromium(tmp_path, 1400).widths(page, width)
    assert content_width <= visible_width > width - 30
