"""Whether a shard set is whole, holds what its recipe promises, and leaks no held-out image.

What is looked at, from the outside in:

1. files: every file of the manifest has its bytes and its sha256, and a local folder has no others;
   the recipe is of the version that the manifest says, and has the splits of the set;
2. images: a key is in a split once, an image of train in no other split; no held-out image
   and none that ``excluded.parquet`` says was left out is in train. One of an evaluation split may
   be in another: RefCOCO and RefCOCOg divide the same images differently;
3. shards (`shards.verification.shard_checks`): tars as the index says, members by their CRC-32,
   images by their headers, samples by what `shards.verification.expected` makes of the recipe;
4. counts: shards of the manifest, its totals and sources, ``stats.json``, and the index add up to
   what was found.

A file that cannot be read is a fault, and what is in it is not looked at; all else is.

Which shard an image lies in is not checked: a crop of an image has a key of its own but lies in
the shard of the image, and nothing in the set says of which.
"""

import multiprocessing
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from tqdm import tqdm

from shards.console.printable import counted
from shards.format.stats import Stats
from shards.inspection.spread import spread
from shards.reading.shard_set import ShardSet
from shards.verification import count_checks
from shards.verification.errors import Faults
from shards.verification.expected import Expectations
from shards.verification.held_out import HeldOut
from shards.verification.recipe_checks import recipe_faults
from shards.verification.set_checks import (
    EXCLUDED,
    TRAIN,
    Indexed,
    excluded_faults,
    file_faults,
    held_out_faults,
    key_faults,
    read_index,
    rejected_faults,
)
from shards.verification.shard_checks import ShardReport, Task, check_shard

_IMAGES_A_PROCESS = 5_000  # are read in about the second that it takes to start one


class Report(NamedTuple):
    """``checked``: how many files, images, captions, regions and held-out ids were looked at."""

    faults: Faults
    checked: Counter[str]
    not_checked: list[str]


def verify(
    shards: ShardSet,
    *,
    sample: int | None = None,
    held_out: Sequence[HeldOut] = (),
    quiet: bool = True,
) -> Report:
    """The faults of a shard set.

    ``sample``: of so many images, spread evenly over the shards, members and samples are looked
    at, and no shard as a whole; the rest is checked all the same. ``quiet``: no bar on stderr.

    Raises:
        NotAShardSetError: its recipe is not one of this version.
    """
    expectations = Expectations(shards.manifest)
    faults = Faults(file_faults(shards))
    faults.add(rejected_faults(shards))
    faults.add(recipe_faults(shards.manifest))
    indexed = read_index(shards, faults)
    faults.add(key_faults(shards, indexed))
    faults.add(held_out_faults(shards, indexed, held_out))
    faults.add(excluded_faults(shards, indexed))

    tasks = list(_tasks(shards, expectations, indexed, sample))
    images = [_images(task, indexed) for task in tasks]
    samples: dict[str, Stats] = {}
    unchecked: set[str] = set()
    with tqdm(total=sum(images), unit="image", disable=quiet) as bar:
        reports = _reports(tasks, sum(images) // _IMAGES_A_PROCESS)
        for task, of_task, report in zip(tasks, images, reports, strict=True):
            faults.merge(report.faults)
            unchecked |= report.unchecked
            samples.setdefault(shards.shards[task.shard].split, Stats()).merge(report.stats)
            bar.update(of_task)
    counted = count_checks.counted_of(shards, indexed, samples)
    faults.add(count_checks.total_faults(shards, indexed, counted))
    faults.add(count_checks.source_faults(shards, counted))
    faults.add(count_checks.stats_faults(shards, counted))

    checked = Counter(files=len(tasks) + len(shards.manifest.files))
    for stats in samples.values():
        checked.update(images=stats.images, captions=stats.captions, regions=stats.regions)
    checked["held-out ids"] = sum(len(of.keys) for of in held_out)
    not_checked = [
        *expectations.not_checked(),
        *sorted(unchecked),
        *count_checks.not_checked(shards, counted),
        *_not_checked(shards, indexed, sample, held_out),
    ]
    return Report(faults, checked, not_checked)


def _tasks(
    shards: ShardSet,
    expectations: Expectations,
    indexed: Mapping[int, Indexed],
    sample: int | None,
) -> Iterator[Task]:
    """What is looked at of each shard; of a sample, no shard is fetched that has none of it."""
    first, total = 0, sum(len(of.keys) for of in indexed.values())
    chosen = None if sample is None else spread(range(total), sample)
    for shard, entry in enumerate(shards.shards):
        last = first + (len(indexed[shard].keys) if shard in indexed else 0)
        images = None
        if chosen is not None:
            mine = slice(bisect_left(chosen, first), bisect_left(chosen, last))
            images = [n - first for n in chosen[mine]]
        if images != [] or not shards.is_remote:
            expected = expectations.of(entry.split)
            yield Task(shards, shard, expected, shard in indexed, images)
        first = last


def _images(task: Task, indexed: Mapping[int, Indexed]) -> int:
    if not task.indexed:
        return 0
    return len(indexed[task.shard].keys if task.images is None else task.images)


def _reports(tasks: Sequence[Task], processes: int) -> Iterator[ShardReport]:
    """A report for each task, in their order, made by as many processes as are worth it."""
    processes = min(processes, len(tasks), os.cpu_count() or 1)
    if processes < 2:
        yield from map(check_shard, tasks)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(check_shard, tasks)


def _not_checked(
    shards: ShardSet,
    indexed: Mapping[int, Indexed],
    sample: int | None,
    held_out: Sequence[HeldOut],
) -> Iterator[str]:
    """What of images, and where they are, a reader of the report could take for checked."""
    if unread := len(shards.shards) - len(indexed):
        told = f"images of {counted(unread, 'shard')}, held-out ones too"
        yield f"{told}: the index does not tell of them"
    if sample is not None:
        yield "the sha256 and the tar of each shard, and all images but those of the sample"
        if shards.is_remote:
            yield "whether shards with nothing of the sample are there"
    if EXCLUDED not in (entry.file for entry in shards.manifest.files):
        yield f"images that were left out: the manifest names no {EXCLUDED}"
    namespaces = {
        key.partition("/")[0]
        for shard, of in indexed.items()
        if shards.shards[shard].split == TRAIN
        for key in of.keys
    }
    for of_list in held_out:
        if of_list.namespace in ("vg", "gqa"):
            yield (
                f"{of_list.name}: its images that COCO has too stand under COCO's keys, "
                "and have to be listed by COCO's ids"
            )
        if namespaces.isdisjoint(key.partition("/")[0] for key in of_list.keys):
            yield f"{of_list.name}: no image of {TRAIN} has a key of that kind"
