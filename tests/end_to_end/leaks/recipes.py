"""Random recipes over random raw data: splits, roles, exclusions, and mistakes of their authors."""

import dataclasses
import pickle
import re
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from tests import tiny
from tests.end_to_end.leaks import raw_data
from tests.end_to_end.leaks.raw_data import RawData
from tests.end_to_end.leaks.truth import ImageRow

DEFAULT_ROLES = {"train": "train"} | dict.fromkeys(
    ["val", "test", "testA", "testB", "testdev", "minival", "submission"], "eval"
)


@dataclasses.dataclass(frozen=True)
class Flaw:
    """A mistake of a recipe, and what a message about it has to contain (a regular expression).

    ``must_be_refused``: otherwise the build may also succeed, with a warning of this content.
    """

    name: str
    message: str
    must_be_refused: bool = True


@dataclasses.dataclass
class TrueExclusion:
    """The images that an evaluation set names, and those whose Flickr photo its files state.

    ``is_flawed``: the recipe is to be refused; if it is not, the set protects nothing.
    """

    name: str
    rows: list[ImageRow]
    photos_stated: bool = False
    namespace: str = ""
    is_flawed: bool = False


@dataclasses.dataclass
class RandomRecipe:
    data: RawData
    rules: str
    images: str
    splits: dict[str, dict[str, Any]]
    roles: dict[str, str]  # the true ones, stated or not
    tables: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the recipe
    exclusions: list[TrueExclusion] = dataclasses.field(default_factory=list)
    flaws: list[Flaw] = dataclasses.field(default_factory=list)

    @property
    def train_splits(self) -> set[str]:
        return {split for split, role in self.roles.items() if role == "train"}

    @property
    def eval_splits(self) -> set[str]:
        return self.roles.keys() - self.train_splits


def random_recipe(data: RawData) -> RandomRecipe | None:
    """Writes the raw files of a recipe, and returns it.

    None if an image states the id of another one, and the recipe does not read both: no one could
    tell that the id is wrong.
    """
    rng = data.rng
    recipe = RandomRecipe(
        data,
        rules=rng.choice(["paper", "paper", "mdetr"]),
        images=rng.choice(["embed", "embed", "none"]),
        splits={},
        roles={},
    )
    recipe.tables["reject_limit"] = rng.choice([0.01, 1.0])
    mistake = _mistaken_row(recipe) if rng.random() < 0.06 else None
    sets = _write_sources(recipe)
    _choose_splits(recipe)
    _write_exclusions(recipe, sets)
    _write_image_tables(recipe)
    if mistake:
        if not all(row in data.read_tables for row in mistake.rows):
            return None
        refused = recipe.tables["reject_limit"] < 0.1  # else a warning suffices
        recipe.flaws.append(Flaw("id of another image", str(mistake.id), must_be_refused=refused))
    recipe.tables |= {
        "rules": recipe.rules,
        "images": recipe.images,
        "splits": recipe.splits,
        "sources": data.sources,
    }
    return recipe


@dataclasses.dataclass
class _Mistake:
    """Two images of a dataset that state one id, which belongs to the first."""

    rows: list[ImageRow]
    id: int


def _mistaken_row(recipe: RandomRecipe) -> _Mistake | None:
    """Lets an image of Visual Genome or COCO state the id that another image of it states."""
    rng, truth = recipe.data.rng, recipe.data.truth
    coco_ids = [row for row in truth.vg if row.coco]
    if coco_ids and len(truth.vg) > 1 and rng.random() < 0.5:
        right = rng.choice(coco_ids)
        wrong = rng.choice([row for row in truth.vg if row is not right])
        wrong.coco = right.coco
        return _Mistake([right, wrong], right.coco.id)
    flickr_ids = [row for row in truth.coco if row.states_flickr]
    if len(flickr_ids) > 1:
        right, wrong = rng.sample(flickr_ids, 2)
        wrong.flickr = right.flickr
        return _Mistake([right, wrong], right.flickr)
    return None


# --- sources --------------------------------------------------------------------------------------

#: An evaluation set: its name, and a function that writes its files, adds its table to a recipe and
#: returns the images that it names.
WriteSet = Callable[[RandomRecipe, str], TrueExclusion]


