"""A summary of a shard set, from its manifest and tables only, and its terminal output."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from schemas import Strength
from shards.format.exclusion_counts import ExclusionCounts
from shards.format.licenses import LicenseEntry
from shards.format.manifest import Manifest, Terms
from shards.format.source_counts import Counts, SourceCounts
from shards.format.stats import DatasetStats, Stats
from shards.inspection.recipe import max_caption_length
from shards.reading.tables import SetTables
from shards.terminal import exclusion_rows, printable, source_rows, table_row

MAX_REASONS = 12  # rejection reasons that the terminal table lists
NARROW, WIDE = 25, 44  # widths of the first column

#: The rows of the table of splits: label, field of `SplitSummary`, format.
SPLIT_ROWS: list[tuple[str, str, str]] = [
    ("images", "images", ",d"),
    ("captions (pairs)", "captions", ",d"),
    ("sentences", "sentences", ",d"),
    ("regions", "regions", ",d"),
    ("questions", "questions", ",d"),
    ("captions per image", "captions_per_image", ".2f"),
    ("sentences per caption", "sentences_per_caption", ".2f"),
    ("characters per caption", "characters_per_caption", ".1f"),
    ("... of the allowed length", "length_ratio", ".1%"),
    ("words per caption", "words_per_caption", ".1f"),
    ("boxes per caption", "boxes_per_caption", ".2f"),
    ("captions without boxes", "captions_without_boxes", ".1%"),
    ("box area / image area", "box_area", ".1%"),
    ("width / (width + height)", "box_width", ".1%"),
    ("bytes per pair", "bytes_per_pair", ",.0f"),
]


class SplitSummary(msgspec.Struct):
    """The counts and means of a split; a mean over nothing is None."""

    images: int
    captions: int
    sentences: int
    regions: int
    questions: int
    captions_per_image: float | None
    sentences_per_caption: float | None
    characters_per_caption: float | None
    length_ratio: float | None  # mean caption length / the recipe's max_length
    words_per_caption: float | None
    boxes_per_caption: float | None
    captions_without_boxes: float | None  # as a ratio of the captions
    box_area: float | None  # mean ratio of box area to image area
    box_width: float | None  # mean of width / (width + height)
    bytes_per_pair: float | None
    datasets: dict[str, DatasetStats]
    absent: dict[Strength, dict[str, int]]  # phrases that name nothing in their image, by reason


class ExclusionCount(msgspec.Struct):
    """The numbers of images and captions that an evaluation set excluded from a split.

    ``join`` is how the duplicates were identified. An image counts for each set and join.
    """

    split: str
    eval_set: str
    join: str
    images: int
    captions: int


class RejectionCount(msgspec.Struct):
    """The number of records that were lost for one reason, and the number of its errors.

    An error may lose no record: only a box of a caption, or a row of a table.
    """

    source: str
    reason: str
    records: int
    errors: int


class ShardSetSummary(msgspec.Struct):
    """The contents of a shard set, the data that was left out, and the reasons."""

    name: str
    recipe_sha256: str
    code_version: str
    bytes: int
    splits: dict[str, SplitSummary]
    sources: dict[str, SourceCounts]
    exclusions: dict[str, ExclusionCounts]
    excluded: list[ExclusionCount]
    rejected: list[RejectionCount]
    warnings: list[str]
    licenses: list[LicenseEntry]
    terms: dict[str, dict[str, Terms]]  # of the datasets of each source
    absent: dict[str, Counts]  # what became of the absent phrases of each source that states any


def summarize(manifest: Manifest, tables: SetTables) -> ShardSetSummary:
    """Returns the summary of a shard set; nothing else of the set is read."""
    return ShardSetSummary(
        name=manifest.name,
        recipe_sha256=manifest.recipe_sha256,
        code_version=manifest.code_version,
        bytes=sum(entry.bytes for entry in manifest.entries()),
        splits={
            split: _summarize_split(manifest, split, stats) for split, stats in tables.stats.items()
        },
        sources=manifest.sources,
        exclusions=manifest.exclusions,
        excluded=list(_exclusion_counts(_excluded_images(tables.excluded))),
        rejected=list(_rejection_counts(tables.rejected)),
        warnings=manifest.warnings,
        licenses=manifest.licenses,
        terms=manifest.terms,
        absent=manifest.absent or {},
    )


def exclusions_by_namespace(excluded: pa.Table) -> dict[str, list[ExclusionCount]]:
    """Returns the exclusions by the namespace of the image keys: ``coco``, ``vg``, ``flickr30k``.

    ``excluded`` is excluded.parquet.
    """
    table = _excluded_images(excluded)
    namespaces = pc.replace_substring_regex(table["image"], "/.*", "")
    return {
        namespace: list(_exclusion_counts(table.filter(pc.equal(namespaces, namespace))))
        for namespace in sorted(namespaces.unique().to_pylist())
    }


def _excluded_images(table: pa.Table) -> pa.Table:
    return table.filter(table["excluded"])  # images that are only reported are in the shards


def _summarize_split(manifest: Manifest, split: str, stats: Stats) -> SplitSummary:
    size = sum(entry.bytes for entry in manifest.shards if entry.split == split)
    characters = _ratio(stats.characters, stats.captions)
    max_length = max_caption_length(manifest.recipe)
    area, width = stats.box_area_percent.mean(), stats.box_width_percent.mean()
    return SplitSummary(
        images=stats.images,
        captions=stats.captions,
        sentences=stats.sentences,
        regions=stats.regions,
        questions=stats.questions,
        captions_per_image=_ratio(stats.captions, stats.images),
        sentences_per_caption=_ratio(stats.sentences, stats.captions),
        characters_per_caption=characters,
        length_ratio=characters / max_length if characters is not None and max_length else None,
        words_per_caption=stats.words_per_caption.mean(),
        boxes_per_caption=_ratio(stats.regions, stats.captions),
        captions_without_boxes=_ratio(stats.captions_without_boxes, stats.captions),
        box_area=None if area is None else area / 100,
        box_width=None if width is None else width / 100,
        bytes_per_pair=_ratio(size, stats.captions),
        datasets=stats.datasets,
        absent=stats.absent.phrases if stats.absent else {},
    )


def _ratio(count: int, total: int) -> float | None:
    return count / total if total else None


def _exclusion_counts(table: pa.Table) -> Iterator[ExclusionCount]:
    counts = [("image", "count"), ("captions", "sum")]
    for row in _group_by(table, ["split", "eval_set", "join"], counts):
        yield ExclusionCount(
            split=row["split"],
            eval_set=row["eval_set"],
            join=row["join"],
            images=row["image_count"],
            captions=row["captions_sum"],
        )


def _rejection_counts(table: pa.Table) -> Iterator[RejectionCount]:
    """Yields the reasons, those that lost the most records first."""
    rows = _group_by(table, ["source", "reason"], [("records", "sum"), ("record", "count")])
    for row in sorted(rows, key=lambda row: (-row["records_sum"], -row["record_count"])):
        yield RejectionCount(
            source=row["source"],
            reason=row["reason"],
            records=row["records_sum"],
            errors=row["record_count"],
        )


def _group_by(
    table: pa.Table, keys: list[str], counts: list[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Returns the aggregates of a table grouped by some of its columns, sorted by them."""
    groups = table.group_by(keys).aggregate(counts)
    rows: list[dict[str, Any]] = groups.sort_by([(key, "ascending") for key in keys]).to_pylist()
    return rows


