"""Reading and checking recipes, and resolving their paths."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipelines.captions.rules import MDETR, PAPER
from pipelines.recipe import PACKAGE, Recipe, RecipeError, load, with_root
from pipelines.sources.base import Source
from schemas.toml_config import parse_override, shipped_names
from tests import tiny
from tests.processes import REPOSITORY

VG = {
    "image_data": "vg/image_data.json",
    "region_graphs": "vg/region_graphs.json",
    "images": ["vg/images"],
}


class Own(Source, kw_only=True):
    """A reader outside this package."""

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


def test_readme_has_every_shipped_recipe() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert [name for name in shipped_names(PACKAGE) if f"`{name}`" not in readme] == []


@pytest.mark.parametrize("name", shipped_names(PACKAGE))
def test_shipped_recipe_loads(name: str) -> None:
    recipe = load(name)
    assert recipe.name == name
    assert recipe.sources and recipe.splits
    assert all(split.shards >= 1 for split in recipe.splits.values())
    assert ("train" in recipe.splits) == (name != "gqa_submission")


def test_unknown_recipe_lists_the_shipped_ones() -> None:
    with pytest.raises(RecipeError, match=r"no recipe refcok: .*refcoco\+"):
        load("refcok")


def test_defaults_are_resolved(tmp_path: Path) -> None:
    recipe = read(
        tmp_path,
        sources={"vg": VG},
        splits={"train": {"shards": 2}, "val": {"shards": 1, "allow_empty": True}},
    )
    assert recipe.rules == PAPER
    assert (recipe.splits["train"].combine, recipe.splits["val"].combine) == (True, False)
    assert (recipe.images, recipe.salt, recipe.near_duplicates.action) == ("embed", "", "off")


def test_named_rules_can_be_changed_by_field(tmp_path: Path) -> None:
    assert read(tmp_path, sources={"vg": VG}, rules="mdetr").rules == MDETR
    rules = read(tmp_path, sources={"vg": VG}, rules={"base": "mdetr", "threshold": 0.3}).rules
    assert (rules.threshold, rules.conflict, rules.coloring) == (0.3, "iou", "first_fit")
    assert read(tmp_path, sources={"vg": VG}, rules={"max_length": 99}).rules.conflict == "giou"


def test_recipe_may_extend_a_shipped_one(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "mine.toml", b"base = 'refcoco'\nname = 'mine'\nimages = 'none'")
    recipe, base = load(str(path)), load("refcoco")
    assert (recipe.name, recipe.images) == ("mine", "none")
    assert (recipe.sources, recipe.splits) == (base.sources, base.splits)


def test_single_rules_of_a_child_change_the_named_rules_of_its_base(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "mine.toml", b"base = 'from_mdetr_json'\n[rules]\nthreshold = 0.3")
    assert load("from_mdetr_json").rules == MDETR
    assert load(str(path)).rules == msgspec.structs.replace(MDETR, threshold=0.3)
    other = tiny.write(tmp_path / "other.toml", b"base = 'mine.toml'\nrules = 'paper'")
    assert load(str(other)).rules == PAPER


@pytest.mark.parametrize(
    "settings",
    [
        ["rules=mdetr", "rules.threshold=0.4"],
        ["rules.base=mdetr", "rules.threshold=0.4"],
        ["rules.max_length=99", "rules={base='mdetr', threshold=0.4}"],
    ],
)
def test_named_rules_can_be_overridden(tmp_path: Path, settings: list[str]) -> None:
    path = tiny.write_recipe(tmp_path / "recipe.toml", sources={"vg": VG}, rules="paper")
    recipe = load(str(path), overrides=[parse_override(text) for text in settings])
    assert recipe.rules == msgspec.structs.replace(MDETR, threshold=0.4)


def test_overrides_change_the_recipe_and_its_hash(tmp_path: Path) -> None:
    settings = ["splits.train.shards=3", "rules.threshold=0.3", "sources.vg.images=['a']"]
    path = tiny.write_recipe(tmp_path / "recipe.toml", sources={"vg": VG}, rules="mdetr")
    recipe = load(str(path), overrides=[parse_override(text) for text in settings])
    assert recipe.splits["train"].shards == 3
    assert (recipe.rules.threshold, recipe.rules.length) == (0.3, "sentences")
    assert recipe.sources["vg"].images == ["a"]
    assert recipe.sha256() != load(str(path)).sha256()


@pytest.mark.parametrize("name", ["mdetr_pretrain", "mixed_no_coco"])
def test_shipped_recipes_may_read_descriptions_for_graphs(name: str) -> None:
    settings = [
        'sources.vg.region_graphs=""',
        "sources.vg.region_descriptions=vg/region_descriptions.json",
    ]
    paths = set(load(name, overrides=[parse_override(text) for text in settings]).paths())
    graphs = {"vg/region_graphs.json"}
    assert set(load(name).paths()) - paths == graphs
    assert paths - set(load(name).paths()) == {"vg/region_descriptions.json"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules.treshold=1", "rules: unknown key 'treshold'; did you mean threshold?"),
        ("splits.train.shards=many", "splits.train: Expected `int`, got `str`"),
        ("name.x=1", "cannot set name.x: name is 'tiny', not a table"),
    ],
)
def test_wrong_override_is_an_error_of_the_recipe(tmp_path: Path, text: str, message: str) -> None:
    path = tiny.write_recipe(tmp_path / "recipe.toml", sources={"vg": VG}, name="tiny")
    with pytest.raises(RecipeError, match=re.escape(message)):
        load(str(path), overrides=[parse_override(text)])


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    lines = errors(
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
        "sources.vg: it names no images, which the recipe embeds",
        "sources.coco: Expected `array`, got `str` - at `$.instances`",
        "sources.coco: it names no images, which the recipe embeds",
        "sources.imaginary: no reader 'imaginary'",
        "exclude.refcoco: Expected `array`, got `int` - at `$.refs`",
        "near_duplicates: Invalid enum value 'maybe' - at `$.action`",
    ]:
        assert any(line.startswith(part) for line in lines), part
    assert len(lines) == 12


def test_errors_of_keys_hide_no_others(tmp_path: Path) -> None:
    """Neither those of the same table, nor missing files of the keys that are meant."""
    text = """
        name = "bad"
        images = "embedded"
        salt = 5
        [splits]
        train = { shards = 0, combine = "yes", rolle = "train" }
        [sources.flickr30k]
        annotatoins = "flickr30k"
        split_files.train = "nope.txt"
        ground_truth = "both"
        pictures_of = 3
        imagse = ["no_folder"]
        [exclude.flickr30k]
        ids = ["no_ids.txt"]
        of = "flicker"
        """
    path = tiny.write(tmp_path / "recipe.toml", text.encode())
    with pytest.raises(RecipeError) as error:
        load(str(path), root=str(tmp_path))
    lines = str(error.value).splitlines()
    for part in [
        "the recipe: Invalid enum value 'embedded' - at `$.images`",
        "the recipe: Expected `str`, got `int` - at `$.salt`",
        "splits.train: Expected `int` >= 1 - at `$.shards`",
        "splits.train: Expected `bool`, got `str` - at `$.combine`",
        "splits.train: unknown key 'rolle'; did you mean role?",
        "sources.flickr30k: unknown key 'annotatoins'; did you mean annotations?",
        "sources.flickr30k: unknown key 'imagse'; did you mean images?",
        "sources.flickr30k: unknown key 'pictures_of'; known are",
        "sources.flickr30k: Invalid enum value 'both' - at `$.ground_truth`",
        f"sources.flickr30k: there is no {tmp_path}/flickr30k",
        f"sources.flickr30k: there is no {tmp_path}/nope.txt",
        f"sources.flickr30k: there is no {tmp_path}/no_folder",
        f"exclude.flickr30k: there is no {tmp_path}/no_ids.txt",
    ]:
        assert any(line.startswith(part) for line in lines), (part, lines)


def test_images_of_a_source_may_be_those_of_another(tmp_path: Path) -> None:
    """GQA's are Visual Genome's."""
    gqa = {"questions": {"train": ["q.json"]}}
    assert read(tmp_path, sources={"vg": VG, "gqa": gqa})
    with pytest.raises(RecipeError, match=r"sources\.gqa: it names no images"):
        read(tmp_path, sources={"gqa": gqa})
    assert read(tmp_path, sources={"gqa": gqa}, images="none")


def test_split_that_no_source_has_files_for(tmp_path: Path) -> None:
    splits: dict[str, Any] = {"train": {"shards": 1}, "val": {"shards": 1}}
    with pytest.raises(RecipeError, match=r"splits\.val: no source has files for it"):
        read(tmp_path, sources={"vg": VG}, splits=splits)
    splits["val"]["allow_empty"] = True
    assert read(tmp_path, sources={"vg": VG}, splits=splits)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the recipe has no [sources.NAME] table"),
        ("", "the recipe has no [splits.NAME] table"),
        ("", "the recipe: Object missing required field `name`"),
        ("name = 'x'\nsources = 3", "sources: expected tables [sources.NAME], found 3"),
        ("name = 'x'\nsplits = 'train'", "splits: expected tables [splits.NAME], found 'train'"),
        ("name = 'x'\nrules = 5", "rules: there are no rules 5; choose paper or mdetr"),
        ("name = 'x'\n[rules]\nbase = []", "rules: there are no rules []"),
        ("name = 'x'\n[rules]\ntreshold = 1.0", "did you mean threshold?"),
        ("name = 'x'\n[rules]\nconflict = 'iof'", "rules: Invalid enum value 'iof'"),
        ("name = 'x'\nnear_duplicates = 3", "near_duplicates: expected a table, found 3"),
        ("name = 'x'\n[sources.a]\nreader = 5", "sources.a: no reader 5"),
        ("name = 'x'\n[sources.a]\nreader = 'os:path'", "it is not a Source"),
        ("name = 'x'\n[sources.a]\nreader = 'os:nothing'", "no reader 'os:nothing'"),
        ("name = 'x'\n[sources.a]\nreader = 'no.such.module:X'", "no reader 'no.such.module:X'"),
        ("name = 'x'\n[splits]\n'va/l' = { shards = 1 }", "va/l: the name must consist"),
        (
            "name = 'x'\n[splits]\npretrain = { shards = 1 }",
            'splits.pretrain: state role = "train"',
        ),
        (
            "name = 'x'\n[splits]\nval = { shards = 1, role = 'test' }",
            "splits.val: Invalid enum value 'test' - at `$.role`",
        ),
        (
            "name = 'x'\n[splits]\nval = { shards = 1 }\n[sources.vg]\n"
            "image_data = 'a'\nregion_graphs = 'b'",
            "sources.vg: it is for the split train, and the recipe has no [splits.train], only val",
        ),
        ("name = 'x'\nreject_limit = 2.0", "Expected `float` <= 1.0 - at `$.reject_limit`"),
        ("name = 'x'\n[rules]\nthreshold = -1.0", "rules: Expected `float` >= 0.0"),
        (
            "name = 'x'\nimages = 'none'\nnear_duplicates = { action = 'report' }",
            "near_duplicates: needs the images",
        ),
        (
            "name = 'x'\n[splits]\ntrain = { shards = 1 }\n[sources.flickr30k]\n"
            "annotations = 'a'\nsplit_files.trian = 't.txt'",
            "sources.flickr30k: it is for the split trian, and the recipe has no [splits.trian], "
            "only train",
        ),
        ("name = ", "is not TOML"),
    ],
)
def test_error_names_the_table_and_the_value(tmp_path: Path, text: str, message: str) -> None:
    assert any(message in line for line in errors(tmp_path, text))


def test_recipe_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "recipe.toml", b'name = "\xff"')
    with pytest.raises(RecipeError, match=r"cannot read .*recipe\.toml"):
        load(str(path))


def test_reader_is_loaded_by_module_and_class(tmp_path: Path) -> None:
    table = {"reader": "tests.pipelines.test_recipe:Own", "table": "own.csv", "images": ["a"]}
    recipe = read(tmp_path, sources={"mine": table})
    source = recipe.sources["mine"]
    assert (type(source).__name__, source.paths()) == ("Own", ["own.csv"])
    reader = recipe.resolved()["sources"]["mine"]["reader"]
    assert reader == "tests.pipelines.test_recipe:Own"


def test_two_sources_may_have_one_reader(tmp_path: Path) -> None:
    recipe = read(tmp_path, sources={"vg": VG, "vg_again": {"reader": "vg", **VG}})
    assert type(recipe.sources["vg"]) is type(recipe.sources["vg_again"])
    assert recipe.resolved()["sources"]["vg_again"]["reader"] == "vg"
    assert "reader" not in recipe.resolved()["sources"]["vg"]


def test_recipe_without_negatives_keeps_its_version(tmp_path: Path) -> None:
    """That of builds before there were any."""
    recipe = read(tmp_path, sources={"vg": VG})
    assert "negatives" not in recipe.resolved()
    assert read(tmp_path, sources={"vg": VG}, negatives={"proven": 0}).sha256() == recipe.sha256()
    asked = read(tmp_path, sources={"vg": VG}, negatives={"unproven": 3})
    assert asked.sha256() != recipe.sha256()
    assert asked.resolved()["negatives"] == {"proven": 0, "unproven": 3}
    lines = errors(tmp_path, "[negatives]\nproven = -1")
    assert any(line.startswith("negatives: ") for line in lines)


# --- files ----------------------------------------------------------------------------------------


def test_error_names_every_missing_file(tmp_path: Path) -> None:
    recipe = read(
        tmp_path,
        sources={"vg": {**VG, "images": ["vg/VG_100K"]}},
        exclude={"refcoco": {"refs": ["refcoco/refs(unc).p"]}},
        rules={"stop_words": "stop.txt"},
    )
    with pytest.raises(RecipeError) as error:
        with_root(recipe, str(tmp_path))
    lines = [line.partition(", no ")[0] for line in str(error.value).splitlines()]
    assert lines == [
        f"sources.vg: there is no {tmp_path}/vg/image_data.json",
        f"sources.vg: there is no {tmp_path}/vg/region_graphs.json",
        f"sources.vg: there is no {tmp_path}/vg/VG_100K",
        f"exclude.refcoco: there is no {tmp_path}/refcoco/refs(unc).p",
        f"rules.stop_words: there is no {tmp_path}/stop.txt",
    ]


def test_image_folders_may_be_missing_if_no_images_are_embedded(tmp_path: Path) -> None:
    vg = tiny.write_vg(tmp_path, [], [])
    recipe = read(tmp_path, images="none", sources={"vg": vg | {"images": ["nowhere"]}})
    with_root(recipe, str(tmp_path))


def test_zips_are_located_and_absolute_paths_unchanged(tmp_path: Path) -> None:
    tiny.write_zip(tmp_path / "vg/image_data.json.zip", {"image_data.json": b"[]"})
    absolute = tiny.write(tmp_path / "elsewhere.json", b"")
    tiny.write_zip(tmp_path / "vg/images.zip", {"VG_100K/1.jpg": b""})
    vg = {
        "image_data": "vg/image_data.json",
        "region_graphs": str(absolute),
        "images": ["vg/images"],
    }
    located = with_root(read(tmp_path, sources={"vg": vg}), f"{tmp_path}/").sources["vg"]
    assert located.paths() == [f"{tmp_path}/vg/image_data.json.zip", str(absolute)]
    assert located.images == [f"{tmp_path}/vg/images.zip"]


def test_recipe_hash_does_not_depend_on_the_root(tmp_path: Path) -> None:
    for name in ("here", "there"):
        tiny.write_vg(tmp_path / name, [], [])
        (tmp_path / name / "vg/images").mkdir()
    recipe = read(tmp_path, sources={"vg": VG})
    before = recipe.sha256()
    for name in ("here", "there"):
        with_root(recipe, str(tmp_path / name))
    assert recipe.sha256() == before == read(tmp_path / "copy", sources={"vg": VG}).sha256()
    # Defaults that are spelled out are the same recipe, another salt is another one.
    spelled_out = read(tmp_path, sources={"vg": VG}, images="embed", rules={"base": "paper"})
    assert spelled_out.sha256() == before
    assert read(tmp_path, sources={"vg": VG}, salt="x").sha256() != before


def test_recipe_errors_and_missing_files_are_reported_together(tmp_path: Path) -> None:
    recipe = tiny.write_recipe(tmp_path / "recipe.toml", sources={"vg": VG}, rules="papper")
    with pytest.raises(RecipeError) as error:
        load(str(recipe), root=str(tmp_path))
    assert "there are no rules 'papper'" in str(error.value)
    assert "image_data" in str(error.value) and "there is no" in str(error.value)


def test_recipe_hash_depends_on_the_order_of_sources(tmp_path: Path) -> None:
    gqa = {"questions": {"train": ["q.json"]}}
    one = read(tmp_path, sources={"vg": VG, "gqa": gqa})
    other = read(tmp_path, sources={"gqa": gqa, "vg": VG})
    assert one.sha256() != other.sha256()
