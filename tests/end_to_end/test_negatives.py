"""A set with negatives, compared with what the synthetic images show."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.negatives import Description, compare, understand
from pipelines.build import main as build
from pipelines.synthetic.layout import SyntheticDataset
from shards.__main__ import main as shards
from shards.format import manifest as mf
from shards.reading.reader import ShardReader
from shards.reading.shard_set import ShardSet
from tests.file_digests import file_digests


@pytest.fixture(scope="module")
def negatives_set(demo_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(demo_dataset, tmp_path_factory.mktemp("negatives") / "set", "in_memory")


def make(raw: Path, output: Path, mode: str) -> Path:
    """Builds a set in this process, or in two others."""
    arguments = ["demo_negatives", f"--root={raw}", f"--output={output}", "--quiet"]
    settings = ["--set=images=none", "--set=near_duplicates.action=off"]
    runner = [f"--direct_running_mode={mode}", "--direct_num_workers=2"]
    assert build([*arguments, *settings, *runner]) == 0
    return output


def test_no_proven_phrase_names_what_the_image_shows(negatives_set: Path) -> None:
    """The truth is that of the scenes, of which the build knows no more than their annotations."""
    results = list(compare(negatives_set, SyntheticDataset(num_images=300)))
    proven = [(words, is_false) for strength, _, words, is_false in results if strength == "proven"]
    assert len(proven) > 50
    assert {is_false for _, is_false in proven} == {False}
    drawn = Counter(is_false for strength, _, _, is_false in results if strength == "unproven")
    assert drawn.total() > 100
    assert drawn[True] < 0.1 * drawn.total()


def test_phrases_are_understood_with_all_their_words() -> None:
    expected = Description("square", size="large", shade="light", color="green")
    assert understand("big light green boxes") == expected
    assert understand("half circle") == understand("dome")
    assert understand("red dog") is None


def test_set_verifies_and_accounts_for_every_phrase(negatives_set: Path) -> None:
    assert shards(["verify", str(negatives_set), "--quiet"]) == 0
    counts = (mf.load(negatives_set).absent or {})["gqa"]
    assert counts.unaccounted() == 0
    assert counts.in_shards > 50


def test_negatives_are_among_the_sentences_in_train_and_captions_in_val(
    negatives_set: Path,
) -> None:
    """Unproven ones are in train alone."""
    reader = ShardReader(ShardSet.open(negatives_set))
    by_split = {
        split: [c for stored in reader.samples(split) for c in stored.sample.captions if c.absent]
        for split in ("train", "val")
    }
    places: Counter[str] = Counter()
    for caption in by_split["train"]:
        parts = sorted(part.span for part in (*caption.provenance, *caption.absent))
        assert all(a[1] < b[0] for a, b in pairwise(parts))
        assert len(caption.text) < 250
        for phrase in caption.absent:
            if not caption.provenance:
                places["separate"] += 1
            elif phrase.span == parts[0] or phrase.span == parts[-1]:
                places["first" if phrase.span == parts[0] else "last"] += 1
            else:
                places["between"] += 1
    assert min(places[place] for place in ("separate", "first", "between", "last")) > 20
    assert {a.strength for c in by_split["train"] for a in c.absent} == {"proven", "unproven"}
    for caption in by_split["val"]:
        [phrase] = caption.absent
        assert (phrase.span, phrase.strength) == ((0, len(caption.text)), "proven")
        assert not caption.regions and not caption.provenance


def test_processes_draw_the_same_phrases(small_dataset: Path, tmp_path: Path) -> None:
    made = [
        make(small_dataset, tmp_path / mode, mode) for mode in ("in_memory", "multi_processing")
    ]
    assert file_digests(made[0]) == file_digests(made[1])
    assert "unproven" in (made[0] / "stats.json").read_text()