def _write_sources(recipe: RandomRecipe) -> dict[str, WriteSet]:
    """Writes random sources; returns the evaluation sets that belong to them, by name."""
    data, rng = recipe.data, recipe.data.rng
    names = rng.sample(
        ["coco", "vg", "gqa", "flickr30k", "mdetr_json", "lvis"], rng.choice([1, 2, 2, 3, 4])
    )
    train = rng.choice(["train", "train", "pretrain", "train2014", "finetune"])
    refs, gqa, lvis = raw_data.write_refs(data), raw_data.gqa_rows(data), raw_data.lvis_parts(data)
    if "coco" in names:
        raw_data.write_coco(data, refs)
        recipe.roles["train"] = "train"
        recipe.roles |= dict.fromkeys(
            rng.sample(sorted(data.eval_splits), min(1, len(data.eval_splits))), "eval"
        )
    else:
        for path, splits in refs.values():
            references = [tiny.reference(row.id, 1, {1: "object"}, split) for row, split in splits]
            tiny.write_refs(data.root / path, references)
    if "vg" in names:
        raw_data.write_vg(data, train)
        recipe.roles[train] = "train"
    if "gqa" in names:
        raw_data.write_gqa(
            data, gqa, _splits(recipe, train, {"val": "val", "dev": "val", "test": "test"})
        )
    if "flickr30k" in names:
        raw_data.write_flickr30k(
            data, _splits(recipe, train, {"val": "val", "test": "test", "heldout": "test"})
        )
    if "mdetr_json" in names:
        raw_data.write_mdetr_json(data, list(_splits(recipe, train, {"val": "", "dev": ""})))
    if "lvis" in names:
        raw_data.write_lvis(data, lvis, _splits(recipe, train, {"minival": "minival"}))
    for table in data.sources.values():
        table["allow_empty"] = rng.random() < 0.8
    data.sources = dict(rng.sample(sorted(data.sources.items()), len(data.sources)))
    return _evaluation_sets(data, refs, gqa, lvis)


def _splits(recipe: RandomRecipe, train: str, eval_parts: dict[str, str]) -> dict[str, str]:
    """Adds a training split and perhaps an evaluation split; returns the part that each reads."""
    rng = recipe.data.rng
    parts = {train: "train"}
    recipe.roles[train] = "train"
    if rng.random() < 0.4:
        name = rng.choice(sorted(eval_parts))
        parts[name] = eval_parts[name]
        recipe.roles[name] = "eval"
    return parts


def _choose_splits(recipe: RandomRecipe) -> None:
    rng = recipe.data.rng
    for name, role in recipe.roles.items():
        recipe.splits[name] = {"shards": rng.randint(1, 2)}
        if rng.random() < 0.8:
            recipe.splits[name]["allow_empty"] = True
        elif not any(caption.split == name for caption in recipe.data.captions.values()):
            recipe.flaws.append(Flaw("empty split", name))
        if DEFAULT_ROLES.get(name) == role and rng.random() < 0.7:
            continue
        if name not in DEFAULT_ROLES and rng.random() < 0.05:
            recipe.flaws.append(Flaw("role missing", rf"splits\.{name}.*role"))
        else:
            recipe.splits[name]["role"] = role


# --- evaluation sets ------------------------------------------------------------------------------


