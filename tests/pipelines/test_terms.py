"""The terms of the datasets that a recipe reads."""

import msgspec

from pipelines import recipe as recipes
from pipelines.fetch.catalog import read_catalog
from pipelines.terms import terms_of_sources
from shards.format.licenses import UNKNOWN

CATALOG = read_catalog()


def test_each_source_of_a_recipe_has_the_terms_of_all_datasets_that_it_reads() -> None:
    recipe = recipes.load("mdetr_pretrain")
    terms = terms_of_sources(recipe, CATALOG, is_synthetic=False)
    assert {name: list(datasets) for name, datasets in terms.items()} == {
        "coco": ["coco", "refcoco"],
        "flickr30k": ["flickr30k"],
        "gqa": ["gqa"],
        "vg": ["vg"],
    }
    for datasets in terms.values():
        for name, stated in datasets.items():
            assert msgspec.to_builtins(stated) == msgspec.to_builtins(CATALOG.datasets[name])


def test_terms_of_files_that_the_catalog_does_not_list_are_unknown() -> None:
    recipe = recipes.load("mdetr_pretrain")
    vg = msgspec.structs.replace(recipe.sources["vg"], region_graphs="own/region_graphs.json")
    recipe = msgspec.structs.replace(recipe, sources={"vg": vg})
    terms = terms_of_sources(recipe, CATALOG, is_synthetic=False)["vg"]
    assert list(terms) == ["vg", UNKNOWN]
    assert (terms[UNKNOWN].license, terms[UNKNOWN].citation) == (UNKNOWN, UNKNOWN)


def test_nothing_is_known_of_synthetic_data_though_its_files_have_published_names() -> None:
    terms = terms_of_sources(recipes.load("demo"), CATALOG, is_synthetic=True)
    assert {tuple(datasets) for datasets in terms.values()} == {(UNKNOWN,)}
