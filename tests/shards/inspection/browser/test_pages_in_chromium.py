"""The pages of the browser as Chromium renders them."""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from schemas import Caption, Provenance, Region, Sample
from shards.inspection.images import data_url
from shards.inspection.rendering import render
from tests.shards.inspection.browser.running_server import RunningServer, browse
from tests.shards.inspection.chromium import Chromium
from tests.shards.inspection.shard_sets import jpeg, write_full_set

PAGES = ["/", "/sample/0/0?text=man"]
MIN_CONTRAST = 4.5  # of text, WCAG 2.2 AA
DARK_PAPER = (0x17, 0x19, 0x1C)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A sample with two phrases, then one with long names, and a caption that is not a match."""
    long_name = [Provenance("d" * 50, "r" * 80, (0, 3))]
    box = (10.0, 20.0, 110.0, 90.0)
    regions = [Region([(0, 5)], box), Region([(10, 15)], (200.0, 100.0, 300.0, 280.0))]
    captions = [
        Caption("a man and a dog", regions, [], long_name),
        Caption("cat" * 80, [Region([(0, 3)], box)], [], long_name),
    ]
    sample = Sample("vg/" + "1" * 60, 400, 300, "", captions)
    folder = tmp_path_factory.mktemp("set")
    write_full_set(folder, {"train": [[(sample, jpeg(400, 300))]]}, name="a-long-name" * 5)
    with browse(folder) as running:
        yield running


def self_contained(server: RunningServer, path: str) -> str:
    """Returns a page with its style sheet and image, which the server refuses to other pages."""
    style = f"<style>{server.page('/style.css')}</style>"
    page = server.page(path).replace("<head>", f"<head>{style}")
    return re.sub('src="/image/[^"]*"', f'src="{data_url(jpeg(400, 300))}"', page)


def test_phrases_and_their_boxes_have_the_same_colors(
    server: RunningServer, tmp_path: Path
) -> None:
    chromium = Chromium(tmp_path, height=900)
    path = "/sample/0/0"
    elements = chromium.locate(
        self_contained(server, path), ".caption-row img, .caption-row:first-child .m"
    )
    image, man, dog = elements[:3]
    screenshot = chromium.screenshot(f"http://127.0.0.1:{server.port}{path}")
    scale = image[2] / 400
    colors = []
    for mark, (x0, y0, y1) in ((man, (10, 20, 90)), (dog, (200, 100, 280))):
        edge = (round(image[0] + x0 * scale), round(image[1] + (y0 + y1) / 2 * scale))
        underline = (round(mark[0] + 3), round(mark[1] + mark[3] - 2))
        colors.append(screenshot.getpixel(edge))
        assert screenshot.getpixel(underline) == colors[-1] != (255, 255, 255)
    assert colors[0] != colors[1]


@pytest.mark.parametrize("path", PAGES)
def test_pages_with_long_names_fit_a_small_screen(
    server: RunningServer, path: str, tmp_path: Path
) -> None:
    page = self_contained(server, path)
    content_width, visible_width = Chromium(tmp_path, 1400).widths(page, 390)
    assert content_width <= visible_width > 360


def test_dark_color_scheme(server: RunningServer, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{server.port}/"
    screenshot = Chromium(tmp_path, height=900, dark=True).screenshot(url)
    assert screenshot.getpixel((2, 2)) == DARK_PAPER
    colors = screenshot.crop((0, 0, 900, 200)).getcolors(1 << 24) or []
    assert max(max(color) for _, color in colors) > 200  # of the text


def test_arrow_keys_follow_links_unless_a_table_scrolls(
    server: RunningServer, tmp_path: Path
) -> None:
    page = f"""<!DOCTYPE html><body><a rel="next" href="#next">next</a>
    <div class="scroll" style="width: 300px; overflow-x: auto">
    <table tabindex="0" style="width: 90px"><tr><td>1</table></div><pre></pre>
    <script>{server.page("/keys.js")}
    const press = target => {{
      location.hash = "";
      const event = new KeyboardEvent("keydown", {{key: "ArrowRight", bubbles: true}});
      target.dispatchEvent(event);
      return location.hash;
    }};
    const table = document.querySelector("table");
    const hashes = [press(document.body)];
    for (const width of [90, 900]) {{
      table.style.width = width + "px";
      hashes.push(press(table.querySelector("td")));
    }}
    document.querySelector("pre").textContent = JSON.stringify(hashes);</script>"""
    (tmp_path / "keys.html").write_text(page, encoding="utf-8")
    dom = Chromium(tmp_path).dom((tmp_path / "keys.html").as_uri())
    assert '<pre>["#next","#next",""]</pre>' in dom


def test_text_contrast_meets_wcag_aa() -> None:
    light, dark = render("page.css").split("@media (prefers-color-scheme: dark)", 1)
    for scheme, text in product((light, dark), ("ink", "soft", "line")):
        [paper, color] = (re.findall(rf"--{name}: (#\w+);", scheme)[0] for name in ("paper", text))
        assert contrast(paper, color) >= MIN_CONTRAST
    for number in range(7):  # the numbers of phrases on their colors
        color = re.findall(rf"--c{number}: (#\w+);", light)[0]
        text = re.findall(rf"\.c{number}\b[^{{}}]*{{ --on: (#\w+); }}", dark)[0]
        assert contrast(color, text) >= MIN_CONTRAST


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    red, green, blue = linear
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