def _evaluation_sets(
    data: RawData,
    refs: dict[str, tuple[str, list[tuple[ImageRow, str]]]],
    gqa: dict[str, list[ImageRow]],
    lvis: dict[str, list[ImageRow]],
) -> dict[str, WriteSet]:
    truth = data.truth

    def of_refs(dataset: str) -> WriteSet:
        path, splits = refs[dataset]

        def write(recipe: RandomRecipe, name: str) -> TrueExclusion:
            recipe.tables["exclude"][name] = {"refs": [path]}
            return TrueExclusion(name, [row for row, split in splits if split != "train"])

        return write

    def of_questions(part: str) -> WriteSet:
        def write(recipe: RandomRecipe, name: str) -> TrueExclusion:
            path = f"gqa/{part}_balanced_questions.json"
            if not (data.root / path).exists():
                raw_data.write_questions(data, path, gqa[part])
            recipe.tables["exclude"][name] = {"questions": [path]}
            return TrueExclusion(name, gqa[part])

        return write

    def coco_val2014(recipe: RandomRecipe, name: str) -> TrueExclusion:
        path = raw_data.write_instances(data, raw_data.COCO_VAL)
        recipe.tables["exclude"][name] = {"instances": [path]}
        rows = [row for row in truth.coco if row.part == raw_data.COCO_VAL]
        return TrueExclusion(name, rows, photos_stated=True)

    def lvis_minival(recipe: RandomRecipe, name: str) -> TrueExclusion:
        path = "lvis/lvis_v1_minival.json"
        if not (data.root / path).exists():
            raw_data.write_lvis_file(data, "minival", lvis["minival"])
        recipe.tables["exclude"][name] = {"instances": [path]}
        return TrueExclusion(name, lvis["minival"], photos_stated=True)

    def flickr_part(part: str) -> WriteSet:
        def write(recipe: RandomRecipe, name: str) -> TrueExclusion:
            path = f"flickr30k/{part}.txt"
            if not (data.root / path).exists():
                raw_data.write_flickr_list(data, part)
            recipe.tables["exclude"][name] = {"ids": [path], "of": "flickr30k"}
            return TrueExclusion(name, [row for row in truth.flickr30k if row.part == part])

        return write

    def list_of(namespace: str) -> WriteSet:
        def write(recipe: RandomRecipe, name: str) -> TrueExclusion:
            rows = [row for row in truth.rows if row.namespace == namespace]
            rows = data.rng.sample(rows, min(len(rows), data.rng.randint(1, 4)))
            if namespace == "vg":  # lists of GQA's images have images of COCO test2015
                rows += [row for row in truth.coco if row.part == "test2015"][:1]
            return _write_list(recipe, name, namespace, rows)

        return write

    sets = {
        "coco_val2014": coco_val2014,
        "lvis_minival": lvis_minival,
        **{dataset: of_refs(dataset) for dataset in refs},
        **{f"gqa_{part}": of_questions(part) for part in ("val", "test")},
        **{f"flickr30k_{part}": flickr_part(part) for part in ("val", "test")},
        **{f"list_{namespace}": list_of(namespace) for namespace in ("coco", "vg", "flickr30k")},
    }
    return sets


def _write_list(
    recipe: RandomRecipe, name: str, namespace: str, rows: list[ImageRow]
) -> TrueExclusion:
    """Writes a list of ids in a random format and spelling, each id perhaps in another."""
    data, rng = recipe.data, recipe.data.rng
    styles = ["str", "str", "padded", "name"]
    form = rng.choice(["txt", "json", "pkl"])
    if form != "txt":
        styles += ["int", "int", "float"]
    ids = [
        raw_data.spelled(row, "n" if row.namespace != namespace else rng.choice(styles))
        for row in rows
    ]
    if rng.random() < 0.2:
        ids += ids[:1]
    path = f"lists/{name}.{form}"
    if form == "txt":
        end = rng.choice(["\n", "\r\n", " \n"])
        content = "".join(f"{id_}{end}" for id_ in ids).encode()
    elif form == "pkl":
        content = pickle.dumps(rng.choice([list, set])(ids), protocol=2)
    else:
        as_objects = rng.random() < 0.4
        return _with_table(
            recipe,
            name,
            namespace,
            rows,
            str(
                tiny.write_json(
                    data.root / path, [{"image_id": i} for i in ids] if as_objects else ids
                ).relative_to(data.root)
            ),
        )
    tiny.write(data.root / path, content)
    return _with_table(recipe, name, namespace, rows, path)


def _with_table(
    recipe: RandomRecipe, name: str, namespace: str, rows: list[ImageRow], path: str
) -> TrueExclusion:
    recipe.tables["exclude"][name] = {"ids": [path], "of": namespace}
    return TrueExclusion(name, rows)


def _write_exclusions(recipe: RandomRecipe, sets: dict[str, WriteSet]) -> None:
    rng = recipe.data.rng
    recipe.tables["exclude"] = {}
    chosen = set(rng.sample(sorted(sets), rng.choice([0, 1, 1, 2, 3])))
    if rng.random() < 0.85:  # those of the recipe's own evaluation splits
        chosen |= _own_sets(recipe)
    for name in sorted(chosen):
        exclusion = sets[name](recipe, name)
        if not exclusion.rows:  # a file of no image
            if rng.random() < 0.95:
                recipe.tables["exclude"][name]["allow_empty"] = True
            else:
                recipe.flaws.append(Flaw("no ids", re.escape(name)))
                exclusion.is_flawed = True
        recipe.exclusions.append(exclusion)
    if rng.random() < 0.1 and recipe.data.truth.coco:
        recipe.tables["exclude"]["all_coco"] = {"namespace": "coco"}
        rows = recipe.data.truth.coco
        recipe.exclusions.append(TrueExclusion("all_coco", rows, namespace="coco"))
    if recipe.exclusions and rng.random() < 0.12:
        _add_flaw(recipe, rng)
    if not recipe.exclusions:
        if recipe.eval_splits and recipe.train_splits:
            recipe.flaws.append(Flaw("no exclusion", "exclu", must_be_refused=False))
        if rng.random() < 0.5:
            del recipe.tables["exclude"]


