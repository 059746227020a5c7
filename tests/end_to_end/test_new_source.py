"""The example of docs/new_source.md reads COCO's published captions."""

from pathlib import Path

import pytest

from pipelines.build import main as build
from shards.format import manifest
from tests.end_to_end.test_golden import samples

RECIPE = """
name = "captions"

[splits]
train = { shards = 2, combine = false }
val = { shards = 1 }

[sources.captions]
reader = "docs.examples.coco_captions:CocoCaptions"
captions.train = "annotations/captions_train2017.json"
captions.val = "annotations/captions_val2017.json"
images = ["train2017", "val2017"]
"""


def test_example_source_of_the_docs_builds_a_shard_set(reference: Path, tmp_path: Path) -> None:
    recipe, output = tmp_path / "recipe.toml", tmp_path / "shards"
    recipe.write_text(RECIPE)
    root = reference / "real/coco_mini"
    arguments = [str(recipe), f"--root={root}", f"--output={output}", "--quiet"]
    assert build([*arguments, "--direct_running_mode=in_memory"]) == 0
    totals = manifest.load(output).totals
    assert (totals["train"]["images"], totals["val"]["images"]) == (30, 15)
    sample = next(samples(output, "val"))
    assert len(sample["captions"]) >= 5
    assert sample["captions"][0]["provenance"][0]["dataset"] == "coco_captions"


def test_unknown_source_class_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("CocoCaptions", "NoSuchReader"))
    assert build([str(recipe), f"--output={tmp_path / 'shards'}"]) == 1
    assert "NoSuchReader" in capsys.readouterr().err
