"""The numbers of ``mdetr-shards stats`` are those of the samples and tables of a set."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from schemas import AbsentSpan, Caption, Provenance, Rejected, Sample
from shards.__main__ import main
from shards.format import manifest as mf
from shards.format.source_counts import Counts, SourceCounts
from shards.inspection.browser.pages import BrowserPages
from shards.inspection.browser.search import parse_query
from shards.inspection.report.page import render_report
from shards.inspection.summary import comparison_table, summarize, summary_table
from shards.reading.reader import ShardReader
from shards.reading.shard_set import ShardSet
from shards.reading.tables import read_tables
from tests.shards.inspection.shard_sets import jpeg, write_full_set


def test_counts_are_those_of_samples_and_tables(
    demo_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", str(demo_set), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    reader = ShardReader(ShardSet.open(demo_set))
    for name, split in summary["splits"].items():
        samples = [stored.sample for stored in reader.samples(name)]
        captions = [caption for sample in samples for caption in sample.captions]
        regions = [region for caption in captions for region in caption.regions]
        assert (split["images"], split["captions"], split["regions"]) == (
            len(samples),
            len(captions),
            len(regions),
        )
        assert sum(data["regions"] for data in split["datasets"].values()) == len(regions)
        assert split["words_per_caption"] == pytest.approx(
            sum(len(caption.text.split()) for caption in captions) / len(captions)
        )
        shares = [
            (region.box[2] - region.box[0])
            * (region.box[3] - region.box[1])
            / (sample.width * sample.height)
            for sample in samples
            for caption in sample.captions
            for region in caption.regions
        ]
        assert split["box_area"] == pytest.approx(sum(shares) / len(shares), abs=1e-7)
        vg = {p.record for c in captions for p in c.provenance if p.dataset == "vg"}
        assert split["datasets"].get("vg", {"sentences": 0})["sentences"] == len(vg)
    excluded = [
        row for row in pq.read_table(demo_set / "excluded.parquet").to_pylist() if row["excluded"]
    ]
    assert sum(row["images"] for row in summary["excluded"]) == len(excluded) > 0
    assert sum(row["captions"] for row in summary["excluded"]) == sum(
        r["captions"] for r in excluded
    )
    rejected = pq.read_table(demo_set / "rejected.parquet").to_pylist()
    assert sum(row["errors"] for row in summary["rejected"]) == len(rejected) > 0
    assert summary["bytes"] == sum(
        path.stat().st_size for path in demo_set.iterdir() if path.name != "manifest.json"
    )


def test_table_lists_splits_exclusions_and_reasons(
    demo_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", str(demo_set)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["train", "val", "test"]
    assert any(line.startswith("train, flickr30k, flickr photo id") for line in lines)
    for row in pq.read_table(demo_set / "rejected.parquet").to_pylist():
        assert any(line.startswith(f"{row['source']}: {row['reason']} ") for line in lines)
    assert max(map(len, lines)) <= 100


def test_compare_shows_two_sets_side_by_side(
    demo_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", str(demo_set), "--compare", str(demo_set)]) == 0
    lines = capsys.readouterr().out.splitlines()
    images = [line.split() for line in lines if line.startswith("images")]
    assert len(images) == 3
    assert all(first == second != "-" for _, first, second in images)


def test_stats_reads_no_shard(
    demo_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in demo_set.iterdir():
        if path.suffix != ".tar":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert main(["stats", str(tmp_path)]) == 0
    whole = capsys.readouterr().out
    assert main(["stats", str(demo_set)]) == 0
    assert capsys.readouterr().out == whole


@pytest.mark.parametrize("missing", ["manifest.json", "stats.json", "excluded.parquet"])
def test_missing_file_is_named(
    missing: str, demo_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in demo_set.iterdir():
        if path.suffix != ".tar" and path.name != missing:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert main(["stats", str(tmp_path)]) == 1
    assert missing in capsys.readouterr().err


@pytest.mark.parametrize("damaged", ["stats.json", "excluded.parquet", "rejected.parquet"])
def test_damaged_table_is_named(
    damaged: str, demo_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in demo_set.iterdir():
        if path.suffix != ".tar":
            content = path.read_bytes()
            if path.name == damaged:
                content = b"?" * len(content)
            (tmp_path / path.name).write_bytes(content)
    assert main(["stats", str(tmp_path)]) == 1
    assert f"{damaged} is damaged" in capsys.readouterr().err


def write_set_with_stats(demo_set: Path, folder: Path, stats: dict[str, Any]) -> Path:
    """Writes a set like another one, without its shards and with other stats."""
    for path in demo_set.iterdir():
        if path.suffix != ".tar":
            (folder / path.name).write_bytes(path.read_bytes())
    content = json.dumps(stats).encode()
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["files"]:
        if entry["file"] == "stats.json":
            entry["bytes"] = len(content)
    (folder / "stats.json").write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_stats_of_an_earlier_version_are_refused(
    demo_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stats = json.loads((demo_set / "stats.json").read_text())
    for split in stats.values():
        del split["box_area_percent"]["total"]
    shards = write_set_with_stats(demo_set, tmp_path, stats)
    assert main(["stats", str(shards)]) == 1
    assert "of an earlier version" in capsys.readouterr().err


@pytest.mark.parametrize(
    "impossible",
    [
        {"width": 0},
        {"bins": {"5000000000000000": 1}},
        {"bins": {"-10": 1}},
        {"bins": {"0": 0}},
        {"total": 10**400},
    ],
    ids=str,
)
@pytest.mark.parametrize("options", [[], ["--html"]])
def test_impossible_stats_are_refused(
    impossible: dict[str, Any],
    options: list[str],
    demo_set: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stats = json.loads((demo_set / "stats.json").read_text())
    stats["val"]["caption_characters"] |= impossible
    folder = write_set_with_stats(demo_set, tmp_path, stats)
    page = [str(tmp_path / "report.html")] if options else []
    assert main(["stats", str(folder), *options, *page]) == 1
    assert "stats.json is of an earlier version, or damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "recipe",
    [
        {"rules": [1], "sources": ["vg"]},
        {"rules": {"max_length": "many"}, "sources": {"vg": 7, "coco": {"refs": ["refcoco"]}}},
        {"rules": {"max_length": 10**30}, "sources": {"vg": {}}},
        {"rules": {"max_length": 0}},
    ],
    ids=str,
)
def test_recipe_of_another_form_is_ignored(recipe: dict[str, Any], tmp_path: Path) -> None:
    sample = Sample("vg/1", 4, 3, "", [Caption("a cat", [], [], [Provenance("vg", "1", (0, 5))])])
    shards = write_full_set(tmp_path, {"train": [[(sample, jpeg(4, 3))]]}, recipe=recipe)
    opened = ShardSet.open(shards)
    summary = summarize(opened.manifest, read_tables(opened))
    assert summary.splits["train"].length_ratio is None
    assert main(["stats", str(shards), "--html", str(tmp_path / "report.html")]) == 0
    pages = BrowserPages(ShardSet.open(shards), None)
    assert "a cat" in pages.list_page(parse_query("", "train"))


@pytest.mark.parametrize("options", [[], ["--json"], ["--compare"]])
def test_control_characters_in_names_are_escaped(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b[2Ja\u202eb\x9bc\n"
    sample = Sample(
        "vg/1", 4, 3, "", [Caption("a cat", [], [], [Provenance(hostile, "1", (0, 5))])]
    )
    shards = write_full_set(
        tmp_path,
        {"train": [[(sample, None)]]},
        sources={hostile: SourceCounts(read=1)},
        rejected=[Rejected(hostile, hostile, hostile)],
        name=hostile,
    )
    other = [str(shards)] if options == ["--compare"] else []
    assert main(["stats", str(shards), *options, *other]) == 0
    out = capsys.readouterr().out
    assert not re.search("[\x1b\x9b\u202e]", out)
    assert "\\x1b[2Ja\\u202eb\\x9bc\\n" in out or json.loads(out)["name"] == hostile


def test_file_is_not_a_shard_set(demo_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(demo_set / "manifest.json")]) == 1
    assert "is not a shard set" in capsys.readouterr().err


def test_missing_values_are_dashes(demo_set: Path) -> None:
    shards = ShardSet.open(demo_set)
    summary = summarize(shards.manifest, read_tables(shards))
    train = summary.splits["train"]
    only_train = msgspec.structs.replace(summary, splits={"train": train})
    lines = comparison_table(summary, only_train).splitlines()
    images = [line.split() for line in lines if line.startswith("images")]
    assert [line[2] for line in images][1:] == ["-", "-"]
    without_boxes = msgspec.structs.replace(train, box_area=None)
    table = summary_table(
        msgspec.structs.replace(summary, splits={"train": without_boxes}, excluded=[], rejected=[])
    )
    assert re.search("^box area / image area +-$", table, re.MULTILINE)
    assert table.splitlines().count("none") == 2


def test_absent_phrases_are_in_the_summary_the_report_and_the_browser(tmp_path: Path) -> None:
    """By strength and reason, with what became of those that each source states."""
    caption = Caption(
        "a cat. <b>kite. sun",
        [],
        [],
        [Provenance("vg", "1", (0, 5))],
        absent=[
            AbsentSpan((7, 14), "gqa", "0042", "answered no", "proven"),
            AbsentSpan((16, 19), "vocabulary", "", "drawn", "unproven"),
        ],
    )
    sample = Sample("vg/1", 20, 10, "1.jpg", [caption])
    folder = write_full_set(tmp_path, {"train": [[(sample, jpeg(20, 10))]], "val": [[]]})
    manifest = mf.load(folder)
    manifest.absent = {"gqa": Counts(read=7, in_shards=1, rejected=6)}
    (folder / mf.NAME).write_bytes(mf.encode(manifest))
    shards = ShardSet.open(folder)
    text = summary_table(summarize(shards.manifest, read_tables(shards)))
    lines = [line.split() for line in text.splitlines()]
    assert ["proven:", "answered", "no", "1", "0"] in lines
    assert ["unproven:", "drawn", "1", "0"] in lines
    assert ["gqa", "7", "1", "0", "6", "0", "0"] in lines
    report = render_report(shards)
    assert "proven: answered no" in report and "unproven: drawn" in report
    page = BrowserPages(shards, "train").sample_page(0, 0, parse_query("", "train"))
    assert "&lt;b&gt;kite" in page and "<b>kite" not in page
    assert "proven: answered no" in page and "0042" in page
