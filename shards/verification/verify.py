"""Verifies that a shard set is intact, follows its recipe, and trains on no held-out image.

The checks, from the outside in:

1. files (`set_checks`): every file of the manifest has its size and sha256, and a local folder has
   no others; the recipe has the stated hash, and the splits and roles of the set (`recipe`);
2. images (`set_checks`, `identity_checks`): a key is in a split once, and neither it nor its file
   is in splits of both roles; no split that is trained on has a held-out image, and none an image
   that ``excluded.parquet`` states to be excluded from it; no two images have one file. An image
   may be in two evaluation splits: RefCOCO and RefCOCOg divide the same images differently;
3. placement (`placement_checks`): a split has the shards of the recipe, and an image the shard and
   the position of its key, or of the image of which it is a crop;
4. tables (`table_checks`): ``excluded.parquet`` and ``rejected.parquet`` are about the sources and
   evaluation sets of the recipe, and have as many records as the manifest states; licenses
   (`license_checks`): the manifest lists those of all images, with the number of images;
5. shards (`shard_checks`): tars have the members of the index, members their CRC-32, images a valid
   header and an end;
6. samples (`sample_checks`, `caption_checks`): the text is the sentences joined by the rule, spans
   cover words, boxes are inside the image and areas theirs, sentences have what their `datasets`
   have, no two sentences of a caption are about one object, and no two captions fit one;
7. records (`identity_checks`): a record is in one image and there once, no file is named by two
   images, and the questions of a split have answers or not;
8. counts (`count_checks`): the manifest's shards, totals and sources, ``stats.json``, and the index
   agree with the samples;
9. raw files (`raw_comparison`), if a root is given: some images, their sentences, boxes, classes
   and answers are those of the raw files, and no sentence about them is missing.

A file that cannot be read is an error, and its contents are not checked; everything else is. What
cannot be checked, without raw files or at all, is listed.
"""

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from schemas.image_ids import namespace_of
from shards.evenly_spaced import evenly_spaced
from shards.format.stats import Stats
from shards.process_pool import process_pool
from shards.reading.shard_set import ShardSet
from shards.reading.tables import EXCLUDED, REJECTED
from shards.terminal import count_noun
from shards.verification import count_checks, identity_checks
from shards.verification.errors import ErrorLog
from shards.verification.held_out import HeldOutList
from shards.verification.identity_checks import (
    SampleFacts,
    check_answers,
    check_file_names,
    check_image_files,
    check_records,
)
from shards.verification.license_checks import check_licenses
from shards.verification.placement_checks import check_placement, check_shards
from shards.verification.raw_comparison import RawComparison
from shards.verification.recipe import RecipeRequirements, check_recipe
from shards.verification.result import VerificationResult
from shards.verification.set_checks import (
    IndexedShard,
    check_files,
    check_held_out,
    check_keys,
    check_namespaces,
    read_index,
)
from shards.verification.shard_checks import ShardCheck, ShardCheckResult, check_shard
from shards.verification.table_checks import check_tables

#: The samples that are compared with raw files, unless another number is stated.
RAW_IMAGES = 1_000

#: What only the raw files tell.
WITHOUT_RAW = (
    "what the raw files say (--raw): words, answers, classes, boxes that are moved together with "
    "their areas, sentences and regions that no count includes, damaged pixels",
)

# The namespaces of datasets that show some of the same photos. A key states one of them.
_SHARING_PHOTOS = frozenset(("coco", "flickr30k", "vg"))

_IMAGES_PER_PROCESS = 5_000  # are checked in about a second, the time to start a process


def verify(
    shards: ShardSet,
    *,
    num_images: int | None = None,
    held_out: Sequence[HeldOutList] = (),
    raw: str | Path | None = None,
    quiet: bool = True,
) -> VerificationResult:
    """Returns the errors of a shard set.

    ``num_images`` limits the checks of members and samples to this many images, evenly spaced over
    the shards, and skips the sha256 and the tar of each shard; None checks all. ``raw`` is the root
    of the raw files, with which ``num_images`` or `RAW_IMAGES` samples are compared. ``quiet``
    shows no progress bar on stderr.

    Raises:
        NotAShardSetError: the recipe is not one of this version.
    """
    requirements = RecipeRequirements(shards.manifest)
    log = ErrorLog(check_files(shards))
    log.add(check_recipe(shards.manifest))
    log.add(check_shards(shards, requirements))
    indexed = read_index(shards, log)
    log.add(check_keys(shards, indexed))
    log.add(check_namespaces(shards, indexed, requirements.datasets))
    log.add(check_placement(shards, indexed, requirements))
    log.add(check_image_files(shards, indexed, requirements))
    log.add(check_held_out(shards, indexed, held_out))
    log.add(check_tables(shards, indexed, requirements))
    log.add(check_licenses(shards, indexed))

    checks = list(_shard_checks(shards, requirements, indexed, num_images))
    stats_by_split, facts, unchecked = _run_checks(shards, checks, indexed, log, quiet)
    log.add(check_records(shards, indexed, facts))
    log.add(check_file_names(shards, indexed, facts))
    log.add(check_answers(shards, facts))

    actual = count_checks.actual_counts(shards, indexed, stats_by_split)
    log.add(count_checks.check_totals(shards, indexed, actual))
    log.add(count_checks.check_not_empty(shards, requirements))
    log.add(count_checks.check_names(shards, requirements))
    log.add(count_checks.check_sources(shards, actual, requirements))
    log.add(count_checks.check_stats(shards, actual))

    compared = None
    if raw is not None:
        rows = [(shard, row) for shard, r in indexed.items() for row in range(len(r.keys))]
        chosen = evenly_spaced(rows, num_images or RAW_IMAGES)
        compared = RawComparison(shards, requirements, raw, chosen)
        log.add(compared.errors())

    checked = Counter(files=len(checks) + len(shards.shards) + len(shards.manifest.files))
    for stats in stats_by_split.values():
        checked.update(images=stats.images, captions=stats.captions, regions=stats.regions)
    checked["held-out ids"] = sum(len(held_out_list.keys) for held_out_list in held_out)
    not_checked = [
        *requirements.not_checked(),
        *sorted(unchecked),
        *count_checks.not_checked(shards, actual),
        *identity_checks.not_checked(shards, indexed),
        *_not_checked(shards, indexed, num_images, held_out),
        *(WITHOUT_RAW if compared is None else compared.not_checked),
    ]
    return VerificationResult(log, checked, not_checked)


