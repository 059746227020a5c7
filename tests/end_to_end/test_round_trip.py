"""Shards -> MDETR's JSON -> shards: only what that JSON cannot express is lost."""

from pathlib import Path

import msgspec

from pipelines.build import main as build
from schemas import Caption, Sample
from shards.__main__ import main as shards
from shards.reading.reader import ShardReader
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


def samples(shard_set: Path, split: str) -> dict[str, tuple[Sample, bytes]]:
    """Returns each sample of a split with the bytes of its image, by its key."""
    reader = ShardReader(ShardSet.open(shard_set))
    return {
        stored.sample.key: (stored.sample, bytes(reader.image(stored.shard, stored.row).content))
        for stored in reader.samples(split)
    }


def without_inexpressible_fields(caption: Caption) -> Caption:
    """Returns a caption without what MDETR's JSON cannot express."""
    return msgspec.structs.replace(caption, provenance=[], phrases=[], question=None)


def flickr30k_phrases(split: dict[str, tuple[Sample, bytes]]) -> list[object]:
    """Returns the phrases without the names and types of their entities, which the JSON lacks."""
    return sorted(
        (caption.text, [(phrase.spans, sorted(phrase.boxes)) for phrase in caption.phrases])
        for key, (sample, _) in split.items()
        if key.startswith("flickr30k/")
        for caption in sample.captions
    )


def test_exported_mdetr_json_builds_the_same_samples(demo_set: Path, tmp_path: Path) -> None:
    exported, output = tmp_path / "exported", tmp_path / "shards"
    assert (
        shards(["export", "mdetr-json", str(demo_set), f"--output={exported}", "--with-images"])
        == 0
    )
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    options = [f"--root={exported}", f"--output={output}", "--quiet", "--strict"]
    assert build([str(recipe), *options, "--direct_running_mode=in_memory"]) == 0
    for split in ("train", "val"):
        before, after = samples(demo_set, split), samples(output, split)
        assert before.keys() == after.keys()
        for key, (sample, image) in before.items():
            rebuilt, rebuilt_image = after[key]
            assert rebuilt_image == image
            assert (rebuilt.width, rebuilt.height) == (sample.width, sample.height)
            assert [*map(without_inexpressible_fields, rebuilt.captions)] == [
                *map(without_inexpressible_fields, sample.captions)
            ]
    phrases = flickr30k_phrases(before)
    assert flickr30k_phrases(after) == phrases
    assert any(spans for _, spans in phrases)
