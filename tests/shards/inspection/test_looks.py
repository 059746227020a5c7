"""What the pages look like: colors that can be read, and room on a small screen."""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from schemas import Caption, Provenance, Region, Sample
from shards.format.source_counts import SourceCounts
from shards.inspection.gallery import as_url
from shards.inspection.report import report
from shards.inspection.templates import render
from shards.reading.shard_set import ShardSet
from tests.shards.inspection.browse_server import Server, browse
from tests.shards.inspection.chromium import Chromium
from tests.shards.inspection.whole_sets import jpeg, write_whole_set

LEAST_CONTRAST = 4.5  # of text, WCAG 2.2 AA
PAGES = ["/", "/image/0/0?text=cat"]
PART = Provenance("vg", "1", (0, 1))
DARK_PAPER = (0x17, 0x19, 0x1C)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Long names and texts, and a caption that is not searched for."""
    parts = [Provenance("d" * 50, "r" * 80, (0, 3))]
    captions = [
        Caption("cat" * 80, [Region([(0, 3)], (10.0, 20.0, 110.0, 90.0))], [], parts),
        Caption("a dog", [Region([(2, 5)], (10.0, 20.0, 110.0, 90.0))], [], parts),
    ]
    of = Sample("vg/" + "1" * 60, 400, 300, "", captions)
    folder = tmp_path_factory.mktemp("set")
    write_whole_set(folder, {"train": [[(of, jpeg(400, 300))]]}, name="a-long-name" * 5)
    with browse(folder) as running:
        yield running


def whole(server: Server, path: str) -> str:
    """A page that needs nothing of the server."""
    style = f"<style>{server.page('/style.css')}</style>"
    page = server.page(path).replace("<head>", f"<head>{style}")
    return re.sub('src="/image/[^"]*"', f'src="{as_url(jpeg(400, 300))}"', page)


@pytest.mark.parametrize("path", PAGES)
def test_browse_on_a_small_screen_does_not_scroll_sideways(
    server: Server, path: str, tmp_path: Path
) -> None:
    width, seen = Chromium(tmp_path, 1400).widths(whole(server, path), 390)
    assert width <= seen > 360


@pytest.mark.parametrize("path", PAGES)
def test_browse_is_dark_for_whoever_prefers_that(server: Server, path: str, tmp_path: Path) -> None:
    seen = Chromium(tmp_path, height=900, dark=True).screenshot(
        f"http://127.0.0.1:{server.port}{path}"
    )
    assert seen.getpixel((2, 2)) == DARK_PAPER
    brightest = max(max(pixel) for _, pixel in seen.crop((0, 0, 900, 200)).getcolors(1 << 24) or [])
    assert brightest > 200  # its text


@pytest.mark.parametrize("number", range(7))
def test_numbers_can_be_read_on_their_colors(number: int) -> None:
    style = render("page.css")
    color = re.search(rf"--c{number}: (#\w+);", style)
    on = re.search(rf"\.c{number}\b[^{{}}]*{{ --on: (#\w+); }}", style)
    assert color is not None
    assert on is not None
    assert contrast(color[1], on[1]) >= LEAST_CONTRAST


def test_text_can_be_read_in_both_schemes() -> None:
    light, dark = render("page.css").split("@media (prefers-color-scheme: dark)", 1)
    for scheme, text in product((light, dark), ("ink", "soft", "line")):
        [paper, of] = (re.findall(rf"--{name}: (#\w+);", scheme)[0] for name in ("paper", text))
        assert contrast(paper, of) >= LEAST_CONTRAST


def test_no_text_is_made_faint() -> None:
    faint = re.findall(r"([^{}]*){[^{}]*(?<!-)opacity:[^{}]*}", render("browse.css"))
    assert [selector.strip() for selector in faint] == [".told.other img"]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_long_names_stay_within_the_diagram(tmp_path: Path) -> None:
    of = Sample("vg/1", 40, 30, "", [Caption("a cat", [], [], [PART])])
    split = "a_split_of_a_long_name"
    page = report(
        ShardSet.open(
            write_whole_set(
                tmp_path / "set",
                {split: [[(of, None)]]},
                sources={
                    "a source of a very long name indeed": SourceCounts(read=12_345_678),
                    "日本" * 9: SourceCounts(),
                },
            )
        )
    )
    chromium = Chromium(tmp_path)
    [diagram] = chromium.find(page, "svg.flow")
    for left, _, width, _, _ in chromium.find(page, "svg.flow text"):
        assert diagram[0] <= left
        assert left + width <= diagram[0] + diagram[2]
    assert "<title>a source of a very long name indeed</title>a source of a v…" in page
    assert "count 12,345,678 records in the shards, and the splits have\n1 sentences" in page


def test_what_scrolls_can_be_reached_and_has_a_name(server: Server, tmp_path: Path) -> None:
    of = Sample("vg/1", 40, 30, "", [Caption("a", [Region([], (0, 0, 9, 9))], [], [PART])])
    shards = write_whole_set(tmp_path / "set", {"train": [[(of, None)]]})
    for page in (report(ShardSet.open(shards)), *map(server.page, PAGES)):
        for found in re.findall(r'<div class="scroll"[^>]*>', page):
            assert re.search('tabindex="0" role="region" aria-label="[^"]+"', found)
        assert 'aria-label="1 boxes"' not in page
    assert 'aria-label="1 box"' in report(ShardSet.open(shards))


@pytest.mark.parametrize(("width", "went"), [(900, False), (90, True)])
def test_arrow_keys_scroll_what_can_be_scrolled(
    server: Server, tmp_path: Path, width: int, went: bool
) -> None:
    script = f"""<a rel="next" href="#next">on</a>
    <div class="scroll" style="width: 300px; overflow-x: auto">
    <table tabindex="0" style="width: {width}px"><tr><td>1</table></div>
    <script>{server.page("/keys.js")}
    const event = new KeyboardEvent("keydown", {{key: "ArrowRight", bubbles: true}});
    document.querySelector("td").dispatchEvent(event);
    document.querySelector("a").textContent = "went to " + location.hash;</script>"""
    (tmp_path / "keys.html").write_text(f"<!DOCTYPE html><body>{script}", encoding="utf-8")
    dom = Chromium(tmp_path).dom((tmp_path / "keys.html").as_uri())
    assert f">went to {'#next' if went else ''}</a>" in dom