def _shard_checks(
    shards: ShardSet,
    requirements: RecipeRequirements,
    indexed: Mapping[int, IndexedShard],
    num_images: int | None,
) -> Iterator[ShardCheck]:
    """Yields the check of each shard; remote shards without a chosen image are not downloaded."""
    first, total = 0, sum(len(shard.keys) for shard in indexed.values())
    chosen = None if num_images is None else evenly_spaced(range(total), num_images)
    for shard, entry in enumerate(shards.shards):
        last = first + (len(indexed[shard].keys) if shard in indexed else 0)
        rows = None
        if chosen is not None:
            rows_in_shard = slice(bisect_left(chosen, first), bisect_left(chosen, last))
            rows = [image - first for image in chosen[rows_in_shard]]
        if rows != [] or not shards.is_remote:
            required = requirements.for_split(entry.split)
            yield ShardCheck(
                shards=shards,
                shard=shard,
                required=required,
                is_indexed=shard in indexed,
                rows=rows,
            )
        first = last


def _run_checks(
    shards: ShardSet,
    checks: Sequence[ShardCheck],
    indexed: Mapping[int, IndexedShard],
    log: ErrorLog,
    quiet: bool,
) -> tuple[dict[str, Stats], dict[int, SampleFacts], set[str]]:
    """Runs the checks and logs their errors.

    Returns:
        Stats by split, facts by shard, and what was not checked.
    """
    image_counts = [_image_count(check, indexed) for check in checks]
    stats_by_split: dict[str, Stats] = {}
    facts: dict[int, SampleFacts] = {}
    unchecked: set[str] = set()
    with tqdm(total=sum(image_counts), unit="image", disable=quiet) as bar:
        results = _results(checks, sum(image_counts) // _IMAGES_PER_PROCESS)
        for check, image_count, result in zip(checks, image_counts, results, strict=True):
            log.merge(result.errors)
            unchecked |= result.not_checked
            facts[check.shard] = result.facts
            split = shards.shards[check.shard].split
            stats_by_split.setdefault(split, Stats()).merge(result.stats)
            bar.update(image_count)
    return stats_by_split, facts, unchecked


def _image_count(check: ShardCheck, indexed: Mapping[int, IndexedShard]) -> int:
    if not check.is_indexed:
        return 0
    return len(indexed[check.shard].keys if check.rows is None else check.rows)


def _results(checks: Sequence[ShardCheck], processes: int) -> Iterator[ShardCheckResult]:
    """Yields the results in the order of the checks, from at most ``processes`` processes."""
    processes = min(processes, len(checks), os.cpu_count() or 1)
    if processes < 2:
        yield from map(check_shard, checks)
        return
    with process_pool(processes) as pool:
        yield from pool.map(check_shard, checks)


def _not_checked(
    shards: ShardSet,
    indexed: Mapping[int, IndexedShard],
    num_images: int | None,
    held_out: Sequence[HeldOutList],
) -> Iterator[str]:
    """Yields the checks that were skipped or impossible."""
    if unreadable := len(shards.shards) - len(indexed):
        images = f"images of {count_noun(unreadable, 'shard')}, held-out ones too"
        yield f"{images}: their index rows cannot be read"
    if num_images is not None:
        yield f"the sha256 and the tar of each shard, and all but {num_images} images"
        if shards.is_remote:
            yield "whether shards without a chosen image exist"
    for noun, table in (("excluded images", EXCLUDED), ("rejected records", REJECTED)):
        if table not in (entry.file for entry in shards.manifest.files):
            yield f"{noun}: the manifest lists no {table}"
    trained = shards.manifest.splits_of_role("train")
    trained_namespaces = {
        namespace_of(key)
        for shard, row in indexed.items()
        if shards.shards[shard].split in trained
        for key in (*row.keys, *filter(None, row.crop_of))
    }
    for held_out_list in held_out:
        listed_namespaces = {namespace_of(key) for key in held_out_list.keys}
        others = sorted(trained_namespaces & _SHARING_PHOTOS - listed_namespaces)
        if others and listed_namespaces & _SHARING_PHOTOS:
            yield (
                f"{held_out_list.argument}: its photos among the images that have only keys of "
                f"{' and '.join(others)}; `mdetr-shards audit --identities` looks for them"
            )
        if held_out_list.namespace in ("vg", "gqa") and "coco" in trained_namespaces:
            yield (
                f"{held_out_list.argument}: its images that are also in COCO have COCO's keys; "
                "list them by COCO's ids"
            )
        if trained_namespaces.isdisjoint(listed_namespaces):
            yield f"{held_out_list.argument}: no trained image has a key of that namespace"
