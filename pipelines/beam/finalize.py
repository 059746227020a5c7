"""The last step of a build: tables, stats and manifest from the summaries of all shards."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator

import apache_beam as beam
import msgspec
from apache_beam.io.filesystems import FileSystems

from pipelines.beam.check_joins import JoinReport
from pipelines.beam.dofns import Build
from pipelines.beam.serialization import unpack
from pipelines.beam.shard_builder import ShardSummary
from pipelines.captions.parsing import model_name_and_version
from pipelines.io.beam_files import atomic_write, scratch_folder
from pipelines.recipe import Recipe
from schemas import Excluded, Rejected, arrow
from schemas.package_version import package_version
from shards.format import index
from shards.format import manifest as mf
from shards.format.exclusion_counts import ExclusionCounts, JoinCounts
from shards.format.index import IndexRow
from shards.format.manifest import Role
from shards.format.source_counts import SourceCounts, total
from shards.format.stats import Stats, as_json
from shards.format.tables import encode_index, encode_table
from shards.reading.tables import EXCLUDED, REJECTED, STATS
from shards.terminal import count_noun


class TooManyRejectedError(Exception):
    """More of a source's records were rejected than the recipe allows."""


class LeakError(Exception):
    """A photo is both in a split that is trained on and in one that is evaluated on."""


class WriteManifest(beam.DoFn):
    """Writes the tables and, last, the manifest from the summaries of all shards."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._code_version = package_version()  # of the launcher, not of a worker

    def process(
        self, element: tuple[bytes, Iterable[bytes]], join_reports: Iterable[bytes]
    ) -> Iterator[str]:
        """Writes all files but the shards, and yields the manifest's name.

        Raises:
            TooManyRejectedError: More of a source's records were rejected than the recipe allows.
            LeakError: An image is both in a split that is trained on and in another.
        """
        recipe, output = self._build.recipe, self._build.output
        [join_report] = (unpack(content, JoinReport) for content in join_reports)
        order = list(recipe.splits)
        summaries = sorted(
            (unpack(content, ShardSummary) for content in element[1]),
            key=lambda summary: (order.index(summary.entry.split), summary.shard),
        )
        counts = _total_counts(summaries)
        rejected = sorted((r for s in summaries for r in s.rejected), key=msgspec.structs.astuple)
        _check_limit(counts, rejected, recipe.reject_limit)
        _check_no_leak(recipe, summaries)
        excluded = sorted((e for s in summaries for e in s.excluded), key=msgspec.structs.astuple)
        stats = {split: Stats() for split in order}
        for summary in summaries:
            stats[summary.entry.split].merge(summary.stats)
        files = [
            _write(
                output,
                index.NAME,
                encode_index(unpack(s.rows, list[IndexRow]) for s in summaries),
            ),
            _write(output, REJECTED, encode_table(rejected, arrow.REJECTED)),
            _write(output, EXCLUDED, encode_table(excluded, arrow.EXCLUDED)),
            _write(output, STATS, as_json(stats)),
        ]
        manifest = mf.Manifest(
            name=recipe.name,
            recipe_sha256=self._build.as_written.sha256(),
            recipe=self._build.as_written.resolved(),
            code_version=self._code_version,
            language_model=_language_model(recipe),
            roles={name: split.role for name, split in recipe.splits.items()},
            totals={name: _totals(split_stats) for name, split_stats in stats.items()},
            sources=counts,
            exclusions=_with_excluded(join_report.exclusions, excluded),
            warnings=join_report.warnings,
            shards=[s.entry for s in summaries],
            files=files,
        )
        yield _write(output, mf.NAME, mf.encode(manifest)).file


def _total_counts(summaries: Iterable[ShardSummary]) -> dict[str, SourceCounts]:
    by_source: dict[str, list[SourceCounts]] = {}
    for summary in summaries:
        for source, counts in summary.sources.items():
            by_source.setdefault(source, []).append(counts)
    return {source: total(counts) for source, counts in sorted(by_source.items())}


def _check_limit(counts: dict[str, SourceCounts], rejected: list[Rejected], limit: float) -> None:
    for source, count in counts.items():
        if count.rejected <= limit * count.read:
            continue
        reasons: Counter[str] = Counter()
        for row in rejected:
            if row.source == source:
                reasons[row.reason] += row.records
        top = ", ".join(f"{reason} ({n})" for reason, n in reasons.most_common(3))
        example = next(r for r in rejected if r.source == source and r.records)
        raise TooManyRejectedError(
            f"{count.rejected} of {count.read} records of {source} were rejected, more than the "
            f"recipe's reject_limit of {limit:.2%}: {top}; for example {example.record}: "
            f"{example.reason} {example.detail}"
        )


def _check_no_leak(recipe: Recipe, summaries: list[ShardSummary]) -> None:
    """Raises `LeakError` if an image, or another of its photo, is in splits of both roles."""

    def images(role: Role) -> Iterator[tuple[str, str, str]]:
        """Yields split, key and group of each image of a role."""
        for summary in summaries:
            split = summary.entry.split
            if recipe.splits[split].role == role:
                groups = unpack(summary.groups, list[str])
                for row, group in zip(unpack(summary.rows, list[IndexRow]), groups, strict=True):
                    yield split, row.key, group

    evaluated = {group: (split, key) for split, key, group in images("eval")}
    leaks = []
    for split, key, group in images("train") if evaluated else ():
        eval_split, eval_key = evaluated.get(group, ("", ""))
        if eval_split:
            other = "" if eval_key == key else f" as {eval_key}, of the same photo"
            leaks.append(f"{key} (in {split}, and in {eval_split}{other})")
    if leaks:
        more = f", and {len(leaks) - 5} more" if len(leaks) > 5 else ""
        raise LeakError(
            f"{count_noun(len(leaks), 'image')} would be both trained and evaluated on: "
            f"{', '.join(sorted(leaks)[:5])}{more}; an [exclude.NAME] with the images of the "
            "evaluation splits keeps them out of what is trained on"
        )


def _with_excluded(
    exclusions: dict[str, ExclusionCounts], excluded: list[Excluded]
) -> dict[str, ExclusionCounts]:
    """Returns the counts of exclusions with what they excluded, by join."""
    captions: dict[tuple[str, str], dict[tuple[str, str], int]] = {}
    for row in excluded:
        if row.excluded:  # several images of a set may be the same as one of a split
            of_join = captions.setdefault((row.eval_set, row.join), {})
            of_join[row.split, row.image] = row.captions
    for (eval_set, join), of_join in sorted(captions.items()):
        counts = JoinCounts(images=len(of_join), captions=sum(of_join.values()))
        exclusions[eval_set].excluded[join] = counts
    return exclusions


def _totals(stats: Stats) -> dict[str, int]:
    return {
        "images": stats.images,
        "captions": stats.captions,
        "sentences": stats.sentences,
        "characters": stats.characters,
        "regions": stats.regions,
        "questions": stats.questions,
    }


def _language_model(recipe: Recipe) -> dict[str, str]:
    """Returns name and version of the language model, if any source uses it."""
    if not recipe.uses_parser():
        return {}
    name, version = model_name_and_version()
    return {"name": name, "version": version}


def _write(output: str, name: str, content: bytes) -> mf.FileEntry:
    with atomic_write(FileSystems.join(output, name), scratch_folder(output)) as file:
        file.write(content)
    return mf.FileEntry(name, len(content), hashlib.sha256(content).hexdigest())
