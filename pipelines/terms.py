"""The terms of the published datasets that a recipe reads, by the catalog of published files.

A source is of a dataset if it reads a path that a file of the catalog provides. What the files
hold is not compared with the published ones: the terms are those of files with these names.
"""

from pipelines.fetch.catalog import Catalog
from pipelines.recipe import Recipe
from shards.format.licenses import UNKNOWN
from shards.format.manifest import Terms
from shards.terminal import listed

_NAMED = 3  # of the files that a title could list


def terms_of_sources(
    recipe: Recipe, catalog: Catalog, *, is_synthetic: bool
) -> dict[str, dict[str, Terms]]:
    """Returns the terms of the datasets of each source of a recipe, by their names.

    Files that the catalog does not list are the dataset "unknown". So are all files of
    ``is_synthetic`` data, which has the names of published files.
    """
    terms: dict[str, dict[str, Terms]] = {}
    for name, source in recipe.sources.items():
        paths = list(dict.fromkeys(recipe.paths_of(source)))
        files = [] if is_synthetic else catalog.files_for(paths)
        terms[name] = {}
        for dataset_name in dict.fromkeys(file.dataset for file in files):
            dataset = catalog.datasets[dataset_name]
            terms[name][dataset_name] = Terms(
                title=dataset.title,
                homepage=dataset.homepage,
                license=dataset.license,
                citation=dataset.citation,
            )
        unlisted = catalog.unknown(paths)
        if is_synthetic or unlisted:
            files_text = f"files of no dataset of the catalog: {listed(unlisted, _NAMED)}"
            title = "synthetic dataset" if is_synthetic else files_text
            terms[name][UNKNOWN] = Terms(
                title=title, homepage="", license=UNKNOWN, citation=UNKNOWN
            )
    return terms
