"""Recipes: read, checked all at once, located."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.captions.options import MDETR, PAPER
from pipelines.recipe import Recipe, RecipeError, load, shipped, with_root
from pipelines.sources.base import Source
from tests import tiny

VG = {"image_data": "vg/image_data.json", "region_graphs": "vg/region_graphs.json"}


class Own(Source, kw_only=True):
    """A reader that is not one of ours."""

    namespace = "own"
    table: str

    def paths(self) -> list[str]:
        return [self.table]


def read(folder: Path, **tables: Any) -> Recipe:
    return load(str(tiny.write_recipe(folder / "recipe.toml", **tables)))


def errors(folder: Path, text: str) -> list[str]:
    path = tiny.write(folder / "recipe.toml", text.encode())
    with pytest.raises(RecipeError) as error:
        load(str(path))
    return str(error.value).splitlines()


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_load(name: str) -> None:
    recipe = load(name)
    assert recipe.name == name
    assert recipe.sources and recipe.splits
    assert all(split.shards >= 1 for split in recipe.splits.values())
    assert ("train" in recipe.splits) == (name != "gqa_submission")


def test_no_such_recipe() -> None:
    with pytest.raises(RecipeError, match=r"no recipe refcok: .*refcoco\+"):
        load("refcok")


def test_defaults(tmp_path: Path) -> None:
    recipe = read(
        tmp_path, sources={"vg": VG}, splits={"train": {"shards": 2}, "val": {"shards": 1}}
    )
    assert recipe.rules == PAPER
    assert (recipe.splits["train"].combine, recipe.splits["val"].combine) == (True, False)
    assert (recipe.images, recipe.salt, recipe.near_duplicates.action) == ("embed", "", "off")


def test_rules(tmp_path: Path) -> None:
    assert read(tmp_path, sources={"vg": VG}, rules="mdetr").rules == MDETR
    own = read(tmp_path, sources={"vg": VG}, rules={"base": "mdetr", "threshold": 0.3}).rules
    assert (own.threshold, own.conflict, own.coloring) == (0.3, "iou", "first_fit")
    assert read(tmp_path, sources={"vg": VG}, rules={"max_length": 99}).rules.conflict == "giou"


def test_all_errors_at_once(tmp_path: Path) -> None:
    found = errors(
        tmp_path,
        """
        name = "bad"
        rules = "papper"
        reject_limits = 0.5
        [splits]
        train = { shard = 8 }
        val = 3
        test = { shards = 0 }
        [sources.vg]
        image_data = "a.json"
        region_graph = "b.json"
        [sources.coco]
        instances = "not a list"
        [sources.imaginary]
        [exclude.refcoco]
        refs = 7
        [near_duplicates]
        action = "maybe"
        """,
    )
    for part in [
        "rules: there are no rules 'papper'; choose paper or mdetr",
        "the recipe: unknown key 'reject_limits'; did you mean reject_limit?",
        "splits.train: unknown key 'shard'; did you mean shards?",
        "splits.val: expected a table, found 3",
        "splits.test: Expected `int` >= 1 - at `$.shards`",
        "sources.vg: unknown key 'region_graph'; did you mean region_graphs?",
        "sources.coco: Expected `array`, got `str` - at `$.instances`",
        "sources.imaginary: no reader 'imaginary'",
        "exclude.refcoco: Expected `array`, got `int` - at `$.refs`",
        "near_duplicates: Invalid enum value 'maybe' - at `$.action`",
    ]:
        assert any(line.startswith(part) for line in found), part
    assert len(found) == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the recipe has no [sources.NAME] table"),
        ("", "the recipe has no [splits.NAME] table"),
        ("", "the recipe: Object missing required field `name`"),
        ("name = 'x'\nsources = 3", "sources: expected tables [sources.NAME], found 3"),
        ("name = 'x'\nsplits = 'train'", "splits: expected tables [splits.NAME], found 'train'"),
        ("name = 'x'\nrules = 5", "rules: expected a name or a table, found 5"),
        ("name = 'x'\n[rules]\nbase = []", "rules: there are no rules []"),
        ("name = 'x'\n[rules]\ntreshold = 1.0", "did you mean threshold?"),
        ("name = 'x'\n[rules]\nconflict = 'iof'", "rules: Invalid enum value 'iof'"),
        ("name = 'x'\nnear_duplicates = 3", "near_duplicates: expected a table, found 3"),
        ("name = 'x'\n[sources.a]\nreader = 5", "sources.a: no reader 5"),
        ("name = 'x'\n[sources.a]\nreader = 'os:path'", "it is not a Source"),
        ("name = 'x'\n[sources.a]\nreader = 'os:nothing'", "no reader 'os:nothing'"),
        ("name = 'x'\n[sources.a]\nreader = 'no.such.module:X'", "no reader 'no.such.module:X'"),
        ("name = 'x'\n[splits]\n'va/l' = { shards = 1 }", "splits.va/l: a name of letters"),
        ("name = 'x'\nreject_limit = 2.0", "Expected `float` <= 1.0 - at `$.reject_limit`"),
        ("name = 'x'\n[rules]\nthreshold = -1.0", "rules: Expected `float` >= 0.0"),
        (
            "name = 'x'\nimages = 'none'\nnear_duplicates = { action = 'report' }",
            "near_duplicates: needs the images",
        ),
        (
            "name = 'x'\n[splits]\ntrain = { shards = 1 }\n[sources.flickr30k]\n"
            "annotations = 'a'\nsplit_files.trian = 't.txt'",
            "sources.flickr30k: the recipe has no [splits.trian]",
        ),
        ("name = ", "is not TOML"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, message: str) -> None:
    assert any(message in line for line in errors(tmp_path, text))


def test_a_recipe_that_is_not_text(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "recipe.toml", b'name = "\xff"')
    with pytest.raises(RecipeError, match=r"cannot read .*recipe\.toml"):
        load(str(path))


def test_a_reader_of_ones_own(tmp_path: Path) -> None:
    own = {"reader": "tests.pipelines.test_recipe:Own", "table": "own.csv"}
    recipe = read(tmp_path, sources={"mine": own})
    source = recipe.sources["mine"]
    assert (type(source).__name__, source.paths()) == ("Own", ["own.csv"])
    reader = recipe.resolved()["sources"]["mine"]["reader"]
    assert reader == "tests.pipelines.test_recipe:Own"


def test_two_sources_with_one_reader(tmp_path: Path) -> None:
    recipe = read(tmp_path, sources={"vg": VG, "vg_again": {"reader": "vg", **VG}})
    assert type(recipe.sources["vg"]) is type(recipe.sources["vg_again"])
    assert recipe.resolved()["sources"]["vg_again"]["reader"] == "vg"
    assert "reader" not in recipe.resolved()["sources"]["vg"]


# --- files ----------------------------------------------------------------------------------------


def test_every_missing_file_is_named(tmp_path: Path) -> None:
    recipe = read(
        tmp_path,
        sources={"vg": {**VG, "images": ["vg/VG_100K"]}},
        exclude={"refcoco": {"refs": ["refcoco/refs(unc).p"]}},
        rules={"stop_words": "stop.txt"},
    )
    with pytest.raises(RecipeError) as error:
        with_root(recipe, str(tmp_path))
    assert str(error.value).splitlines() == [
        f"sources.vg: there is no {tmp_path}/vg/image_data.json",
        f"sources.vg: there is no {tmp_path}/vg/region_graphs.json",
        f"sources.vg: there is no {tmp_path}/vg/VG_100K",
        f"exclude.refcoco: there is no {tmp_path}/refcoco/refs(unc).p",
        f"rules.stop_words: there is no {tmp_path}/stop.txt",
    ]


def test_images_need_not_be_there_if_none_are_embedded(tmp_path: Path) -> None:
    vg = tiny.write_vg(tmp_path, [], [])
    recipe = read(tmp_path, images="none", sources={"vg": vg | {"images": ["nowhere"]}})
    with_root(recipe, str(tmp_path))


def test_zips_are_found_and_absolute_paths_are_left(tmp_path: Path) -> None:
    tiny.write(tmp_path / "vg/image_data.json.zip", b"")
    absolute = tiny.write(tmp_path / "elsewhere.json", b"")
    tiny.write(tmp_path / "vg/images.zip", b"")
    vg = {
        "image_data": "vg/image_data.json",
        "region_graphs": str(absolute),
        "images": ["vg/images"],
    }
    located = with_root(read(tmp_path, sources={"vg": vg}), f"{tmp_path}/").sources["vg"]
    assert located.paths() == [f"{tmp_path}/vg/image_data.json.zip", str(absolute)]
    assert located.images == [f"{tmp_path}/vg/images.zip"]


def test_the_version_of_the_data_does_not_depend_on_where_it_lies(tmp_path: Path) -> None:
    for name in ("here", "there"):
        tiny.write_vg(tmp_path / name, [], [])
    recipe = read(tmp_path, sources={"vg": VG})
    before = recipe.sha256()
    for name in ("here", "there"):
        with_root(recipe, str(tmp_path / name))
    assert recipe.sha256() == before == read(tmp_path / "copy", sources={"vg": VG}).sha256()
    # Defaults that are spelt out are the same recipe, another salt is another one.
    spelt_out = read(tmp_path, sources={"vg": VG}, images="embed", rules={"base": "paper"})
    assert spelt_out.sha256() == before
    assert read(tmp_path, sources={"vg": VG}, salt="x").sha256() != before


def test_what_is_wrong_and_what_is_missing_are_told_together(tmp_path: Path) -> None:
    recipe = tiny.write_recipe(tmp_path / "recipe.toml", sources={"vg": VG}, rules="papper")
    with pytest.raises(RecipeError) as error:
        load(str(recipe), root=str(tmp_path))
    assert "there are no rules 'papper'" in str(error.value)
    assert "image_data" in str(error.value) and "there is no" in str(error.value)


def test_the_order_of_sources_is_part_of_the_version(tmp_path: Path) -> None:
    gqa = {"questions": {"train": ["q.json"]}}
    one = read(tmp_path, sources={"vg": VG, "gqa": gqa})
    other = read(tmp_path, sources={"gqa": gqa, "vg": VG})
    assert one.sha256() != other.sha256()
