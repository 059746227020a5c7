"""Warnings of images that no join by photo can find, because no table of the recipe states theirs.

Only images of COCO count, whose tables state the photo of each, and images that state a COCO id:
of the other images of Visual Genome, many have no photo in any published file.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set

from pipelines.dedup.image_registry import ImageRegistry
from pipelines.dedup.joins import TableIds
from pipelines.recipe import Recipe
from schemas import EvalImage, ImageInfo
from schemas.image_ids import namespace_of, photo_id_of_key
from schemas.joins import PHOTO_ID
from shards.terminal import count_noun, listed

COCO_IMAGES = 82_783 + 40_504  # of train2014 and val2014, which state their photos


def warnings(
    registry: ImageRegistry, rows: list[ImageInfo], held_out: list[EvalImage], recipe: Recipe
) -> Iterator[str]:
    """Yields a line for each exclusion and each source with images of unknown photos."""
    images: list[ImageInfo | EvalImage] = [*rows, *held_out]
    stating = {registry.group(i.key) for i in images if i.photo_id or photo_id_of_key(i.key)}
    of_coco = {registry.group(row.same_as) for row in rows if row.same_as}

    def is_unknown(key: str) -> bool:
        group = registry.group(key)
        return group not in stating and (namespace_of(key) == "coco" or group in of_coco)

    yield from _of_exclusions(
        recipe, [(name, key) for name, key in registry.eval_images() if is_unknown(key)]
    )
    yield from _of_sources(recipe, [(row.source, row.key) for row in rows if is_unknown(row.key)])
    yield from _of_namespaces(
        recipe, {i.key for i in images if i.photo_id and namespace_of(i.key) == "coco"}
    )


def _of_exclusions(recipe: Recipe, unknown: Iterable[tuple[str, str]]) -> Iterator[str]:
    sources = {name: source.image_ids() for name, source in recipe.sources.items()}
    for name, namespace, keys in _grouped(unknown):
        searched = _found_by_photo(
            recipe, recipe.exclude[name].image_ids().get(namespace), namespace, sources
        )
        if searched:
            names = ", ".join(f"sources.{source}" for source in searched)
            text = _text(namespace, keys)
            yield f"exclude.{name}: {text}, so they are not found by it in {names}"


def _of_sources(recipe: Recipe, unknown: Iterable[tuple[str, str]]) -> Iterator[str]:
    eval_sets = {name: exclusion.image_ids() for name, exclusion in recipe.exclude.items()}
    for name, namespace, keys in _grouped(unknown):
        if name not in recipe.sources:
            continue  # a table of [image_tables]
        named = _found_by_photo(
            recipe, recipe.sources[name].image_ids().get(namespace), namespace, eval_sets
        )
        if named:
            names = ", ".join(f"exclude.{eval_set}" for eval_set in named)
            yield (
                f"sources.{name}: {_text(namespace, keys)}, so they are not found by it as images "
                f"of {names}"
            )


def _of_namespaces(recipe: Recipe, known: set[str]) -> Iterator[str]:
    """Yields the exclusions of all images of COCO, if the tables do not have them all."""
    sources = {name: source.image_ids() for name, source in recipe.sources.items()}
    for name, exclusion in recipe.exclude.items():
        if exclusion.namespace != "coco" or len(known) >= COCO_IMAGES:
            continue
        searched = _found_by_photo(recipe, exclusion.image_ids()["coco"], "coco", sources)
        if searched:
            names = ", ".join(f"sources.{source}" for source in searched)
            images = count_noun(len(known), "image")
            yield (
                f"exclude.{name}: the tables state the {PHOTO_ID} of {images} of coco, and COCO "
                f"2014 has {COCO_IMAGES}; the others are not found by it in {names}"
            )


def _grouped(named: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, list[str]]]:
    """Yields each source or exclusion, a namespace, and its keys of it, all sorted."""
    groups: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name, key in named:
        groups[name, namespace_of(key)].add(key)
    for (name, namespace), keys in sorted(groups.items()):
        yield name, namespace, sorted(keys)


def _found_by_photo(
    recipe: Recipe, ids: Set[str] | None, namespace: str, others: Mapping[str, TableIds]
) -> list[str]:
    """Returns the names of others with images that only photos can join with a namespace's."""
    joins = recipe.joins()
    return [
        name
        for name, other in others.items()
        if ids is not None
        and not other.keys() <= {namespace, "coco"}
        and PHOTO_ID in joins.possible({namespace: ids}, other)
    ]


def _text(namespace: str, keys: list[str]) -> str:
    shared = "" if namespace == "coco" else " that are in COCO"
    return (
        f"no table states the {PHOTO_ID} of {len(keys)} of its images of {namespace}{shared} "
        f"({listed(keys)})"
    )
