"""The recipe of a build: a TOML file with its sources, its rules and its splits.

All errors of a recipe, missing files included, are reported at once and before any work.
"""

import difflib
import importlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from pipelines import exclusion_checks
from pipelines.captions.rules import NAMED_RULES, CaptionRules
from pipelines.dedup.eval_exclusion import Exclusion
from pipelines.dedup.joins import Joins
from pipelines.dedup.near_duplicates import NearDuplicates
from pipelines.io.archives import (
    ENDINGS,
    check_file,
    find_in_archives,
    prepared_path,
    split_archive_path,
)
from pipelines.io.file_roots import check_root
from pipelines.io.raw_files import RawFileError, exists
from pipelines.sources.base import Source
from pipelines.sources.clevr.reader import Clevr
from pipelines.sources.coco import Coco
from pipelines.sources.detection.custom import Custom
from pipelines.sources.detection.open_images import OpenImages
from pipelines.sources.detection.published import CocoDetection, Objects365, V3Det
from pipelines.sources.flickr30k import Flickr30k
from pipelines.sources.gqa import Gqa
from pipelines.sources.lvis import Lvis
from pipelines.sources.mdetr_json import MdetrJson
from pipelines.sources.visual_genome.reader import VisualGenome
from schemas.decodable import decodable
from schemas.image_ids import NAMESPACES
from schemas.toml_config import ConfigError, Override, read_config
from shards.format.manifest import Role, recipe_sha256

_Struct = TypeVar("_Struct", bound=msgspec.Struct)

#: The package with the recipes that are shipped.
PACKAGE = "pipelines.recipes"

SOURCES: dict[str, type[Source]] = {
    "clevr": Clevr,
    "coco": Coco,
    "coco_detection": CocoDetection,
    "custom": Custom,
    "flickr30k": Flickr30k,
    "gqa": Gqa,
    "lvis": Lvis,
    "mdetr_json": MdetrJson,
    "objects365": Objects365,
    "openimages": OpenImages,
    "v3det": V3Det,
    "vg": VisualGenome,
}


_SKIPPED = 3  # archives that could not be searched, named in a message

# The key that a message of msgspec is about.
_FIELD_OF_ERROR = re.compile(r"at `\$\.([^.\[`]+)|missing required field `([^`]+)`$")

#: The roles of splits with a published name.
ROLES: dict[str, Role] = {
    "train": "train",
    **dict.fromkeys(("val", "test", "testA", "testB", "testdev", "minival", "submission"), "eval"),
}


class RecipeError(Exception):
    """A recipe cannot be used; the message has a line for each error."""


class Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options of a split.

    Attributes:
        shards: The number of its shards.
        role: What its images are for: "train", to be trained on, or "eval". Held-out images are
            excluded from the splits that are trained on, and no image may be in splits of both
            roles. A recipe states it, except for the names of `ROLES`.
        combine: Whether to join sentences; by default, in the splits that are trained on.
        allow_empty: Whether the split may have no captions; otherwise, that fails the build.
    """

    shards: Annotated[int, msgspec.Meta(ge=1, le=99_999)]
    role: Role
    combine: bool
    allow_empty: bool = False


class _Settings(msgspec.Struct, kw_only=True):
    """The keys of a recipe that are not tables."""

    name: str
    images: Literal["embed", "none"] = "embed"
    salt: str = ""  # of the hash that assigns an image to a shard
    # Share of a source's records that may be rejected; more fail the build.
    reject_limit: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01


class ImageTables(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Image tables that are read for the ids that they state, and for nothing else.

    They link the images of evaluation sets to those of the sources, as the same photos.

    Attributes:
        coco: COCO's instances_*.json, which state the Flickr photo of each image.
        vg: Visual Genome's image_data.json, which states COCO ids and Flickr photos.
    """

    coco: list[str] = []
    vg: list[str] = []

    def paths(self) -> list[str]:
        """Returns all files."""
        return [*self.coco, *self.vg]

    def sources(self) -> dict[str, Source]:
        """Returns the readers of the tables, by the name of their rows' source."""
        readers: dict[str, Source] = {}
        if self.coco:
            readers["image_tables.coco"] = Coco(instances=self.coco)
        for number, path in enumerate(self.vg):
            name = f"image_tables.vg[{number}]" if number else "image_tables.vg"
            # Only its image table is read; a source of Visual Genome must name its regions, too.
            readers[name] = VisualGenome(image_data=path, region_graphs=path)
        return readers


