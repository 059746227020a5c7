"""Writes `docs/data.md` from the catalog of published files: `python docs/make_data_page.py`."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.fetch.catalog import PublishedFile, read_catalog
from pipelines.fetch.listing import download_text
from pipelines.recipe import PACKAGE, load
from schemas.toml_config import shipped_names

OUTPUT = Path(__file__).parent / "data.md"

HEAD = """\
# What to download

```
mdetr-build fetch RECIPE --root DOWNLOADS [--only coco,vg] [--dry-run]
mdetr-build RECIPE --root DOWNLOADS --output SHARDS
```

`fetch` lists what a recipe reads that is not in DOWNLOADS, with sizes, terms and addresses, and
downloads it: resumed where it stopped, from the next mirror if one fails, checked, and renamed when
it is whole. Files stay packed, as builds read them so (or unpacked in the same folder); only
MDETR's own annotation files are unpacked. The tables below are generated from its catalog,
[catalog.toml](../pipelines/fetch/catalog.toml), which also states where each address, size and
checksum is from. Except for three lists of ids, none of these files was downloaded to write it: an
address may be dead by now. What no source states is called unknown.

`DOWNLOADS/.mdetr-fetch.json` records size, sha256, address and date of each downloaded file, also
of those without a published checksum. To check that a second machine gets the same files, copy it
there as RECORD:

```
mdetr-build fetch RECIPE --root DOWNLOADS --expect RECORD     # fails where a file differs
```

`--catalog FILE` reads another catalog, for example with addresses of your own mirrors.

## By recipe
"""

TIMES = """\

No build of the full downloads was made. Synthetic annotations of the size of `mixed_no_coco` build
in 35 minutes on two cores, without images ([benchmarks](../benchmarks/README.md)). As an estimate,
not a measurement: a build takes as long as its slowest step, on two cores 2,900 region descriptions
of Visual Genome per second, or reading its images from disk. The shards take about as much disk as
the images in them.
"""


def page() -> str:
    """Returns the page."""
    return "\n".join([HEAD, *_recipes(), TIMES, "## By dataset", *_datasets(), ""])


def _recipes() -> list[str]:
    catalog = read_catalog()
    rows = []
    for name in shipped_names(PACKAGE):
        recipe = load(name)
        if name in catalog.synthetic_recipes:
            continue
        files = catalog.files_for(recipe.paths())
        datasets = ", ".join(dict.fromkeys(file.dataset for file in files))
        rows.append(f"| `{name}` | {download_text(recipe)} | {datasets} |")
    generated = ", ".join(f"`{name}`" for name in catalog.synthetic_recipes)
    return [
        "| recipe | size | datasets |",
        "|---|---|---|",
        *rows,
        "",
        f"{generated} read generated data (`mdetr-synthetic`): nothing is downloaded.",
    ]


def _datasets() -> list[str]:
    catalog = read_catalog()
    lines = []
    for name, dataset in catalog.datasets.items():
        files = [file for file in catalog.files if file.dataset == name]
        lines += [
            "",
            f"### {name}: {dataset.title}",
            f"<{dataset.homepage}>. Terms: {dataset.license}.",
            f"Cite: {dataset.citation}.",
            "",
            "| file | size | checksum | from |",
            "|---|---|---|---|",
            *(_row(file) for file in files),
        ]
    return lines


def _row(file: PublishedFile) -> str:
    checksums = " and ".join(kind for kind in ("sha256", "md5") if getattr(file, kind))
    source = f"by hand: {file.by_hand}" if file.by_hand else _links(file.addresses)
    return f"| `{file.path}` | {file.size_text} | {checksums or 'unknown'} | {source} |"


def _links(addresses: Sequence[str]) -> str:
    return " ".join(f"[{number}]({address})" for number, address in enumerate(addresses, 1))


if __name__ == "__main__":
    OUTPUT.write_text(page(), encoding="utf-8")
