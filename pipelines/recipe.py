"""The recipe: a TOML file that says which sources, which rules, which splits.

Everything that is wrong with a recipe, missing files included, is told at once and before any work.
"""

import difflib
import importlib
import re
import tomllib
from collections.abc import Collection, Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from pipelines.captions.options import NAMED, Rules
from pipelines.dedup.eval_exclusion import Exclusion
from pipelines.io.raw_files import exists
from pipelines.sources.base import Source
from pipelines.sources.clevr.reader import Clevr
from pipelines.sources.coco import Coco
from pipelines.sources.flickr30k import Flickr30k
from pipelines.sources.gqa import Gqa
from pipelines.sources.lvis import Lvis
from pipelines.sources.mdetr_json import MdetrJson
from pipelines.sources.visual_genome.reader import VisualGenome
from shards.format.manifest import recipe_sha256

SOURCES: dict[str, type[Source]] = {
    "clevr": Clevr,
    "coco": Coco,
    "flickr30k": Flickr30k,
    "gqa": Gqa,
    "lvis": Lvis,
    "mdetr_json": MdetrJson,
    "vg": VisualGenome,
}


class RecipeError(Exception):
    """All that is wrong with a recipe, a line each."""


class Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a split is written. ``combine``: join sentences; by default only those of train."""

    shards: Annotated[int, msgspec.Meta(ge=1, le=99_999)]
    combine: bool = False


class NearDuplicates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The net of perceptual hashes: images of train that look like a held-out image.

    ``distance``: bits of 64 in which the hashes of two images may differ.
    """

    action: Literal["off", "report", "exclude"] = "off"
    distance: Annotated[int, msgspec.Meta(ge=0, le=64)] = 6


class _Plain(msgspec.Struct, kw_only=True):
    name: str
    images: Literal["embed", "none"] = "embed"
    salt: str = ""  # of the hash that places an image in a shard
    # Share of a source's records that may be lost; more fail the build.
    reject_limit: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01


class Recipe(_Plain, kw_only=True):
    """A recipe with every default resolved."""

    rules: Rules
    splits: dict[str, Split]
    sources: dict[str, Source]  # in the order that ranks the sentences of an image
    exclude: dict[str, Exclusion]
    near_duplicates: NearDuplicates

    def paths(self) -> Iterator[str]:
        """All files and folders that a build reads."""
        tables: list[Source | Exclusion] = [*self.sources.values(), *self.exclude.values()]
        for table in tables:
            yield from self.paths_of(table)
        if self.rules.stop_words:
            yield self.rules.stop_words

    def paths_of(self, table: Source | Exclusion) -> list[str]:
        """Those of one of its sources or evaluation sets."""
        hashed = self.near_duplicates.action != "off"
        needed = self.images == "embed" if isinstance(table, Source) else hashed
        return [*table.paths(), *(table.images if needed else [])]

    def resolved(self) -> dict[str, Any]:
        """The recipe as plain values, paths as they were written."""
        table = msgspec.to_builtins(self)
        table["source_order"] = list(self.sources)
        for name, source in self.sources.items():
            kind = type(source)
            if SOURCES.get(name) is not kind:
                reader = next((n for n, k in SOURCES.items() if k is kind), None)
                table["sources"][name]["reader"] = reader or f"{kind.__module__}:{kind.__name__}"
        return table

    def sha256(self) -> str:
        """The version of the recipe as resolved, wherever its files lie."""
        return recipe_sha256(self.resolved())


def shipped() -> list[str]:
    """The names of the recipes that come with the package."""
    folder = resources.files("pipelines.recipes")
    names = [file.name for file in folder.iterdir()]
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load(name_or_path: str, root: str | None = None) -> Recipe:
    """A shipped recipe by name, or a TOML file by path.

    Raises:
        RecipeError: no such recipe, or all that is wrong with it; with a ``root`` where its files
            should be, their being missing too, but only if something else is wrong as well: a
            recipe that is right in itself is held against its files by `with_root`.
    """
    if name_or_path in shipped():
        text = (resources.files("pipelines.recipes") / f"{name_or_path}.toml").read_text()
    elif Path(name_or_path).is_file():
        try:
            text = Path(name_or_path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"cannot read {name_or_path}: {error}") from error
    else:
        raise RecipeError(
            f"no recipe {name_or_path}: neither a file nor one of {', '.join(shipped())}"
        )
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{name_or_path} is not TOML: {error}") from error
    parser = _Parser()
    recipe = parser.parse(table)
    if parser.errors:
        missing = _located(recipe, root)[1] if root is not None else []
        raise RecipeError("\n".join([*parser.errors, *missing]))
    return recipe


def with_root(recipe: Recipe, root: str) -> Recipe:
    """The recipe with its relative paths begun at ``root``, and ``.zip`` added where only that is.

    Raises:
        RecipeError: every file and folder that is missing.
    """
    located, missing = _located(recipe, root)
    if missing:
        raise RecipeError("\n".join(missing))
    return located