class Negatives(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many phrases that name nothing in an image its captions may have; none by default.

    Attributes:
        proven: The most of an image that its annotators stated.
        unproven: The most that are drawn from the phrases of all captions, by frequency, without
            what may name a present object; only in splits that are trained on.
    """

    proven: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    unproven: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0

    @property
    def are_asked_for(self) -> bool:
        """Whether the build has any."""
        return bool(self.proven or self.unproven)


class Recipe(_Settings, kw_only=True):
    """A recipe with every default resolved."""

    rules: CaptionRules
    splits: dict[str, Split]
    sources: dict[str, Source]  # their order is that of an image's sentences
    exclude: dict[str, Exclusion]
    image_tables: ImageTables = msgspec.field(default_factory=ImageTables)
    near_duplicates: NearDuplicates
    negatives: Negatives = msgspec.field(default_factory=Negatives)

    def paths(self) -> Iterator[str]:
        """Yields all files and folders that a build reads."""
        tables: list[Source | Exclusion] = [*self.sources.values(), *self.exclude.values()]
        for table in tables:
            yield from self.paths_of(table)
        yield from self.image_tables.paths()
        if self.rules.stop_words:
            yield self.rules.stop_words

    def paths_of(self, table: Source | Exclusion) -> list[str]:
        """Returns the files and folders of a source or an evaluation set that a build reads."""
        if isinstance(table, Source):
            reads_images = self.images == "embed"
        else:
            reads_images = self.near_duplicates.action != "off"
        return [*table.paths(), *(table.images if reads_images else [])]

    def is_trained_on(self, split: str) -> bool:
        """Returns whether the images of a split are to be trained on."""
        return self.splits[split].role == "train"

    def own_namespaces(self) -> frozenset[str]:
        """Returns the namespaces of its images that are not those of published datasets."""
        namespaces = {name for source in self.sources.values() for name in source.image_ids()}
        return frozenset(namespaces - NAMESPACES)

    def exclusions_of_unique_images(self) -> set[str]:
        """Returns the exclusions that name images of a source without duplicates."""
        unique = {
            namespace
            for source in self.sources.values()
            if source.unique_images
            for namespace in source.image_ids()
        }
        return {n for n, e in self.exclude.items() if not unique.isdisjoint(e.image_ids())}

    def joins(self) -> Joins:
        """Returns the joins of datasets that the tables of the recipe make possible."""
        sources = [*self.sources.values(), *self.image_tables.sources().values()]
        return Joins(
            [
                *(source.image_ids() for source in sources),
                *(exclusion.image_ids() for exclusion in self.exclude.values()),
            ]
        )

    def warnings(self) -> list[str]:
        """Returns what may let images of an evaluation be trained on, though it is no error."""
        roles = {split.role for split in self.splits.values()}
        may_share = any(not source.unique_images for source in self.sources.values())
        if not self.exclude and may_share and roles == {"train", "eval"}:
            evaluated = ", ".join(n for n in self.splits if not self.is_trained_on(n))
            return [
                f"no [exclude.NAME] holds out images, though the recipe has {evaluated} to be "
                "evaluated on: duplicates of their images may be trained on"
            ]
        return list(exclusion_checks.warnings(self.exclude, self.sources, self.joins()))

    def uses_parser(self) -> bool:
        """Returns whether any source needs the language model."""
        return any(source.uses_parser for source in self.sources.values())

    def resolved(self) -> dict[str, Any]:
        """Returns the recipe as plain values, for the manifest."""
        table: dict[str, Any] = msgspec.to_builtins(self)
        table["source_order"] = list(self.sources)
        if not self.negatives.are_asked_for:
            del table["negatives"]  # so that the version of such data is that of earlier releases
        for name, source in self.sources.items():
            kind = type(source)
            if SOURCES.get(name) is not kind:
                reader = next((n for n, k in SOURCES.items() if k is kind), None)
                table["sources"][name]["reader"] = reader or f"{kind.__module__}:{kind.__name__}"
        return table

    def sha256(self) -> str:
        """Returns the hash of the resolved recipe: the version of its data."""
        return recipe_sha256(self.resolved())


def load(name_or_path: str, root: str | None = None, overrides: Iterable[Override] = ()) -> Recipe:
    """Loads a shipped recipe by name, or a TOML file by path, and applies overrides.

    Raises:
        RecipeError: There is no such recipe, or it has errors. If it has errors and ``root`` is
            given, missing files are reported too; otherwise, `with_root` checks for missing files.
    """
    try:
        table = read_config(
            name_or_path, PACKAGE, overrides, kind="recipe", normalize=_write_out_rules
        )
    except ConfigError as error:
        raise RecipeError(str(error)) from error
    parser = _Parser()
    recipe = parser.parse(table)
    if parser.errors:
        missing = _located(recipe, root)[1] if root is not None else []
        raise RecipeError("\n".join([*parser.errors, *missing]))
    return recipe


def with_root(recipe: Recipe, root: str) -> Recipe:
    """Returns a recipe with relative paths below ``root``, or into archives that have the files.

    Raises:
        RecipeError: Files or folders are missing or of the wrong kind; the message names each.
    """
    located, errors = _located(recipe, root)
    if errors:
        raise RecipeError("\n".join(errors))
    return located


def with_prepared_archives(recipe: Recipe, scratch: str) -> Recipe:
    """Returns a located recipe with paths that workers can open at once; see `prepared_path`."""
    paths = {path: prepared_path(path, scratch) for path in dict.fromkeys(recipe.paths())}

    def prepared(table: _Struct) -> _Struct:
        return msgspec.convert(
            _with_paths(msgspec.to_builtins(table), paths), decodable(type(table))
        )

    return msgspec.structs.replace(
        recipe,
        sources={name: prepared(source) for name, source in recipe.sources.items()},
        exclude={name: prepared(exclusion) for name, exclusion in recipe.exclude.items()},
        image_tables=prepared(recipe.image_tables),
        rules=prepared(recipe.rules),
    )


def missing_paths(recipe: Recipe, root: str) -> list[str]:
    """Returns the files and folders, as the recipe states them, that `with_root` does not find."""

    def is_missing(path: str) -> bool:
        try:
            _locate(path, root)
        except RawFileError:
            return True
        return False

    return [path for path in dict.fromkeys(recipe.paths()) if is_missing(path)]


def _write_out_rules(table: dict[str, Any]) -> dict[str, Any]:
    """Returns a recipe with all fields of the named rules that it states."""
    rules = table.get("rules")
    if isinstance(rules, str):
        rules = {"base": rules}
    if not isinstance(rules, dict):
        return table
    base = rules.get("base")
    if not isinstance(base, str) or base not in NAMED_RULES:
        return table  # nothing to write out, or an error that the parser reports
    named = msgspec.to_builtins(NAMED_RULES[base])
    single = {name: value for name, value in rules.items() if name != "base"}
    if single.keys() >= named.keys():  # written out before: `--set rules.base` replaces them all
        single = {}
    return {**table, "rules": named | single}


def _located(recipe: Recipe, root: str) -> tuple[Recipe, list[str]]:
    """Returns the recipe with its paths located, and a line for each error of a path."""
    errors: list[str] = []

    def locate(path: str, key: str) -> str:
        try:
            return _locate(path, root)
        except RawFileError as error:
            errors.append(f"{key}: {error}")
            return path

    def locate_file(path: str, key: str) -> str:
        before = len(errors)
        located = locate(path, key)
        if len(errors) == before:
            try:
                check_file(located)
            except RawFileError as error:
                errors.append(f"{key}: {error}")
        return located

    def locate_table(table: Source | Exclusion, key: str) -> Any:
        before = len(errors)
        paths = {path: locate(path, key) for path in dict.fromkeys(recipe.paths_of(table))}
        located = msgspec.convert(
            _with_paths(msgspec.to_builtins(table), paths), decodable(type(table))
        )
        if len(errors) == before and isinstance(located, Source):
            try:
                located = located.with_found_files()
            except RawFileError as error:
                errors.append(f"{key}: {error}")
        if len(errors) == before:
            errors.extend(f"{key}: {error}" for error in _content_errors(located, recipe))
        return located

    sources = {
        name: locate_table(table, f"sources.{name}") for name, table in recipe.sources.items()
    }
    exclude = {
        name: locate_table(table, f"exclude.{name}") for name, table in recipe.exclude.items()
    }
    image_tables = ImageTables(
        *(
            [locate_file(path, "image_tables") for path in paths]
            for paths in msgspec.structs.astuple(recipe.image_tables)
        )
    )
    rules = recipe.rules
    if rules.stop_words:
        path = locate_file(rules.stop_words, "rules.stop_words")
        rules = msgspec.structs.replace(rules, stop_words=path)
    located = msgspec.structs.replace(
        recipe, sources=sources, exclude=exclude, image_tables=image_tables, rules=rules
    )
    return located, errors


def _locate(path: str, root: str) -> str:
    """Returns where a file or folder is: below ``root``, packed, or in an archive beside or above.

    Raises:
        RawFileError: It is nowhere, or in several archives.
    """
    is_relative = "://" not in path and not path.startswith("/")
    if is_relative and root:
        path = f"{root.rstrip('/')}/{path}"
    if exists(path):
        return path
    places = [f"{path}{ending}" for ending in ENDINGS if exists(f"{path}{ending}")]
    split = split_archive_path(path)
    if not places and split is not None and exists(split[0]):
        return path
    skipped: list[str] = []
    if not places:
        top = root.rstrip("/") if is_relative else path.rpartition("/")[0]
        places, skipped = find_in_archives(path, top)
    if len(places) > 1:
        raise RawFileError(f"{path} is in several archives, name one of them: {', '.join(places)}")
    if not places:
        message = (
            f"there is no {path}, no {path.rpartition('/')[2]}.zip or .tar, and no zip or tar in "
            "its folder or above that has it"
        )
        raise RawFileError("; ".join([message, *skipped[:_SKIPPED]]))
    return places[0]


def _content_errors(table: Source | Exclusion, recipe: Recipe) -> Iterator[str]:
    """Yields errors of files and folders that exist, but cannot be what a table expects."""
    if isinstance(table, Source):
        inputs = [*table.image_tables(), *table.inputs(tuple(recipe.splits))]
    else:
        inputs = table.inputs()
    checks: list[Callable[[], None]] = [
        partial(check_file, path) for path in dict.fromkeys(input.path for input in inputs)
    ]
    if isinstance(table, Source):
        checks.append(table.check_paths)
    for check in checks:
        try:
            check()
        except RawFileError as error:
            yield str(error)
    images = table.images if set(table.images) <= set(recipe.paths_of(table)) else []
    for path in images:
        try:
            check_root(path)
        except RawFileError as error:
            yield f"images: {error}"


def _with_paths(value: Any, paths: dict[str, str]) -> Any:
    """Returns plain values with each string replaced that is a key of ``paths``."""
    if isinstance(value, str):
        return paths.get(value, value)
    if isinstance(value, list):
        return [_with_paths(item, paths) for item in value]
    if isinstance(value, dict):
        return {key: _with_paths(item, paths) for key, item in value.items()}
    return value


class _Parser:
    """Decodes the tables of a recipe, and collects all errors."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def parse(self, table: dict[str, Any]) -> Recipe:
        """Returns the recipe without the tables that have errors, which are in `errors`."""
        table = dict(table)
        splits = {name: self._split(name, split) for name, split in self._tables(table, "splits")}
        sources = {
            name: self._source(name, source) for name, source in self._tables(table, "sources")
        }
        exclude = {
            name: self._struct(exclusion, Exclusion, f"exclude.{name}")
            for name, exclusion in self._tables(table, "exclude")
        }
        rules = self._rules(table.pop("rules", {}))
        tables = self._struct(table.pop("image_tables", {}), ImageTables, "image_tables")
        near = self._struct(table.pop("near_duplicates", {}), NearDuplicates, "near_duplicates")
        negatives = self._struct(table.pop("negatives", {}), Negatives, "negatives")
        settings = self._struct(table, _Settings, "the recipe") or _Settings(name="")
        recipe = Recipe(
            **msgspec.structs.asdict(settings),
            rules=rules or CaptionRules(),
            splits={name: split for name, split in splits.items() if split},
            sources={name: source for name, source in sources.items() if source},
            exclude={name: exclusion for name, exclusion in exclude.items() if exclusion},
            image_tables=tables or ImageTables(),
            near_duplicates=near or NearDuplicates(),
            negatives=negatives or Negatives(),
        )
        self._check(recipe, splits, sources)
        return recipe

    def _check(self, recipe: Recipe, splits: Collection[str], sources: Collection[str]) -> None:
        """Adds errors that concern more than one table."""
        if not sources:
            self.errors.append("the recipe has no [sources.NAME] table")
        if not splits:
            self.errors.append("the recipe has no [splits.NAME] table")
        for name, source in recipe.sources.items():
            for split in sorted(source.split_names()):
                if split not in splits:
                    self.errors.append(
                        f"sources.{name}: it is for the split {split}, and the recipe has no "
                        f"[splits.{split}], only {', '.join(splits) or 'none'}"
                    )
        self._check_unused_splits(recipe)
        self._check_images(recipe)
        if recipe.near_duplicates.action != "off" and recipe.images == "none":
            self.errors.append('near_duplicates: needs the images, but images = "none"')
        if all(recipe.sources.get(name) for name in sources):
            self.errors += exclusion_checks.errors(
                recipe.exclude,
                recipe.sources,
                recipe.joins(),
                by_hash=recipe.near_duplicates.action == "exclude",
            )

    def _check_unused_splits(self, recipe: Recipe) -> None:
        """Adds errors for splits that no source has files for, if all sources state theirs."""
        stated = [source.split_names() for source in recipe.sources.values()]
        if stated and all(stated):
            for name, split in recipe.splits.items():
                if name not in set().union(*stated) and not split.allow_empty:
                    self.errors.append(f"splits.{name}: no source has files for it")

    def _check_images(self, recipe: Recipe) -> None:
        """Adds errors for sources whose images neither they nor other sources have."""
        if recipe.images != "embed":
            for name, source in recipe.sources.items():
                if source.has_relative_boxes:
                    self.errors.append(
                        f"sources.{name}: its boxes are fractions of the sides of an image, which "
                        'only the file of the image states: images = "embed" is needed'
                    )
            return
        with_images = {
            namespace
            for source in recipe.sources.values()
            if source.images
            for namespace in source.image_ids()
        }
        for name, source in recipe.sources.items():
            if not source.images and with_images.isdisjoint(source.image_ids()):
                self.errors.append(
                    f"sources.{name}: it names no images, which the recipe embeds: state "
                    'images = [FOLDERS AND ZIPS] in it, or images = "none" in the recipe'
                )

    def _split(self, name: str, table: Any) -> Split | None:
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            self.errors.append(f"splits.{name}: the name must consist of letters, digits and _")
            return None
        role = table.get("role", ROLES.get(name))
        if role is None:
            self.errors.append(
                f'splits.{name}: state role = "train" if it is to be trained on, else '
                f'role = "eval"; only {", ".join(ROLES)} have a default'
            )
            role = "eval"  # so that the other keys are checked
        defaults = {"role": role, "combine": role == "train"}
        return self._struct({**defaults, **table}, Split, f"splits.{name}")

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

    def _rules(self, table: Any) -> CaptionRules | None:
        if not isinstance(table, dict):
            table = {"base": table}
        base = table.get("base", "paper")
        if not isinstance(base, str) or base not in NAMED_RULES:
            names = " or ".join(NAMED_RULES)
            self.errors.append(f"rules: there are no rules {base!r}; choose {names}")
            return None
        fields = {**msgspec.to_builtins(NAMED_RULES[base]), **table}
        fields.pop("base", None)
        return self._struct(fields, CaptionRules, "rules")

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

    def _struct(self, table: Any, kind: type[_Struct], where: str) -> _Struct | None:
        """Returns a table as a struct, with its errors added; None if what remains is none.

        A key that is wrong is left out, or taken for the one that was meant, so that one error
        does not hide others, such as missing files.
        """
        if not isinstance(table, dict):
            self.errors.append(f"{where}: expected a table, found {table!r}")
            return None
        fields, meant = self._known_fields(table, set(kind.__struct_encode_fields__), where)
        wrong = set(meant)
        while True:
            try:
                return msgspec.convert(fields, decodable(kind))
            except msgspec.ValidationError as error:
                field = _FIELD_OF_ERROR.search(str(error))
                name = (field[1] or field[2]) if field else ""
                if name not in wrong:
                    self.errors.append(f"{where}: {error}")
                if name not in fields:
                    return None  # a required key is missing, or the error is of several keys
                del fields[name]
                wrong.add(name)

    def _known_fields(
        self, table: dict[str, Any], known: set[str], where: str
    ) -> tuple[dict[str, Any], list[str]]:
        """Returns the known keys of a table, and those among them that others were taken for."""
        fields = {key: value for key, value in table.items() if key in known}
        meant: list[str] = []
        for key in sorted(set(table) - known):
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            self.errors.append(f"{where}: unknown key {key!r}; {hint}")
            if near and near[0] not in fields:
                fields[near[0]] = table[key]
                meant.append(near[0])
        return fields, meant
