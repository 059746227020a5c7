"""Checks of a recipe's exclusions, before any work: which of them could find an image, and how."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from pipelines.dedup.eval_exclusion import Exclusion
from pipelines.dedup.joins import Joins, MissingTable
from pipelines.sources.base import Source
from schemas.image_ids import NAMESPACES


def errors(
    exclude: Mapping[str, Exclusion], sources: Mapping[str, Source], joins: Joins, by_hash: bool
) -> Iterator[str]:
    """Yields a line for each exclusion that cannot name an image of any source, and why.

    ``by_hash``: whether near-duplicates of the images that an exclusion has are excluded, too, so
    that no id needs to join them.
    """
    of_sources = {namespace for source in sources.values() for namespace in source.image_ids()}
    datasets = sorted(NAMESPACES | of_sources)
    for name, exclusion in exclude.items():
        dataset, line = exclusion.dataset, f"exclude.{name}: "
        if not exclusion.paths() and not exclusion.namespace:
            yield line + "it names no images: it has neither files nor a namespace"
        elif dataset and dataset not in datasets:
            yield line + f"of = {dataset!r} is no dataset; known are {', '.join(datasets)}"
        elif dataset and not exclusion.ids:
            yield line + f"of = {dataset!r} is the dataset of `ids`, and there are none"
        elif exclusion.ids and not dataset:
            yield line + (
                'state the dataset of its ids, as of = "coco"; the sources have images of '
                + ", ".join(sorted(of_sources))
            )
        elif not (by_hash and exclusion.images):
            yield from (line + error for error in _impossible(exclusion, sources, joins))


def _impossible(exclusion: Exclusion, sources: Mapping[str, Source], joins: Joins) -> Iterator[str]:
    """Yields why images of a namespace that an exclusion names can be in no source."""
    of_sources = {namespace for source in sources.values() for namespace in source.image_ids()}
    for namespace, ids in exclusion.image_ids().items():
        named = {namespace: ids}
        tables = [source.image_ids() for source in sources.values()]
        if ids is None or any(joins.possible(named, table) for table in tables):
            continue
        remedies = {m.remedy for table in tables for m in joins.missing(named, table)}
        yield (
            f"its images of {namespace!r} can be found in no source: the sources have images of "
            f"{', '.join(sorted(of_sources))}"
            + (
                f", and no table links them; see [image_tables] {remedies.pop()}"
                if remedies
                else ""
            )
        )


def warnings(
    exclude: Mapping[str, Exclusion], sources: Mapping[str, Source], joins: Joins
) -> Iterator[str]:
    """Yields a line for each id that no table states, and that would find more images."""
    eval_sets: dict[MissingTable, dict[str, None]] = defaultdict(dict)
    searched: dict[MissingTable, dict[str, None]] = defaultdict(dict)
    for name, exclusion in exclude.items():
        for source_name, source in sources.items():
            for table in joins.missing(exclusion.image_ids(), source.image_ids()):
                eval_sets[table][f"exclude.{name}"] = None
                searched[table][f"sources.{source_name}"] = None
    for table in sorted(eval_sets):
        yield (
            f"no table states the {table.id} of images of {table.namespace}, so images of "
            f"{', '.join(eval_sets[table])} are not found by it in {', '.join(searched[table])}; "
            f"[image_tables] {table.remedy} would state it"
        )
