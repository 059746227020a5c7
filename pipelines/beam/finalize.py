"""The last steps of a build: tables, stats and manifest from the summaries of all shards."""

from collections.abc import Iterable, Iterator

import apache_beam as beam
import msgspec
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from pipelines.beam import same_files
from pipelines.beam.check_joins import JoinReport
from pipelines.beam.conservation import check_conservation
from pipelines.beam.dofns import METRICS, Build, roots_name
from pipelines.beam.emptiness import check_written
from pipelines.beam.output_files import write_file, write_rejected
from pipelines.beam.reading import ReadingSummary, RejectedRows
from pipelines.beam.rejection_limit import RejectionLimit, TooManyRejectedError
from pipelines.beam.serialization import unpack
from pipelines.beam.shard_builder import ShardPhotos, ShardSummary
from pipelines.captions.parsing import model_name_and_version
from pipelines.io.lease import release
from pipelines.io.raw_files import open_binary
from pipelines.output_folder import OutputFolder
from pipelines.recipe import Recipe
from schemas import Excluded, Rejected, arrow
from schemas.package_version import package_version
from shards.format import manifest as mf
from shards.format.exclusion_counts import ExclusionCounts, JoinCounts
from shards.format.licenses import total_licenses
from shards.format.source_counts import Counts, SourceCounts, total
from shards.format.stats import Stats, as_json
from shards.format.tables import encode_table
from shards.reading.tables import EXCLUDED, REJECTED, STATS
from shards.terminal import count_noun, listed


class LeakError(Exception):
    """A photo is both in a split that is trained on and in one that is evaluated on."""


class FindLeaks(beam.DoFn):
    """Finds images that are trained on, and of whose photo one is evaluated on."""

    def setup(self) -> None:
        """Begins without the photos that are evaluated on, which the first shard brings."""
        self._evaluated: dict[str, tuple[str, str]] = {}  # split and key, by photo

    def process(self, trained_on: bytes, evaluated_on: Iterable[bytes]) -> Iterator[str]:
        """Yields a description of each leak.

        Args:
            trained_on: The packed `ShardPhotos` of a shard that is trained on.
            evaluated_on: Those of all shards that are evaluated on.
        """
        if not self._evaluated:
            for content in evaluated_on:
                shard = unpack(content, ShardPhotos)
                for key, photo in zip(shard.keys, shard.photos, strict=True):
                    known = self._evaluated.get(photo, (shard.split, key))
                    self._evaluated[photo] = min(known, (shard.split, key))
        shard = unpack(trained_on, ShardPhotos)
        for key, photo in zip(shard.keys, shard.photos, strict=True):
            if photo in self._evaluated:
                eval_split, eval_key = self._evaluated[photo]
                other = "" if eval_key == key else f" as {eval_key}, of the same photo"
                yield f"{key} (in {shard.split}, and in {eval_split}{other})"


