"""The page about a trained model, as HTML."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mdetr_model.__main__ import main
from schemas import Box, Caption, Phrase
from tests.mdetr_model.report import evaluations
from tests.mdetr_model.report.evaluations import ELSEWHERE, caption, image, nothing, write_files

HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'\u202e\x1b[1m"


class Text(HTMLParser):
    """The tags of a page, the addresses that it refers to, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self._words: list[str] = []
        self.feed(page)
        self.text = " ".join("".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [str(v) for name, v in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self._words.append(data)


def write_page(paths: evaluations.Paths) -> str:
    assert main(paths.arguments()) == 0
    return paths.page.read_text(encoding="utf-8")


def test_page_is_one_self_contained_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_files(tmp_path, evaluations.images(15))
    page = Text(write_page(paths))
    assert capsys.readouterr().out.splitlines()[-1] == f"page              {paths.page}"
    assert {path.name for path in tmp_path.iterdir()} == {
        "run",
        "shards",
        "evaluation",
        "index.html",
    }
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert {address[:5] for address in page.addresses if address[0] != "#"} == {"data:"}
    assert not re.search(r"https?:|url\(|@import", paths.page.read_text())
    write_page(paths)  # replaces the page


def test_page_states_the_figures_of_the_evaluation(tmp_path: Path) -> None:
    def predict(text: Caption, phrase: Phrase) -> Box:
        return ELSEWHERE if text.text == "blue circle" else phrase.boxes[0]

    page = Text(write_page(write_files(tmp_path, evaluations.images(15), predict)))
    assert "This model has learned" in page.text
    assert "240 samples in 2.0 minutes" in page.text
    assert "60 phrases in 15 images of val" in page.text
    assert "this model0.750" in page.text
    assert "12 images, evenly spaced over val" in page.text
    assert page.text.count("2 of 2 right") == 12
    assert "In val, 15 pairs of captions of one image differ" in page.text
    assert "right in 0 of them (0.0 %)" in page.text
    assert page.text.count("red circle right") == page.text.count("blue circle wrong") == 6
    assert "captions per image3.003.00" in page.text


def test_page_warns_of_a_model_that_has_not_learned(tmp_path: Path) -> None:
    page = Text(write_page(write_files(tmp_path, evaluations.images(2), nothing)))
    assert "This model has not learned" in page.text
    assert "Its recall@1 is 0.000; a random object has 0.250" in page.text
    assert "0 of 2 right" in page.text


def test_captions_and_names_cannot_inject_markup(tmp_path: Path) -> None:
    text = f"{HOSTILE} red circle"
    named = caption(text, "red circle")
    named.phrases = [Phrase(named.regions[0].spans, "1", [HOSTILE], [named.regions[0].box])]
    other = caption(f"{HOSTILE} blue circle", "blue circle")
    page = Text(write_page(write_files(tmp_path, [image(1, named, other)])))
    assert not page.tags & {"script", "iframe"}
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert page.text.count("<script>alert(1)</script>") >= 4
    assert "\u202e" not in page.text
    assert "\x1b" not in page.text


def test_set_without_pairs_and_run_without_validations(tmp_path: Path) -> None:
    paths = write_files(tmp_path, [image(1, caption("red circle", "red circle"))])
    log = paths.training / "log.jsonl"
    lines = [line for line in log.read_text().splitlines(keepends=True) if "validation" not in line]
    log.write_text("".join(lines))
    page = Text(write_page(paths))
    assert "No two captions of an image of val differ in exactly one word" in page.text
    assert "The run has no validation of recall@1." in page.text


def test_file_that_is_no_such_page_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_files(tmp_path, evaluations.images(1))
    paths.page.write_text("somebody's")
    assert main(paths.arguments()) == 1
    assert "exists already and is not a report" in capsys.readouterr().err
    assert paths.page.read_text() == "somebody's"


@pytest.mark.parametrize("missing", ["training", "shards", "evaluation"])
def test_missing_folder_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    paths = write_files(tmp_path, evaluations.images(1))
    getattr(paths, missing).rename(tmp_path / "elsewhere")
    assert main(paths.arguments()) == 1
    assert str(getattr(paths, missing)) in capsys.readouterr().err
    assert not paths.page.exists()
