"""The report of ``mdetr-shards stats --html``, as HTML."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from schemas import Caption, Excluded, Provenance, Question, Region, Rejected, Sample
from shards.__main__ import main
from shards.format.source_counts import SourceCounts
from shards.inspection.images import UnreadableImageError, thumbnail
from shards.inspection.rendering import make_visible
from shards.inspection.report.page import render_report
from shards.reading.shard_set import ShardSet
from tests.http_server import serve
from tests.shards.inspection.shard_sets import SampleAndImage, jpeg, write_full_set

HOSTILE = (
    "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'\u202e\x1b[1m\x00"
)
SOURCES = {"vg": SourceCounts(read=40, in_shards=30, merged=2, rejected=3, excluded=5)}


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


def images(n: int, dataset: str = "vg") -> list[SampleAndImage]:
    return [
        (sample(f"{dataset}/{i}", f"cat {i} on a mat", dataset=dataset), jpeg(400, 300))
        for i in range(n)
    ]


class ParsedPage(HTMLParser):
    """The tags, attributes and text of a page."""

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


def report(folder: Path) -> str:
    return render_report(ShardSet.open(folder))


def count_image_tags(page: str) -> int:
    return page.count('<img src="data:image/jpeg;base64,')


def test_report_is_one_self_contained_file(tmp_path: Path) -> None:
    shards = write_full_set(tmp_path / "set", {"train": [images(3)]}, sources=SOURCES)
    path = tmp_path / "report.html"
    for _ in range(2):  # replaces an earlier report
        assert main(["stats", str(shards), "--html", str(path)]) == 0
    page = path.read_text(encoding="utf-8")
    assert {file.name for file in tmp_path.iterdir()} == {"set", "report.html"}
    assert page == report(shards)
    assert "script" not in ParsedPage(page).tags
    assert not re.search(r"https?:|url\(|@import|href=.[^#]", page)
    assert all(
        str(value).startswith("data:")
        for name, value in ParsedPage(page).attributes
        if name == "src"
    )


def test_sections_of_a_report_are_named_for_screen_readers(tmp_path: Path) -> None:
    shards = write_full_set(tmp_path / "set", {"train": [images(3)]}, sources=SOURCES)
    attributes = ParsedPage(report(shards)).attributes
    labels = [value for name, value in attributes if name == "aria-labelledby"]
    assert len(labels) >= 5
    assert set(labels) <= {value for name, value in attributes if name == "id"}


def test_report_lists_exclusions_rejections_and_datasets(tmp_path: Path) -> None:
    shards = write_full_set(
        tmp_path,
        {
            "train": [[*images(9), *images(9, "refcoco")]],
            "val": [images(2)],
            "test": [[]],
        },
        sources=SOURCES | {"coco": SourceCounts(read=9, in_shards=9)},
        recipe={"sources": {"coco": {"refs": {"refcoco": "refs(unc).p"}}, "vg": {}}},
        excluded=[Excluded("train", "vg/1", "coco/1", "lvis_minival", "coco/1", "coco_id", 5)],
        rejected=[Rejected("vg", "7", "no words", "", "vg/7", 3)],
    )
    page = report(shards)
    text = " ".join(ParsedPage(page).text.split())
    assert "40 captions were read: 30 are in the shards, 5 were excluded" in text
    assert text.count("train lvis_minival coco_id 1 5") == 2
    assert text.rindex("train lvis_minival") > text.index("Source vg")
    assert "vg no words 3 1" in text
    assert (
        text.index("Source coco") < text.index("refcoco images captions") < text.index("Source vg")
    )
    assert count_image_tags(page) == 12 + 3 + 3
    assert "no values" in page


def test_set_without_images_is_shown_by_its_boxes(tmp_path: Path) -> None:
    samples: list[SampleAndImage] = [(sample("vg/1", "cat on a mat"), None)]
    page = report(write_full_set(tmp_path, {"train": [samples]}, sources=SOURCES))
    assert count_image_tags(page) == 0
    assert "The set has\nannotations only" in page
    assert 'class="error"' not in page
    assert page.count('class="box"') == 4


def test_report_of_an_empty_set(tmp_path: Path) -> None:
    page = report(write_full_set(tmp_path, {"train": [[]], "val": []}))
    for words in (
        "no counts of sources",
        "No image was excluded",
        "No record was rejected",
        "no captions",
    ):
        assert words in page


def test_unreadable_images_and_captions_are_shown_as_errors(tmp_path: Path) -> None:
    broken = jpeg(400, 300)[:-300]
    samples: list[SampleAndImage] = [
        (sample("vg/1", "cat one"), b"GIF89a of no image"),
        (sample("vg/2", "cat two"), broken),
        (sample("vg/3", "cat three"), jpeg(400, 300)),
        (sample("vg/4", "cat four"), jpeg(400, 300)),
    ]
    shards = write_full_set(tmp_path, {"train": [samples]})
    tar = tmp_path / "train-00000-of-00001.tar"
    tar.write_bytes(tar.read_bytes().replace(b"cat four", b"cat flou"))
    page = report(shards)
    # All are in the gallery; the first and the last two also in the section of the dataset.
    assert page.count("This image cannot be shown") == 2 + 1
    assert page.count("vg/4.json is damaged") == 2
    assert "cat</span> three" in page
    assert count_image_tags(page) == 2


def test_image_with_more_pixels_than_a_build_accepts_is_not_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1000)  # Pillow would warn
    monkeypatch.setattr("shards.inspection.images.MAX_IMAGE_PIXELS", 40 * 30)
    assert thumbnail(jpeg(40, 30))
    monkeypatch.setattr("shards.inspection.images.MAX_IMAGE_PIXELS", 40 * 30 - 1)
    with pytest.raises(UnreadableImageError, match="40x30 pixels are too many"):
        thumbnail(jpeg(40, 30))


@pytest.mark.parametrize("hostile", [HOSTILE, "{{ 7 * 7 }}{% raw %}", "\u2067\u202d" * 3])
def test_text_of_a_set_cannot_become_markup(tmp_path: Path, hostile: str) -> None:
    def parsed_report(folder: str, text: str) -> ParsedPage:
        hostile_sample = sample("vg/1", text, dataset=text)
        hostile_sample.captions[0].question = Question("1", text)
        hostile_sample.captions[0].provenance[0].record = text
        shards = write_full_set(
            tmp_path / folder,
            {"train": [[(hostile_sample, jpeg(40, 30))]]},
            sources={text: SourceCounts(read=2, in_shards=1, rejected=1)},
            rejected=[Rejected(text, text, text)],
            excluded=[Excluded("train", "", "", text, "", text, 1)],
            name=text,
        )
        return ParsedPage(report(shards))

    page = parsed_report("hostile", hostile)
    plain = parsed_report("plain", "a cat on a mat")
    assert page.tags == plain.tags
    assert {name for name, _ in page.attributes} == {name for name, _ in plain.attributes}
    assert not re.search("[\x00\x1b\u202d\u202e\u2067]", page.text)
    assert make_visible(hostile) in page.text


def test_images_are_few_and_always_the_same_ones(tmp_path: Path) -> None:
    shards = write_full_set(tmp_path, {"train": [images(2) for _ in range(40)]})
    page = report(shards)
    assert count_image_tags(page) == 15
    assert report(shards) == page


def test_report_of_a_remote_set_downloads_one_shard(tmp_path: Path) -> None:
    write_full_set(tmp_path / "set", {"train": [images(9) for _ in range(4)]}, sources=SOURCES)
    with serve(tmp_path / "set") as server:
        page = render_report(ShardSet.open(server.url, cache=tmp_path / "cache"))
    assert count_image_tags(page) == 9 + 3
    assert sum(n for name, n in server.requests.items() if name.endswith(".tar")) == 1


def test_unwritable_file_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = write_full_set(tmp_path, {"train": [images(1)]})
    assert main(["stats", str(shards), "--html", str(tmp_path / "no" / "report.html")]) == 1
    assert "No such file" in capsys.readouterr().err
    assert main(["stats", str(shards), "--html", str(tmp_path)]) == 1
    assert "is a folder" in capsys.readouterr().err


def test_report_does_not_replace_other_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = write_full_set(tmp_path / "set", {"train": [images(3)]}, sources=SOURCES)
    path = tmp_path / "thesis.html"
    path.write_text("<html>precious</html>")
    assert main(["stats", str(shards), "--html", str(path)]) == 1
    assert f"{path} exists already and is not a report" in capsys.readouterr().err
    assert path.read_text() == "<html>precious</html>"
