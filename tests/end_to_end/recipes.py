"""Recipes for the reference data, which has a different layout."""

from pathlib import Path

GOLDEN_MIXED = """
name = "golden_mixed"
images = "none"
reject_limit = 0.02
rules = {rules}

[splits]
train = {{ shards = 4 }}

[sources.coco]
instances = ["coco/annotations/instances_train2014.json"]

[sources.coco.refs]
refcoco = "refexp/refcoco/refs(unc).p"
"refcoco+" = "refexp/refcoco+/refs(unc).p"
refcocog = "refexp/refcocog/refs(umd).p"

[sources.gqa]
questions.train = ["gqa/train_balanced_questions.json"]
scene_graphs.train = "gqa/train_sceneGraphs.json"

[sources.vg]
image_data = "vg/image_data.json"
region_graphs = "vg/region_graphs.json"

[exclude.refexp]
ids = ["side/refexp_all_unsafe_ids.pkl"]
of = "coco"

[exclude.gqa]
ids = ["side/gqa_unsafe_ids.pkl"]
of = "vg"

[exclude.phrasecut]
ids = ["side/phrase_cut_unsafe_ids.pkl"]
of = "vg"

[exclude.coco_val2014]
instances = ["coco/annotations/instances_val2014.json"]
"""

FLICKR30K = """
name = "flickr30k_excerpt"
images = "none"

[splits]
{train_split}
val = {{ shards = 2 }}

[sources.flickr30k]
annotations = "annotations.zip"
ground_truth = "{ground_truth}"
{train_file}
split_files.val = "val.txt"

[exclude.flickr30k]
ids = ["val.txt"]
of = "flickr30k"
"""


def golden_mixed(folder: Path, rules: str, stop_words: Path) -> Path:
    """Returns the recipe that the published programs follow, under either set of rules."""
    published = f'{{ base = "mdetr", stop_words = "{stop_words}" }}'
    return _written(folder, GOLDEN_MIXED.format(rules=published if rules == "mdetr" else '"paper"'))


def flickr30k(folder: Path, ground_truth: str, train: bool = True) -> Path:
    text = FLICKR30K.format(
        ground_truth=ground_truth,
        train_split="train = { shards = 2 }" if train else "",
        train_file='split_files.train = "train.txt"' if train else "",
    )
    return _written(folder, text)


def _written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path
