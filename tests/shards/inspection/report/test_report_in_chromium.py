"""The report as Chromium renders it."""

from pathlib import Path

import pytest

from schemas import Box, Caption, Excluded, Provenance, Region, Sample
from shards.format.source_counts import SourceCounts
from shards.inspection.report.page import render_report
from shards.reading.shard_set import ShardSet
from tests.http_server import serve
from tests.shards.inspection.chromium import Chromium
from tests.shards.inspection.shard_sets import SampleAndImage, jpeg, write_full_set

PAPER = (252, 252, 250)


def captioned(key: str, text: str, regions: list[Region], dataset: str = "vg") -> SampleAndImage:
    caption = Caption(text, regions, [], [Provenance(dataset, "1", (0, len(text)))])
    return Sample(key, 400, 300, f"{key}.jpg", [caption]), jpeg(400, 300)


def test_phrases_and_their_boxes_have_the_same_colors(tmp_path: Path) -> None:
    """On a white image, with nested phrases and a box without a phrase."""
    man, hat, dog = (0, 20), (11, 20), (25, 30)
    boxes: dict[tuple[int, int] | None, Box] = {
        man: (100.0, 60.0, 180.0, 270.0),
        dog: (250.0, 200.0, 370.0, 280.0),
        None: (20.0, 150.0, 60.0, 280.0),
        hat: (110.0, 70.0, 170.0, 110.0),
    }
    regions = [Region([] if span is None else [span], box) for span, box in boxes.items()]
    image = captioned("vg/1", "the man in a red hat and a dog", regions)
    page = render_report(ShardSet.open(write_full_set(tmp_path / "set", {"train": [[image]]})))
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    chromium = Chromium(tmp_path)
    screenshot = chromium.screenshot((tmp_path / "report.html").as_uri())
    elements = chromium.locate(page, ".opening img, .opening .box, .opening .m")
    [rendered_image] = [e for e in elements if e[4] is None]
    outlines = [e for e in elements if e[4] == "box"]
    marks = [e for e in elements if e[4] not in (None, "box")]

    scale = rendered_image[2] / 400
    color_of = {}
    # Boxes are drawn from the largest to the smallest, as in the dictionary.
    for (left, top, width, height, _), (span, box) in zip(outlines, boxes.items(), strict=True):
        expected = (rendered_image[0] + box[0] * scale, rendered_image[1] + box[1] * scale)
        assert (left, top) == pytest.approx(expected, abs=1.5)
        assert width == pytest.approx((box[2] - box[0]) * scale, abs=1.5)
        middle = round(top + height / 2)
        color_of[span] = screenshot.getpixel((round(left), middle))
        assert is_near(screenshot.getpixel((round(left + 8), middle)), (255, 255, 255))
    assert len(set(color_of.values())) == 4

    # The segments are "the man in" and "a red hat" of the man, "a red hat" of the hat, "a dog".
    for (left, top, _, height, classes), span in zip(marks, [man, man, hat, dog], strict=True):
        underline = screenshot.getpixel((round(left + 3), round(top + height - 2)))
        assert is_near(underline, color_of[span])
        if "innermost" in classes:
            background = screenshot.getpixel((round(left + 1), round(top + 4)))
            assert not is_near(background, PAPER)
    bottoms = [top + height for _, top, _, height, _ in marks]
    assert bottoms[1] > bottoms[2]  # the longer phrase has the lower underline


def is_near(color: object, other: object, tolerance: int = 6) -> bool:
    assert isinstance(color, tuple)
    assert isinstance(other, tuple)
    return all(abs(a - b) <= tolerance for a, b in zip(color, other, strict=True))


def test_report_requests_nothing_from_a_server(tmp_path: Path) -> None:
    hostile = "</p><script>alert(1)</script><img src=x onerror=alert(1)><iframe src='/frame'>"
    images = [
        captioned("vg/1", hostile, [Region([(0, 3)], (0.0, 0.0, 9.0, 9.0))], dataset=hostile),
        captioned("vg/2", "a cat", []),
    ]
    folder = write_full_set(tmp_path / "set", {"train": [images]})
    (folder / "report.html").write_text(render_report(ShardSet.open(folder)), encoding="utf-8")
    with serve(folder) as server:
        dom = Chromium(tmp_path).dom(f"{server.url}/report.html")
    assert "<figure>" in dom
    assert "<script" not in dom
    assert set(server.requests) <= {"report.html", "favicon.ico"}


@pytest.mark.parametrize("width", [390, 1280])
def test_report_with_long_names_fits_the_window(tmp_path: Path, width: int) -> None:
    long_names = captioned("vg/" + "1" * 60, "cat" * 80, [], dataset="d" * 50)
    shards = write_full_set(
        tmp_path / "set",
        {
            "train": [[long_names, *(captioned(f"vg/{i}", "a cat", []) for i in range(6))]],
            "val": [[captioned("vg/9", "a cat", [])]],
            "test": [[]],
        },
        sources={"vg": SourceCounts(read=40, in_shards=30, merged=2, rejected=3, excluded=5)},
        excluded=[Excluded("train", "", "", "an_eval_set_of_a_long_name", "", "photo_id", 1)],
        name="a-very-long-name" * 5,
    )
    page = render_report(ShardSet.open(shards))
    content_width, visible_width = Chromium(tmp_path, 1400).widths(page, width)
    assert content_width <= visible_width > width - 30


def test_long_names_stay_within_the_flow_diagram(tmp_path: Path) -> None:
    shards = write_full_set(
        tmp_path / "set",
        {"a_split_of_a_long_name": [[captioned("vg/1", "a cat", [])]]},
        sources={
            "a source of a very long name indeed": SourceCounts(
                read=12_345_678, in_shards=12_345_678
            ),
            "日本" * 9: SourceCounts(),
        },
    )
    page = render_report(ShardSet.open(shards))
    diagram, *texts = Chromium(tmp_path).locate(page, "svg.flow, svg.flow text")
    assert len(texts) > 10
    for left, _, width, _, _ in texts:
        assert diagram[0] <= left
        assert left + width <= diagram[0] + diagram[2]
    assert "<title>a source of a very long name indeed</title>a source of a v…" in page
    assert "count 12,345,678 captions in the shards, and the splits have\n1 sentences" in page
