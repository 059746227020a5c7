"""Exclusions that protect nothing are refused before any work; missing joins are warned of."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.dedup.eval_exclusion import Exclusion, list_errors
from pipelines.recipe import PACKAGE, Recipe, RecipeError, load, with_root
from schemas.toml_config import shipped_names
from tests import tiny

COCO = {"instances": ["instances.json"]}
VG = {"image_data": "image_data.json", "region_graphs": "graphs.json"}
GQA = {"questions": {"train": ["questions.json"]}}
FLICKR30K = {"annotations": "flickr30k", "split_files": {"train": "train.txt"}}
MDETR = {"files": {"train": ["mixed.json"]}}
REFS = {"refs": ["refs.p"]}


def read(folder: Path, **tables: Any) -> Recipe:
    return load(str(tiny.write_recipe(folder / "recipe.toml", images="none", **tables)))


@pytest.mark.parametrize(
    ("sources", "exclusion", "message"),
    [
        ({"vg": VG}, {}, "it names no images: it has neither files nor a namespace"),
        ({"vg": VG}, {"images": ["folder"]}, "it names no images"),
        ({"vg": VG}, {"ids": ["ids.txt"], "of": "vgg"}, "of = 'vgg' is no dataset; known are"),
        ({"vg": VG}, {"ids": ["ids.txt"], "of": "COCO"}, "of = 'COCO' is no dataset"),
        ({"vg": VG}, {"refs": ["r.p"], "of": "vg"}, "of = 'vg' is the dataset of `ids`, and there"),
        ({"flickr30k": FLICKR30K}, {"ids": ["ids.txt"]}, "state the dataset of its ids"),
        ({"mdetr_json": MDETR}, {"ids": ["ids.txt"]}, "the sources have images of coco, flickr30k"),
        ({"vg": VG}, {"namespace": "flicker30k"}, "its images of 'flicker30k' can be found in no"),
        ({"vg": VG}, {"namespace": "gqa"}, "its images of 'gqa' can be found in no source"),
        ({"flickr30k": FLICKR30K}, REFS, "no table links them; see [image_tables] coco (inst"),
        ({"gqa": GQA}, REFS | {"namespace": "clevr"}, "its images of 'clevr' can be found in no"),
        ({"coco": COCO}, {"questions": ["val.json"]}, "see [image_tables] vg (image_data.json)"),
        ({"coco": COCO}, {"ids": ["ids.txt"], "of": "clevr"}, "have images of coco"),
    ],
)
def test_exclusion_that_finds_nothing_is_refused(
    tmp_path: Path, sources: dict[str, Any], exclusion: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError) as error:
        read(tmp_path, sources=sources, exclude={"set": exclusion})
    [line] = str(error.value).splitlines()
    assert line.startswith("exclude.set: ")
    assert message in line


@pytest.mark.parametrize(
    ("sources", "tables", "exclusion", "missing"),
    [
        ({"coco": COCO}, {}, REFS, []),
        ({"gqa": GQA}, {}, {"questions": ["val.json"]}, []),  # its images of COCO are no others'
        ({"vg": VG}, {}, REFS, ["flickr photo id of images of coco"]),
        ({"vg": VG}, {"coco": ["i.json"]}, REFS, []),
        ({"vg": VG, "coco": COCO}, {}, REFS, []),
        ({"vg": VG}, {}, {"instances": ["val.json"]}, []),  # it states its photos itself
        (
            {"gqa": GQA, "coco": COCO},
            {},
            REFS,
            ["coco_id of images of vg", "flickr photo id of images of vg"],
        ),
        ({"gqa": GQA, "coco": COCO}, {"vg": ["image_data.json"]}, REFS, []),
        (
            {"mdetr_json": MDETR},
            {},
            {"ids": ["ids.txt"], "of": "flickr30k"},
            [
                "flickr photo id of images of coco",
                "coco_id of images of vg",
                "flickr photo id of images of vg",
            ],
        ),
        ({"flickr30k": FLICKR30K}, {}, {"ids": ["ids.txt"], "of": "flickr30k"}, []),
    ],
)
def test_missing_joins_are_warned_of(
    tmp_path: Path,
    sources: dict[str, Any],
    tables: dict[str, Any],
    exclusion: dict[str, Any],
    missing: list[str],
) -> None:
    recipe = read(tmp_path, sources=sources, exclude={"set": exclusion}, image_tables=tables)
    warnings = recipe.warnings()
    assert [warning.partition("the ")[2].partition(",")[0] for warning in warnings] == missing
    for warning in warnings:
        assert "exclude.set" in warning
        assert "[image_tables]" in warning


def test_no_exclusion_is_warned_of_where_duplicates_are_possible(tmp_path: Path) -> None:
    splits = {"train": {"shards": 1}, "val": {"shards": 1}}
    questions = {"questions": {"train": ["q.json"], "val": ["val.json"]}}
    [warning] = read(tmp_path, sources={"gqa": questions}, splits=splits).warnings()
    assert "no [exclude.NAME] holds out images, though the recipe has val" in warning
    assert read(tmp_path, sources={"clevr": questions}, splits=splits).warnings() == []
    assert read(tmp_path, sources={"gqa": GQA}).warnings() == []


def test_own_namespaces_of_a_source_can_be_excluded(tmp_path: Path) -> None:
    mdetr = {**MDETR, "namespaces": {"mine": "mine"}}
    for exclusion in ({"ids": ["ids.txt"], "of": "mine"}, {"namespace": "mine"}):
        recipe = read(tmp_path, sources={"mdetr_json": mdetr}, exclude={"set": exclusion})
        assert recipe.own_namespaces() == {"mine"}
        assert recipe.warnings() == []


@pytest.mark.parametrize("name", shipped_names(PACKAGE))
def test_shipped_recipes_miss_no_join(name: str) -> None:
    recipe = load(name)
    warnings = recipe.warnings()
    if name == "from_mdetr_json":  # its files have no exclusions: another recipe has
        [warning] = warnings
        assert warning.startswith("no [exclude.NAME]")
    else:
        assert warnings == []


@pytest.mark.parametrize("name", ["mdetr_pretrain", "mixed_no_coco", "gqa_balanced", "gqa_all"])
def test_synthetic_datasets_have_every_evaluation_set(demo_dataset: Path, name: str) -> None:
    recipe = load(name)
    if name.startswith("gqa"):  # images of Visual Genome are in its folders only
        recipe.sources["gqa"].images = []
    located = with_root(recipe, str(demo_dataset))
    for eval_set, exclusion in located.exclude.items():
        assert list(list_errors(eval_set, exclusion)) == []


@pytest.mark.parametrize(
    ("exclusion", "content", "message"),
    [
        ({"ids": "x.txt"}, b"", "names no image"),
        ({"ids": "x.txt"}, b"\n \n", "names no image"),
        ({"ids": "x.json"}, b"[]", "names no image"),
        ({"ids": "x.txt"}, b"7\n-1\n", "'-1' is not an image id of coco"),
        ({"refs": "x.json"}, b"[]", "names no reference that is not in train"),
        (
            {"refs": "x.json"},
            b'[{"image_id": 7, "split": "train"}]',
            "names no reference that is not in train",
        ),
    ],
)
def test_small_lists_are_read_before_any_work(
    tmp_path: Path, exclusion: dict[str, str], content: bytes, message: str
) -> None:
    [(role, name)] = exclusion.items()
    path = tiny.write(tmp_path / name, content)
    dataset = "coco" if role == "ids" else ""
    [line] = list_errors("set", Exclusion(**{role: [str(path)]}, dataset=dataset))
    assert line.startswith(f"exclude.set: {path}")
    assert message in line
    allowed = list_errors("set", Exclusion(allow_empty=True, **{role: [str(path)]}))
    assert bool(list(allowed)) == ("-1" in message)
