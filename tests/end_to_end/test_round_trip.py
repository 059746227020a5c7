"""Shards -> MDETR's JSON -> shards: nothing is lost but where sentences came from."""

from pathlib import Path

import msgspec

from pipelines.build import main as build
from schemas import Caption, Sample
from shards.__main__ import main as shards
from shards.reading.reader import Store
from shards.reading.shard_set import ShardSet

RECIPE = """
name = "round_trip"
rules = "mdetr"

[splits]
train = { shards = 3, combine = false }
val = { shards = 1 }

[sources.mdetr_json]
files.train = ["final_mixed_train.json", "final_flickr_separateGT_train.json"]
files.val = ["final_mixed_val.json", "final_flickr_separateGT_val.json"]
images = ["images"]
"""


def samples(made: Path, split: str) -> dict[str, tuple[Sample, bytes]]:
    store = Store(ShardSet.open(made))
    return {
        of.sample.key: (of.sample, bytes(store.image(of.shard, of.row).content))
        for of in store.samples(split)
    }


def bare(caption: Caption) -> Caption:
    """A caption without what MDETR's JSON cannot say."""
    return msgspec.structs.replace(caption, provenance=[], phrases=[], question=None)


def test_round_trip(demo_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    assert shards(["export", "mdetr-json", str(demo_set), str(out), "--images"]) == 0
    (tmp_path / "recipe.toml").write_text(RECIPE)
    arguments = [f"--root={out}", f"--output={tmp_path / 'shards'}", "--quiet", "--strict"]
    assert build([str(tmp_path / "recipe.toml"), *arguments]) == 0
    for split in ("train", "val"):
        before, after = samples(demo_set, split), samples(tmp_path / "shards", split)
        assert before.keys() == after.keys()
        for key, (sample, image) in before.items():
            found, found_image = after[key]
            assert found_image == image
            assert (found.width, found.height) == (sample.width, sample.height)
            assert list(map(bare, found.captions)) == list(map(bare, sample.captions))


def test_phrases_of_flickr30k_come_back(demo_set: Path, tmp_path: Path) -> None:
    """Without the names and the types of their entities, which the JSON does not have."""
    out = tmp_path / "exported"
    assert shards(["export", "mdetr-json", str(demo_set), str(out), "--split", "val"]) == 0
    recipe = RECIPE.replace('rules = "mdetr"', 'rules = "mdetr"\nimages = "none"')
    recipe = "".join(line for line in recipe.splitlines(True) if "train" not in line)
    (tmp_path / "recipe.toml").write_text(recipe)
    arguments = [f"--root={out}", f"--output={tmp_path / 'shards'}", "--quiet", "--strict"]
    assert build([str(tmp_path / "recipe.toml"), *arguments]) == 0
    before, after = (
        [
            (caption.text, [(p.spans, sorted(p.boxes)) for p in caption.phrases])
            for stored in Store(ShardSet.open(made)).samples("val")
            if stored.sample.key.startswith("flickr30k/")
            for caption in stored.sample.captions
        ]
        for made in (demo_set, tmp_path / "shards")
    )
    assert sorted(before) == sorted(after)
    assert any(phrases for _, phrases in before)
