"""The page of ``python -m shards stats --html``, read by a parser and looked at in a browser."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from schemas import Caption, Excluded, Provenance, Question, Region, Rejected, Sample
from shards.__main__ import main
from shards.format.source_counts import SourceCounts
from shards.inspection.gallery import UnreadableImageError, small_jpeg
from shards.inspection.report import report
from shards.inspection.spread import spread
from shards.inspection.templates import visible
from shards.reading.shard_set import ShardSet
from tests.http_server import serve
from tests.shards.inspection.chromium import Chromium
from tests.shards.inspection.whole_sets import Given, jpeg, write_whole_set

HOSTILE = (
    "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'\u202e\x1b[1m\x00"
)
SOURCES = {"vg": SourceCounts(read=40, merged=2, rejected=3, excluded=5)}


def sample(
    key: str, *texts: str, dataset: str = "vg", size: tuple[int, int] = (400, 300)
) -> Sample:
    captions = [
        Caption(
            text,
            [Region([(0, 3)], (10.0, 20.0, 110.0, 90.0)), Region([], (1.0, 2.0, 30.0, 40.0))],
            [],
            [Provenance(dataset, f"record {number}", (0, len(text)))],
        )
        for number, text in enumerate(texts)
    ]
    return Sample(key, *size, f"{key}.jpg", captions)


def several_images(n: int, dataset: str = "vg") -> list[Given]:
    return [
        (sample(f"{dataset}/{i}", f"cat {i} on a mat", dataset=dataset), jpeg(400, 300))
        for i in range(n)
    ]


class Page(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def page_of(folder: Path) -> str:
    return report(ShardSet.open(folder))


def count_image_tags(page: str) -> int:
    return page.count('<img src="data:image/jpeg;base64,')


def test_it_is_written_whole_and_needs_nothing(tmp_path: Path) -> None:
    shards = write_whole_set(tmp_path / "set", {"train": [several_images(3)]}, sources=SOURCES)
    to = tmp_path / "report.html"
    to.write_text("what was there before")
    assert main(["stats", str(shards), "--html", str(to)]) == 0
    page = to.read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"set", "report.html"}
    assert page == page_of(shards)
    assert "script" not in Page(page).tags
    assert not re.search(r"https?:|url\(|@import|href=.[^#]", page)
    assert all(
        str(value).startswith("data:") for name, value in Page(page).attributes if name == "src"
    )


def test_it_says_what_was_left_out_and_shows_every_data_set(tmp_path: Path) -> None:
    shards = write_whole_set(
        tmp_path,
        {
            "train": [[*several_images(9), *several_images(9, "refcoco")]],
            "val": [several_images(2)],
            "test": [[]],
        },
        sources=SOURCES | {"coco": SourceCounts(read=9)},
        recipe={"sources": {"coco": {"refs": {"refcoco": "refs(unc).p"}}, "vg": {}}},
        excluded=[Excluded("train", "vg/1", "coco/1", "lvis_minival", "coco/1", "coco_id", 5)],
        rejected=[Rejected("vg", "7", "no words", "", "vg/7", 3)],
    )
    page = page_of(shards)
    text = " ".join(Page(page).text.split())
    assert "40 records were read: 30 are sentences in the shards, 5 were excluded" in text
    assert text.count("train lvis_minival coco_id 1 5") == 2
    assert text.rindex("train lvis_minival") > text.index("Source vg")
    assert "vg no words 3 1" in text
    assert (
        text.index("Source coco") < text.index("refcoco images captions") < text.index("Source vg")
    )
    assert count_image_tags(page) == 12 + 3 + 3
    assert "nothing to count" in page


def test_a_set_without_images_is_shown_by_its_boxes(tmp_path: Path) -> None:
    given: list[Given] = [(sample("vg/1", "cat on a mat"), None)]
    page = page_of(write_whole_set(tmp_path, {"train": [given]}, sources=SOURCES))
    assert count_image_tags(page) == 0
    assert "The set holds\nannotations alone" in page
    assert 'class="fault"' not in page
    assert page.count('class="box"') == 4


def test_an_empty_set(tmp_path: Path) -> None:
    page = page_of(write_whole_set(tmp_path, {"train": [[]], "val": []}))
    for words in ("no records", "No image was excluded", "No record was rejected", "no captions"):
        assert words in page


def test_what_cannot_be_shown_is_said_in_its_place(tmp_path: Path) -> None:
    broken = jpeg(400, 300)[:-300]
    given: list[Given] = [
        (sample("vg/1", "cat one"), b"GIF89a of no image"),
        (sample("vg/2", "cat two"), broken),
        (sample("vg/3", "cat three"), jpeg(400, 300)),
        (sample("vg/4", "cat four"), jpeg(400, 300)),
    ]
    shards = write_whole_set(tmp_path, {"train": [given]})
    tar = tmp_path / "train-00000-of-00001.tar"
    tar.write_bytes(tar.read_bytes().replace(b"cat four", b"cat flou"))
    page = page_of(shards)
    # All are in the gallery; the first and the last two are those of the data set.
    assert page.count("This image cannot be shown") == 2 + 1
    assert page.count("vg/4.json is damaged") == 2
    assert "cat</span> three" in page
    assert count_image_tags(page) == 2


def test_an_image_of_too_many_pixels_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnreadableImageError, match="exceeds limit of 1000 pixels"):
        small_jpeg(jpeg(40, 30))
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableImageError, match="exceeds limit"):
        small_jpeg(jpeg(40, 30))


@pytest.mark.parametrize("hostile", [HOSTILE, "{{ 7 * 7 }}{% raw %}", "\u2067\u202d" * 3])
def test_text_of_a_set_does_nothing(tmp_path: Path, hostile: str) -> None:
    def made(folder: str, text: str) -> Page:
        of = sample("vg/1", text, dataset=text)
        of.captions[0].question = Question("1", text)
        of.captions[0].provenance[0].record = text
        shards = write_whole_set(
            tmp_path / folder,
            {"train": [[(of, jpeg(40, 30))]]},
            sources={text: SourceCounts(read=2, rejected=1)},
            rejected=[Rejected(text, text, text)],
            excluded=[Excluded("train", "", "", text, "", text, 1)],
            name=text,
        )
        return Page(page_of(shards))

    found, plain = made("hostile", hostile), made("plain", "a cat on a mat")
    assert found.tags == plain.tags
    assert {name for name, _ in found.attributes} == {name for name, _ in plain.attributes}
    assert not re.search("[\x00\x1b\u202d\u202e\u2067]", found.text)
    assert visible(hostile) in found.text


def test_images_are_few_and_always_the_same(tmp_path: Path) -> None:
    shards = write_whole_set(tmp_path, {"train": [several_images(2) for _ in range(40)]})
    page = page_of(shards)
    assert count_image_tags(page) == 15
    assert spread(range(100), 4) == [12, 37, 62, 87]
    assert page_of(shards) == page


def test_a_remote_set(tmp_path: Path) -> None:
    write_whole_set(
        tmp_path / "set", {"train": [several_images(9) for _ in range(4)]}, sources=SOURCES
    )
    with serve(tmp_path / "set") as server:
        page = report(ShardSet.open(server.url, cache=tmp_path / "cache"))
    assert count_image_tags(page) == 9 + 3
    assert sum(n for name, n in server.requests.items() if name.endswith(".tar")) == 1


@pytest.mark.parametrize("how", [["--json"], ["--compare", "other"]])
def test_one_way_to_show_at_a_time(how: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["stats", "set", "--html", "report.html", *how])
    assert "not allowed with" in capsys.readouterr().err


def test_a_file_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = write_whole_set(tmp_path, {"train": [several_images(1)]})
    assert main(["stats", str(shards), "--html", str(tmp_path / "no" / "report.html")]) == 2
    assert "No such file" in capsys.readouterr().err
    assert main(["stats", str(shards), "--html", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def nested() -> Sample:
    """A white image, with words in words."""
    text = "the man in a red hat and a dog"
    regions = [
        Region([(0, 20)], (100.0, 60.0, 180.0, 270.0)),
        Region([(11, 20)], (110.0, 70.0, 170.0, 110.0)),
        Region([(25, 30)], (250.0, 200.0, 370.0, 280.0)),
        Region([], (20.0, 150.0, 60.0, 280.0)),
    ]
    return Sample(
        "vg/1", 400, 300, "1.jpg", [Caption(text, regions, [], [Provenance("vg", "1", (0, 30))])]
    )


def test_a_browser_shows_words_and_boxes_in_the_same_colors(tmp_path: Path) -> None:
    chromium = Chromium(tmp_path)
    shards = write_whole_set(tmp_path / "set", {"train": [[(nested(), jpeg(400, 300))]]})
    page = page_of(shards)
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    seen = chromium.screenshot((tmp_path / "report.html").as_uri())

    [image] = chromium.find(page, ".opening img")
    boxes = chromium.find(page, ".opening .box")
    scale = image[2] / 400
    color_of = {}
    for (left, top, width, height, _), region in zip(
        boxes, sorted(nested().captions[0].regions, key=_minus_area), strict=True
    ):
        x0, y0, x1, _ = region.box
        where = (image[0] + x0 * scale, image[1] + y0 * scale, (x1 - x0) * scale)
        assert (left, top, width) == pytest.approx(where, abs=1.5)
        middle = round(top + height / 2)
        color_of[tuple(region.spans)] = seen.getpixel((round(left), middle))
        assert near(seen.getpixel((round(left + 8), middle)), (255, 255, 255))
    assert len(set(color_of.values())) == 4

    man, hat, dog = ((0, 20),), ((11, 20),), ((25, 30),)
    marks = chromium.find(page, ".opening .m")
    named = [man, man, hat, dog]  # of the pieces "the man in", "a red hat" twice, and "a dog"
    for (left, top, _, height, classes), spans in zip(marks, named, strict=True):
        line = seen.getpixel((round(left + 3), round(top + height - 2)))
        assert near(line, color_of[spans])
        if "innermost" in classes:
            tinted = seen.getpixel((round(left + 1), round(top + 4)))
            assert not near(tinted, (252, 252, 250))
    assert marks[1][1] + marks[1][3] > marks[2][1] + marks[2][3]  # the line of more words is lower


def _minus_area(region: Region) -> float:
    x0, y0, x1, y1 = region.box
    return -(x1 - x0) * (y1 - y0)


def near(one: object, other: object, most: int = 6) -> bool:
    assert isinstance(one, tuple)
    assert isinstance(other, tuple)
    return all(abs(a - b) <= most for a, b in zip(one, other, strict=True))


def test_a_browser_asks_for_nothing_else(tmp_path: Path) -> None:
    chromium = Chromium(tmp_path)
    hostile = sample("vg/1", HOSTILE + "<iframe src='/frame'>", dataset=HOSTILE)
    write_whole_set(tmp_path / "set", {"train": [[(hostile, jpeg(40, 30)), *several_images(2)]]})
    (tmp_path / "set" / "report.html").write_text(page_of(tmp_path / "set"), encoding="utf-8")
    with serve(tmp_path / "set") as server:
        dom = chromium.dom(f"{server.url}/report.html")
    assert "<figure>" in dom
    assert set(server.requests) <= {"report.html", "favicon.ico"}
    assert len(chromium.find(dom, "script")) == 1  # that which looks


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_has_no_need_to_scroll_sideways(tmp_path: Path, width: int) -> None:
    long = sample("vg/" + "1" * 60, "cat" * 80, dataset="d" * 50)
    shards = write_whole_set(
        tmp_path / "set",
        {
            "train": [[(long, jpeg(400, 300)), *several_images(6)]],
            "val": [several_images(1)],
            "test": [[]],
        },
        sources=SOURCES,
        excluded=[Excluded("train", "", "", "a set of a long name", "", "flickr photo id", 1)],
        name="a-very-long-name" * 5,
    )
    whole, seen = Chromium(tmp_path, 1400).widths(page_of(shards), width)
    assert whole <= seen > width - 30