def _own_sets(recipe: RandomRecipe) -> set[str]:
    """Returns the names of the evaluation sets of the recipe's evaluation splits."""
    names: set[str] = set()
    for source, table in recipe.data.sources.items():
        if source == "coco":
            names |= set(table["refs"])
        if source == "gqa" and table["questions"].keys() & recipe.eval_splits:
            names |= {
                f"gqa_{part}"
                for part in ("val", "test")
                if any(
                    f"/{part}_" in path for paths in table["questions"].values() for path in paths
                )
            }
        if source == "flickr30k" and table["split_files"].keys() & recipe.eval_splits:
            names |= {
                f"flickr30k_{part}"
                for part in ("val", "test")
                if f"flickr30k/{part}.txt" in table["split_files"].values()
            }
        if source == "lvis" and table["annotations"].keys() & recipe.eval_splits:
            names.add("lvis_minival")
    return names


def _add_flaw(recipe: RandomRecipe, rng: Random) -> None:
    """Spoils one evaluation set of the recipe, as an author may by mistake."""
    exclusion = rng.choice(recipe.exclusions)
    name, table = exclusion.name, recipe.tables["exclude"][exclusion.name]
    table.pop("allow_empty", None)
    at = rf"exclude\.\"?{name.replace('+', '.')}"
    flaws = ["empty table", "key typo"]
    if exclusion.namespace:
        flaws = ["namespace typo"]
    elif "ids" in table:
        flaws += ["of typo", "empty list", "bad id", "no of"]
        if not recipe.data.truth.ids_collide:
            flaws.append("other of")
    kind = rng.choice(flaws)
    flaw = Flaw(kind, at)
    if kind == "empty table":
        recipe.tables["exclude"][name] = {}
    elif kind == "key typo":
        key = next(iter(table))
        table[f"{key}_"] = table.pop(key)
    elif kind == "namespace typo":
        table["namespace"] = "cocoo"
    elif kind == "of typo":
        table["of"] = "flicker30k"
    elif kind == "empty list":
        table["ids"] = [_written_list(recipe, name, [])]
        flaw = Flaw(kind, name)
    elif kind == "bad id":
        bad = rng.choice(["abc", "-7", "0", "1.5", ""][:4])
        ids = [str(row.id) for row in exclusion.rows if row.namespace == table["of"]] + [bad]
        table["ids"] = [_written_list(recipe, name, ids)]
        flaw = Flaw(kind, name)
    elif kind == "no of":
        if table["of"] == "coco" or recipe.data.truth.ids_collide:
            return
        del table["of"]
        flaw = Flaw(kind, name, must_be_refused=False)
    elif kind == "other of":
        table["of"] = rng.choice(sorted({"coco", "vg", "flickr30k"} - {table["of"]}))
        flaw = Flaw(kind, name, must_be_refused=False)
    recipe.flaws.append(flaw)
    exclusion.is_flawed = True


def _written_list(recipe: RandomRecipe, name: str, ids: Iterable[str]) -> str:
    path = f"lists/flawed_{name}.txt"
    tiny.write(recipe.data.root / path, "".join(f"{id_}\n" for id_ in ids).encode())
    return path


# --- tables that are read only for joins ----------------------------------------------------------


def _write_image_tables(recipe: RandomRecipe) -> None:
    data, rng = recipe.data, recipe.data.rng
    tables: dict[str, list[str]] = {}
    if rng.random() < 0.3:
        parts = rng.sample(["train2014", "val2014"], rng.randint(1, 2))
        tables["coco"] = []
        for part in parts:
            path = f"coco/annotations/instances_{part}.json"
            if not (data.root / path).exists():
                raw_data.write_instances(data, part)
            tables["coco"].append(path)
            data.read_tables += [row for row in data.truth.coco if row.part == part]
    if "vg" not in data.sources and rng.random() < 0.3:
        tables["vg"] = [raw_data.write_image_data(data)]
        data.read_tables += data.truth.vg
    if tables:
        recipe.tables["image_tables"] = tables
