"""Pages show the licenses and the addresses of images, and links to the web only."""

from html import unescape
from pathlib import Path

from shards.inspection.browser.pages import BrowserPages
from shards.inspection.browser.search import parse_query
from shards.inspection.report.page import render_report
from shards.reading.shard_set import ShardSet
from tests.shards.verification.set_data import SetData

QUERY = parse_query("", "train")


def test_sample_page_shows_license_and_address(small_set: Path) -> None:
    shards = ShardSet.open(small_set)
    pages, licenses = BrowserPages(shards, "train"), shards.manifest.licenses
    shown: set[int] = set()
    for number, row in enumerate(shards.index_rows(0)):
        page = unescape(pages.sample_page(0, number, QUERY))
        [id_] = row.licenses
        shown.add(id_)
        link = f'<a href="{licenses[id_].url}" rel="noreferrer">{licenses[id_].name}</a>'
        assert (link in page) == (id_ > 0)
        assert (">unknown<" in page) == (id_ == 0)
        assert (f'<a href="{row.url}" rel="noreferrer">{row.url}</a>' in page) == bool(row.url)
    assert len(shown) > 1


def test_report_shows_licenses_and_terms(small_set: Path) -> None:
    shards = ShardSet.open(small_set)
    page = unescape(render_report(shards))
    for entry in shards.manifest.licenses:
        assert entry.name in page
        assert f"<td>{entry.images:,}</td>" in page
    assert page.count('<td class="text">synthetic dataset</td>') == len(shards.manifest.terms)


def test_neither_scripts_nor_unknown_ids_break_a_page(small_set: Path, tmp_path: Path) -> None:
    data = SetData(small_set)
    script = "javascript:alert(1)"
    data.manifest["licenses"][1] |= {"url": script, "name": "<b>"}
    for image in data.images():
        image.facts |= {"url": script, "licenses": [1, 99]}
    data.write(tmp_path)
    shards = ShardSet.open(tmp_path)
    page = BrowserPages(shards, "train").sample_page(0, 0, QUERY)
    for content in (page, render_report(shards)):
        assert script not in content
        assert "&lt;b&gt;" in content
    assert "99, which the manifest does not list" in page