def _located(recipe: Recipe, root: str) -> tuple[Recipe, list[str]]:
    """The recipe with its paths located, and a line for each file and folder that is not there."""
    missing: list[str] = []

    def locate(path: str) -> str:
        if "://" not in path and not path.startswith("/"):
            path = f"{root.rstrip('/')}/{path}" if root else path
        if not exists(path) and exists(f"{path}.zip"):
            path = f"{path}.zip"
        return path

    def moved(table: Source | Exclusion, where: str) -> Any:
        located = {path: locate(path) for path in recipe.paths_of(table)}
        missing.extend(
            f"{where}: there is no {found}" for found in located.values() if not exists(found)
        )
        return msgspec.convert(_replaced(msgspec.to_builtins(table), located), type(table))

    sources = {name: moved(source, f"sources.{name}") for name, source in recipe.sources.items()}
    exclude = {
        name: moved(exclusion, f"exclude.{name}") for name, exclusion in recipe.exclude.items()
    }
    rules = recipe.rules
    if rules.stop_words:
        rules = msgspec.structs.replace(rules, stop_words=locate(rules.stop_words))
        if not exists(rules.stop_words):
            missing.append(f"rules.stop_words: there is no {rules.stop_words}")
    located = msgspec.structs.replace(recipe, sources=sources, exclude=exclude, rules=rules)
    return located, missing


def _replaced(value: Any, located: dict[str, str]) -> Any:
    if isinstance(value, str):
        return located.get(value, value)
    if isinstance(value, list):
        return [_replaced(item, located) for item in value]
    if isinstance(value, dict):
        return {key: _replaced(item, located) for key, item in value.items()}
    return value


class _Parser:
    """Turns the tables of a recipe into structs, and collects what is wrong with them."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def parse(self, table: dict[str, Any]) -> Recipe:
        """The recipe, as far as it could be understood; what could not is in `errors`."""
        table = dict(table)
        splits = {name: self._split(name, split) for name, split in self._tables(table, "splits")}
        sources = {
            name: self._source(name, source) for name, source in self._tables(table, "sources")
        }
        exclude = {
            name: self._struct(exclusion, Exclusion, f"exclude.{name}")
            for name, exclusion in self._tables(table, "exclude")
        }
        rules = self._rules(table.pop("rules", "paper"))
        near = self._struct(table.pop("near_duplicates", {}), NearDuplicates, "near_duplicates")
        plain = self._struct(table, _Plain, "the recipe") or _Plain(name="")
        recipe = Recipe(
            **msgspec.structs.asdict(plain),
            rules=rules or NAMED["paper"],
            splits={name: split for name, split in splits.items() if split},
            sources={name: source for name, source in sources.items() if source},
            exclude={name: exclusion for name, exclusion in exclude.items() if exclusion},
            near_duplicates=near or NearDuplicates(),
        )
        self._check(recipe, splits, sources)
        return recipe

    def _check(self, recipe: Recipe, splits: Collection[str], sources: Collection[str]) -> None:
        """What no table is wrong with by itself."""
        if not sources:
            self.errors.append("the recipe has no [sources.NAME] table")
        if not splits:
            self.errors.append("the recipe has no [splits.NAME] table")
        for name, source in recipe.sources.items():
            for split in sorted(source.split_names()):
                if split not in splits:
                    self.errors.append(f"sources.{name}: the recipe has no [splits.{split}]")
        if recipe.near_duplicates.action != "off" and recipe.images == "none":
            self.errors.append('near_duplicates: needs the images; images = "none" has none')

    def _split(self, name: str, table: Any) -> Split | None:
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            self.errors.append(f"splits.{name}: a name of letters, digits and _ is needed")
            return None
        return self._struct({"combine": name == "train", **table}, Split, f"splits.{name}")

    def _tables(self, table: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        tables = table.pop(name, {})
        if not isinstance(tables, dict):
            self.errors.append(f"{name}: expected tables [{name}.NAME], found {tables!r}")
            return
        for key, inner in tables.items():
            if isinstance(inner, dict):
                yield key, inner
            else:
                self.errors.append(f"{name}.{key}: expected a table, found {inner!r}")

    def _rules(self, value: Any) -> Rules | None:
        if not isinstance(value, str | dict):
            self.errors.append(f"rules: expected a name or a table, found {value!r}")
            return None
        table = {"base": value} if isinstance(value, str) else dict(value)
        base = table.pop("base", "paper")
        if not isinstance(base, str) or base not in NAMED:
            self.errors.append(f"rules: there are no rules {base!r}; choose {' or '.join(NAMED)}")
            return None
        fields = {**msgspec.to_builtins(NAMED[base]), **table}
        return self._struct(fields, Rules, "rules")

    def _source(self, name: str, table: dict[str, Any]) -> Source | None:
        table = dict(table)
        reader = table.pop("reader", name)
        kind = SOURCES.get(reader) if isinstance(reader, str) else None
        if kind is None:
            module, _, attribute = str(reader).partition(":")
            try:
                kind = getattr(importlib.import_module(module), attribute)
                if not (isinstance(kind, type) and issubclass(kind, Source)):
                    raise ValueError("it is not a Source")
            except (ImportError, AttributeError, ValueError) as error:
                self.errors.append(
                    f"sources.{name}: no reader {reader!r} ({error}); known are "
                    f"{', '.join(SOURCES)}, and any class as module:Class"
                )
                return None
        return self._struct(table, kind, f"sources.{name}")

    def _struct(self, table: Any, kind: Any, where: str) -> Any:
        if not isinstance(table, dict):
            self.errors.append(f"{where}: expected a table, found {table!r}")
        elif self._check_keys(table, set(kind.__struct_fields__), where):
            try:
                return msgspec.convert(table, kind)
            except msgspec.ValidationError as error:
                self.errors.append(f"{where}: {error}")
        return None

    def _check_keys(self, table: dict[str, Any], known: set[str], where: str) -> bool:
        unknown = sorted(set(table) - known)
        for key in unknown:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            self.errors.append(f"{where}: unknown key {key!r}; {hint}")
        return not unknown