def summary_table(summary: ShardSetSummary) -> str:
    """Returns the summary as text: splits side by side, then datasets, sources and exclusions."""
    lines = [_heading(summary), "", table_row("", summary.splits, NARROW)]
    for label, field, form in SPLIT_ROWS:
        values = (_format(split, field, form) for split in summary.splits.values())
        lines.append(table_row(label, values, NARROW))
    columns = ("images", "captions", "sentences", "regions", "questions")
    for name, split in summary.splits.items():
        lines += ["", table_row(f"{name}: dataset", columns, NARROW)]
        for dataset, counts in split.datasets.items():
            lines.append(table_row(dataset, (getattr(counts, c) for c in columns), NARROW))
    lines += ["", *source_rows("source", summary.sources, NARROW), *_absent_rows(summary)]
    lines += ["", *exclusion_rows("exclusion: images", summary.exclusions, NARROW)]
    lines += ["", *_exclusion_rows(summary), "", *_rejection_rows(summary)]
    lines += ["", *_license_rows(summary)]
    lines += [
        "" if summary.warnings else "no warnings",
        *(f"warning: {w}" for w in summary.warnings),
    ]
    return "\n".join(map(printable, lines))


def comparison_table(first: ShardSetSummary, second: ShardSetSummary) -> str:
    """Returns two summaries as text, side by side; a split or dataset that one lacks is a dash."""
    lines = [f"first: {_heading(first)}", f"second: {_heading(second)}"]
    for name in dict.fromkeys([*first.splits, *second.splits]):
        splits = first.splits.get(name), second.splits.get(name)
        lines += ["", table_row(name, ["first", "second"], NARROW)]
        for label, field, form in SPLIT_ROWS:
            lines.append(
                table_row(label, (_format(split, field, form) for split in splits), NARROW)
            )
        datasets = [split.datasets if split else {} for split in splits]
        for dataset in dict.fromkeys([*datasets[0], *datasets[1]]):
            sentences = [d[dataset].sentences if dataset in d else "-" for d in datasets]
            lines.append(table_row(f"sentences of {dataset}", sentences, NARROW))
    return "\n".join(map(printable, lines))