class WriteManifest(beam.DoFn):
    """Writes the tables and, last, the manifest from the summaries of all shards."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._code_version = package_version()  # of the launcher, not of a worker

    def process(
        self,
        element: tuple[bytes, Iterable[bytes]],
        join_reports: Iterable[bytes],
        leaks: Iterable[str],
        readings: Iterable[bytes],
        rejected_rows: Iterable[bytes],
    ) -> Iterator[str]:
        """Writes all files but those of shards, and yields the manifest's name.

        Args:
            element: The packed summaries of all shards.
            leaks: What `FindLeaks` found.
            readings: The packed `ReadingSummary`.
            rejected_rows: The packed `RejectedRows` of reading.

        Raises:
            TooManyRejectedError: More of a source was rejected than the recipe allows.
            ConservationError: A caption or a box has no outcome, or several.
            EmptyError: A split or a source has no captions.
            LeakError: An image is both in a split that is trained on and in another.
            LeaseLostError: Another build has taken over the lease that this one held.
        """
        recipe, output, lease = self._build.recipe, self._build.output, self._build.lease
        [join_report] = (unpack(content, JoinReport) for content in join_reports)
        order = list(recipe.splits)
        summaries = sorted(
            (unpack(content, ShardSummary) for content in element[1]),
            key=lambda summary: (order.index(summary.entry.split), summary.shard),
        )
        [reading] = [unpack(content, ReadingSummary) for content in readings]
        [rows] = [unpack(content, RejectedRows) for content in rejected_rows]
        rows.others += [row for summary in summaries for row in summary.rejected]
        written = _total_counts(summaries)
        limit = RejectionLimit(recipe.reject_limit, reading.counts)
        for source, source_counts in written.items():
            more = source_counts.rejected
            if limit.is_exceeded(source, more):
                listed_in = write_rejected(output, rows, lease)
                raise TooManyRejectedError(limit.message(source, rows, listed_in, more))
        counts = {
            source: total([read, written.get(source, SourceCounts())])
            for source, read in sorted(reading.counts.items())
        }
        for source, source_counts in counts.items():
            _report_counts(source, source_counts)
        rejected = sorted(rows.all(), key=msgspec.structs.astuple)
        _check_no_leak(sorted(leaks))
        excluded = sorted((e for s in summaries for e in s.excluded), key=msgspec.structs.astuple)
        absent = _absent_counts(reading, summaries)
        stats = {split: Stats() for split in order}
        for summary in summaries:
            stats[summary.entry.split].merge(summary.stats)
        check_conservation(
            counts,
            sentences=sum(split_stats.sentences for split_stats in stats.values()),
            regions=sum(split_stats.regions for split_stats in stats.values()),
            absent=absent,
            proven=sum(split_stats.proven_phrases() for split_stats in stats.values()),
        )
        check_written(recipe, counts, {name: s.captions for name, s in stats.items()})
        licenses, ids = total_licenses(summary.licenses for summary in summaries)
        for summary, ids_of_shard in zip(summaries, ids, strict=True):
            summary.entry.licenses = ids_of_shard
        files = [
            write_file(output, REJECTED, encode_table(rejected, arrow.REJECTED), lease),
            write_file(output, EXCLUDED, encode_table(excluded, arrow.EXCLUDED), lease),
            write_file(output, STATS, as_json(stats), lease),
        ]
        exclusions = _with_excluded(join_report.exclusions, excluded)
        repeated_files = same_files.same_files(summary.files for summary in summaries)
        manifest = mf.Manifest(
            name=recipe.name,
            recipe_sha256=self._build.as_written.sha256(),
            recipe=self._build.as_written.resolved(),
            code_version=self._code_version,
            language_model=language_model(recipe),
            roles={name: split.role for name, split in recipe.splits.items()},
            totals={name: _totals(split_stats) for name, split_stats in stats.items()},
            sources=counts,
            not_asked_for=reading.not_asked_for,
            exclusions=exclusions,
            same_files=repeated_files,
            warnings=[
                *join_report.warnings,
                *_exclusion_warnings(recipe, exclusions, rejected),
                *limit.warnings(counts),
                *same_files.warnings(repeated_files),
                *_license_warnings(summaries),
            ],
            licenses=licenses,
            terms=self._build.terms,
            absent=absent or msgspec.UNSET,
            shards=[s.entry for s in summaries],
            files=files,
        )
        yield write_file(output, mf.NAME, mf.encode(manifest), lease).file


class FinishOutput(beam.DoFn):
    """Deletes what earlier builds left in the output, when the manifest is written.

    It may run again, and after the launcher, which does the same when it waits.
    """

    def __init__(self, build: Build) -> None:
        self._build = build

    def process(self, name: str) -> Iterator[str]:
        """Yields the manifest's name.

        Raises:
            OutputFolderError: The folder cannot be written to.
            LeaseLostError: Another build has taken over the lease that this one held.
        """
        output, lease = self._build.output, self._build.lease
        with open_binary(FileSystems.join(output, name)) as file:
            manifest = mf.decode(file.read(), output)
        OutputFolder(output, self._build.as_written, lease).finish(manifest)
        if lease:
            release(lease, is_left=self._build.detached)
        yield name


def _report_counts(source: str, counts: SourceCounts) -> None:
    """Adds the counts of a source to Beam counters, which all runners show."""
    for name in Counts.__struct_fields__:
        Metrics.counter(METRICS, f"{source}: {name}").inc(getattr(counts, name))
        Metrics.counter(METRICS, f"{source}: boxes {name}").inc(getattr(counts.boxes, name))


def _total_counts(summaries: Iterable[ShardSummary]) -> dict[str, SourceCounts]:
    by_source: dict[str, list[SourceCounts]] = {}
    for summary in summaries:
        for source, counts in summary.sources.items():
            by_source.setdefault(source, []).append(counts)
    return {source: total(counts) for source, counts in sorted(by_source.items())}


def _absent_counts(reading: ReadingSummary, summaries: Iterable[ShardSummary]) -> dict[str, Counts]:
    """Returns what became of the absent phrases of each source that states any."""
    counts = dict(sorted(reading.absent.items()))
    for summary in summaries:
        for source, more in summary.absent.items():
            counts.setdefault(source, Counts()).add(more)
    return counts


def _check_no_leak(leaks: list[str]) -> None:
    """Raises `LeakError` if an image, or another of its photo, is in splits of both roles."""
    if leaks:
        raise LeakError(
            f"{count_noun(len(leaks), 'image')} would be both trained and evaluated on: "
            f"{listed(leaks)}; an [exclude.NAME] with the images of the "
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


def _exclusion_warnings(
    recipe: Recipe, exclusions: dict[str, ExclusionCounts], rejected: list[Rejected]
) -> Iterator[str]:
    """Yields the exclusions that excluded nothing, or whose images could not be hashed."""
    for name in sorted(recipe.exclusions_of_unique_images()):
        if exclusions[name].named and not exclusions[name].excluded:
            yield (
                f"exclude.{name}: none of the images that it names was excluded; are they ids of "
                "another dataset?"
            )
    for name in recipe.exclude:
        rows = [row for row in rejected if row.source == roots_name(name)]
        if rows:
            yield (
                f"exclude.{name}: near-duplicates of {count_noun(len(rows), 'image')} are not "
                f"found: {rows[0].reason}: {rows[0].detail}; see {REJECTED}"
            )


def _license_warnings(summaries: list[ShardSummary]) -> Iterator[str]:
    if several := sum(summary.several_licenses for summary in summaries):
        images = count_noun(several, "image")
        yield f"sources state different licenses of {images}: their index has all of them"


def _totals(stats: Stats) -> dict[str, int]:
    return {
        "images": stats.images,
        "captions": stats.captions,
        "sentences": stats.sentences,
        "characters": stats.characters,
        "regions": stats.regions,
        "questions": stats.questions,
    }


def language_model(recipe: Recipe) -> dict[str, str]:
    """Returns name and version of the language model, if any source uses it."""
    if not recipe.uses_parser():
        return {}
    name, version = model_name_and_version()
    return {"name": name, "version": version}
