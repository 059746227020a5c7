"""The card of the export for Hugging Face ``datasets`` states what the manifest states."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from shards.__main__ import main
from shards.export.dataset_card import SplitCounts, dataset_card
from shards.export.job import ExportJob
from shards.format import manifest as mf
from shards.format.licenses import LicenseEntry
from shards.format.manifest import Terms
from shards.reading.shard_set import ShardSet

Table = list[list[str]]


def tables(card: str, heading: str) -> Iterator[Table]:
    """Yields the tables below a heading, without the names of their columns."""
    section = card.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    for lines in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE):
        rows = [line.strip("|").split("|") for line in lines.replace("\\|", "/").splitlines()]
        yield [[value.strip().replace("\\", "") for value in row] for row in rows[2:]]


@pytest.fixture(scope="module")
def card(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("hugging_face") / "out"
    assert main(["export", "hf", str(demo_set), "--output", str(folder)]) == 0
    return (folder / "README.md").read_text()


def test_card_counts_splits_with_their_roles(card: str, demo_set: Path) -> None:
    manifest = mf.load(demo_set)
    [rows] = tables(card, "Splits")
    assert sorted(rows) == sorted(
        [
            name,
            "trained on" if manifest.roles[name] == "train" else "evaluated on",
            str(sum(entry.split == name and entry.captions > 0 for entry in manifest.shards)),
            *(f"{totals[count]:,}" for count in ("images", "captions", "regions")),
        ]
        for name, totals in manifest.totals.items()
    )


def test_card_states_sources_licenses_and_exclusions(card: str, demo_set: Path) -> None:
    manifest = mf.load(demo_set)
    counts, terms = tables(card, "Sources")
    assert [(row[0], row[1], row[2]) for row in counts] == [
        (f"{name}: {noun}", f"{each.read:,}", f"{each.in_shards:,}")
        for name, source in manifest.sources.items()
        for noun, each in (("captions", source), ("boxes", source.boxes))
    ]
    assert [row[0] for row in terms] == list(manifest.terms)
    [licenses] = tables(card, "Licenses of images")
    assert licenses == [
        [f"[{e.name}]({e.url})" if e.url else e.name, f"{e.images:,}", ", ".join(e.stated_by)]
        for e in manifest.licenses
    ]
    [excluded] = tables(card, "Excluded")
    assert {(row[0], row[2], row[3], row[4]) for row in excluded if row[2]} == {
        (name, join, f"{of_join.images:,}", f"{of_join.captions:,}")
        for name, exclusion in manifest.exclusions.items()
        for join, of_join in exclusion.excluded.items()
    }
    assert {row[0] for row in excluded} == set(manifest.exclusions)
    front_matter = yaml.safe_load(card.split("---\n")[1])
    assert front_matter["license"] == "unknown"  # of the synthetic dataset


def test_card_names_the_license_and_the_citation_of_published_datasets(demo_set: Path) -> None:
    shards = ShardSet.open(demo_set)
    vg = Terms("Visual Genome", "https://vg.org", "CC BY 4.0", "Krishna et al., 2017")
    shards.manifest.terms = {"vg": {"vg": vg}}
    job = ExportJob(shards, demo_set, ["train"])
    card = dataset_card(job, {"train": SplitCounts(8, 3, 2, 1)})
    _, terms = tables(card, "Sources")
    row = ["vg", "[Visual Genome](https://vg.org)", "CC BY 4.0", "Krishna et al., 2017"]
    assert terms == [row]
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "other"


def test_text_of_a_manifest_adds_no_markup(demo_set: Path) -> None:
    shards = ShardSet.open(demo_set)
    evil = "a|b\n\n# x <script> [y](javascript:alert(1))"
    shards.manifest.licenses = [LicenseEntry(0, evil, "javascript:alert(1)", 1, [evil])]
    shards.manifest.terms = {evil: {evil: Terms(evil, "http://a/)x", evil, evil)}}
    shards.manifest.warnings = [evil]
    shards.manifest = msgspec.structs.replace(shards.manifest, name=evil)
    card = dataset_card(ExportJob(shards, demo_set, ["train"]), {})
    body = card.split("---\n", 2)[2]
    assert not re.search(r"(?<!\\)[<>]|(?<!\\)\]\(", body)
    assert [line for line in body.splitlines() if line.startswith("# ")] == body.splitlines()[1:2]
    assert all(len(row) == 3 for table in tables(card, "Licenses of images") for row in table)