def _heading(summary: ShardSetSummary) -> str:
    size = f"{summary.bytes / 1e6:,.1f} MB"
    recipe = summary.recipe_sha256[:12]
    return f"{summary.name}, recipe {recipe}, code {summary.code_version}, {size}"


def _format(split: SplitSummary | None, field: str, form: str) -> str:
    value = None if split is None else getattr(split, field)
    return "-" if value is None else format(value, form)


def _exclusion_rows(summary: ShardSetSummary) -> Iterator[str]:
    yield table_row("excluded from split, eval set, join", ["images", "captions"], WIDE)
    for count in summary.excluded:
        label = f"{count.split}, {count.eval_set}, {count.join}"
        yield table_row(label, [count.images, count.captions], WIDE)
    if not summary.excluded:
        yield "none"


def absent_phrases(summary: ShardSetSummary) -> list[tuple[str, list[int]]]:
    """Returns strength and reason of absent phrases, each with the count of every split."""
    kinds = {
        (strength, reason)
        for split in summary.splits.values()
        for strength, counts in split.absent.items()
        for reason in counts
    }
    return [
        (
            f"{strength}: {reason}",
            [split.absent.get(strength, {}).get(reason, 0) for split in summary.splits.values()],
        )
        for strength, reason in sorted(kinds)
    ]


def _absent_rows(summary: ShardSetSummary) -> Iterator[str]:
    """Yields the absent phrases of each split, and what became of those that sources state."""
    if rows := absent_phrases(summary):
        yield ""
        yield table_row("absent phrases", summary.splits, NARROW)
        for label, counts in rows:
            yield table_row(label, counts, NARROW)
    if summary.absent:
        columns = Counts.__struct_fields__
        yield ""
        yield table_row("absent: source", [name.replace("_", " ") for name in columns], NARROW)
        for source, counted in summary.absent.items():
            yield table_row(source, [getattr(counted, name) for name in columns], NARROW)


def _rejection_rows(summary: ShardSetSummary) -> Iterator[str]:
    yield table_row("rejected: reason", ["records", "errors"], WIDE)
    for count in summary.rejected[:MAX_REASONS]:
        label = f"{count.source}: {count.reason}"
        yield table_row(label, [count.records, count.errors], WIDE)
    if not summary.rejected:
        yield "none"
    if len(summary.rejected) > MAX_REASONS:
        yield f"and {len(summary.rejected) - MAX_REASONS} more reasons: see --json"


def _license_rows(summary: ShardSetSummary) -> Iterator[str]:
    """Yields the licenses of images, and what the datasets of each source state."""
    yield table_row("license of images", ["images", "stated by"], WIDE)
    for entry in summary.licenses:
        yield table_row(entry.name, [entry.images, ", ".join(entry.stated_by) or "-"], WIDE)
    for source, terms in summary.terms.items():
        for name, dataset in terms.items():
            yield f"terms of {source}, {name}: {dataset.license}"
