"""The card of an exported dataset: what it holds, what it was made from, and what was left out."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from schemas.licenses import is_web_address
from shards.export.job import ExportJob
from shards.format.licenses import UNKNOWN
from shards.format.manifest import Manifest
from shards.format.source_counts import Counts
from shards.terminal import printable


class SplitCounts(NamedTuple):
    """The counts of what was exported of a split."""

    files: int
    images: int
    captions: int
    boxes: int


def dataset_card(job: ExportJob, splits: dict[str, SplitCounts]) -> str:
    """Returns ``README.md``: front matter for Hugging Face ``datasets``, and a description.

    ``splits`` has those that were written. Counts of sources, licenses and exclusions are those of
    the manifest, whatever was exported.
    """
    manifest = job.shards.manifest
    lines = [
        "---",
        f"pretty_name: {json.dumps(manifest.name)}",
        f"license: {'unknown' if _has_unknown_terms(manifest) else 'other'}",
        "task_categories: [object-detection, zero-shot-object-detection]",
        "configs:",
        "- config_name: default",
        "  data_files:",
        *(f"  - {{split: {json.dumps(name)}, path: data/{name}-*.parquet}}" for name in splits),
        "---",
        "",
        f"# {_text(manifest.name)}",
        "",
        "Images with captions, boxes, and the character spans that name each box. A row is an",
        "image: `captions[].regions[]` has `box` (x0, y0, x1, y1 in pixels) and `tokens_positive`",
        "(half-open character offsets into `captions[].text`); `captions[].provenance[]` lists the",
        "records of the published datasets that a caption was made of. `licenses` are the licenses",
        'that the datasets state of an image, "unknown" if none does, and `url` is where it is on',
        "the web.",
        "",
        f"Recipe {manifest.recipe_sha256}, code {_text(manifest.code_version)}.",
        "",
        *_splits(job, splits),
        "",
        *_sources(manifest),
        "",
        *_licenses(manifest),
        "",
        *_exclusions(manifest),
    ]
    return "\n".join(lines) + "\n"


def _has_unknown_terms(manifest: Manifest) -> bool:
    terms = [dataset for datasets in manifest.terms.values() for dataset in datasets.values()]
    return not terms or any(dataset.license == UNKNOWN for dataset in terms)


def _splits(job: ExportJob, splits: dict[str, SplitCounts]) -> Iterator[str]:
    yield "## Splits"
    yield ""
    yield from _table(
        ["split", "to be", "files", "images", "captions", "boxes"],
        (
            [name, "trained on" if job.shards.manifest.roles[name] == "train" else "evaluated on"]
            + [f"{count:,}" for count in counts]
            for name, counts in splits.items()
        ),
    )
    if job.no_coco:
        yield ""
        yield "The images of COCO were left out; the counts below are those before that."


def _sources(manifest: Manifest) -> Iterator[str]:
    yield "## Sources"
    yield ""
    yield "What became of the captions of each source, and of the boxes that they refer to:"
    yield ""
    columns = [name.replace("_", " ") for name in Counts.__struct_fields__]
    rows = [
        [f"{source}: {noun}", *(f"{getattr(each, name):,}" for name in Counts.__struct_fields__)]
        for source, counts in manifest.sources.items()
        for noun, each in (("captions", counts), ("boxes", counts.boxes))
    ]
    yield from _table(["source", *columns], rows)
    yield ""
    yield "Images and annotations are under the licenses of the datasets that a source reads:"
    yield ""
    rows = [
        [source, _link(dataset.title, dataset.homepage), dataset.license, dataset.citation]
        for source, datasets in manifest.terms.items()
        for dataset in datasets.values()
    ]
    yield from _table(["source", "dataset", "license", "cite"], rows)


def _licenses(manifest: Manifest) -> Iterator[str]:
    yield "## Licenses of images"
    yield ""
    rows = [
        [_link(e.name or e.url, e.url), f"{e.images:,}", ", ".join(e.stated_by)]
        for e in manifest.licenses
    ]
    yield from _table(["license", "images", "stated by"], rows)


def _exclusions(manifest: Manifest) -> Iterator[str]:
    yield "## Excluded"
    yield ""
    if not manifest.exclusions:
        yield "No image of an evaluation set was excluded from what is trained on."
    else:
        yield "Images of evaluation sets that were left out of the splits to be trained on:"
        yield ""
        rows = [
            [name, f"{counts.named:,}", join, f"{of_join.images:,}", f"{of_join.captions:,}"]
            for name, counts in manifest.exclusions.items()
            for join, of_join in counts.excluded.items()
        ]
        rows += [
            [name, f"{counts.named:,}", "", "0", "0"]
            for name, counts in manifest.exclusions.items()
            if not counts.excluded
        ]
        columns = ["evaluation set", "images it names", "found by", "images", "captions"]
        yield from _table(columns, sorted(rows))
    for warning in manifest.warnings:
        yield ""
        yield f"Warning: {_text(warning)}."


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield f"| {' | '.join(map(_text, row))} |"


class _Markup(str):
    """Text that is Markdown already."""


def _link(text: str, url: str) -> str:
    has_link = is_web_address(url) and not set("()[]|") & set(url)
    return _Markup(f"[{_text(text)}]({url})") if has_link else text


def _text(text: str) -> str:
    r"""Returns a text of raw files such that Markdown shows it as it is, on one line.

    >>> _text("a|b <i>")
    'a\\|b \\<i\\>'
    """
    if isinstance(text, _Markup):
        return text
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char for char in printable(text))
