"""What the raw files of a build state, and what of it did not become a record."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from schemas import ImageRecord, NotAskedFor, RawCounts, Rejected
from shards.format.source_counts import Counts, SourceCounts


class Reading(msgspec.Struct, array_like=True):
    """The counts of a slice, or of a part of a file, and its rejected rows.

    ``is_table``: whether it is of an image table, whose rows other records need. ``splits`` counts
    the captions that became records, by split; ``file_splits`` those that the file states, if it
    is the file that divides its captions into splits.
    """

    source: str
    file: str
    is_table: bool = False
    counts: SourceCounts = msgspec.field(default_factory=SourceCounts)
    splits: dict[str, int] = {}
    file_splits: dict[str, int] = {}
    not_asked_for: list[NotAskedFor] = []
    rejected: list[Rejected] = []
    absent: Counts = msgspec.field(default_factory=Counts)  # of phrases

    def add_raw(self, raw: RawCounts) -> None:
        """Counts what the raw file states."""
        self.counts.read += raw.captions
        self.counts.boxes.read += raw.boxes
        for split, count in raw.splits.items():
            self.file_splits[split] = self.file_splits.get(split, 0) + count

    def add_not_asked_for(self, left_out: NotAskedFor) -> None:
        """Counts what the recipe does not ask for."""
        self.counts.not_asked_for += left_out.captions
        self.counts.boxes.not_asked_for += left_out.boxes
        self.not_asked_for.append(left_out)

    def add_merged(self, record: ImageRecord) -> None:
        """Counts the captions and boxes that were merged into those of a record."""
        self.counts.merged += record.merged
        self.counts.boxes.merged += record.merged_boxes

    def add_captions(self, record: ImageRecord) -> None:
        """Counts the captions of a record, which are in the build from now on."""
        if record.captions:
            count = self.splits.get(record.split, 0) + len(record.captions)
            self.splits[record.split] = count

    def leave_out_split(self, record: ImageRecord) -> None:
        """Counts what is in a record whose split the recipe does not have."""
        self.absent.not_asked_for += len(record.absent)
        if not record.captions:
            return
        boxes = sum(caption.box_count() for caption in record.captions)
        what = f"split {record.split}" if record.split else "captions without a split"
        self.add_not_asked_for(NotAskedFor(record.source, what, len(record.captions), boxes))

    def reject(self, rejected: Rejected) -> None:
        """Counts a rejected row."""
        self.counts.rejected += rejected.records
        self.counts.boxes.rejected += rejected.boxes
        self.rejected.append(rejected)


class RejectedRows(msgspec.Struct):
    """The rejected rows of image tables, and all others."""

    of_tables: list[Rejected] = []
    others: list[Rejected] = []

    def all(self) -> Iterator[Rejected]:
        """Yields all rows."""
        yield from self.of_tables
        yield from self.others


class ReadingSummary(msgspec.Struct):
    """The sum of all readings, without the rejected rows: by source, and by source and file."""

    counts: dict[str, SourceCounts]
    splits: dict[str, dict[str, int]]
    file_splits: dict[str, dict[str, dict[str, int]]]
    not_asked_for: list[NotAskedFor]
    absent: dict[str, Counts] = {}


def summarize(
    readings: Iterable[Reading], sources: Iterable[str]
) -> tuple[ReadingSummary, RejectedRows]:
    """Returns the sum of readings, with an entry for each source, and their rejected rows."""
    counts = {source: SourceCounts() for source in sources}
    splits: dict[str, dict[str, int]] = {source: {} for source in counts}
    file_splits: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    left_out: dict[tuple[str, str], NotAskedFor] = {}
    absent: dict[str, Counts] = defaultdict(Counts)
    rows = RejectedRows()
    for reading in readings:
        (rows.of_tables if reading.is_table else rows.others).extend(reading.rejected)
        if reading.source not in counts:
            continue  # images of an evaluation set, to be hashed
        counts[reading.source].add(reading.counts)
        _add(splits[reading.source], reading.splits)
        if reading.absent.read:
            absent[reading.source].add(reading.absent)
        if reading.file_splits:
            _add(file_splits[reading.source][reading.file], reading.file_splits)
        for each in reading.not_asked_for:
            known = left_out.setdefault(
                (each.source, each.what), NotAskedFor(each.source, each.what, 0, 0)
            )
            known.captions += each.captions
            known.boxes += each.boxes
    for unsorted in (rows.of_tables, rows.others):
        unsorted.sort(key=msgspec.structs.astuple)
    not_asked_for = sorted(left_out.values(), key=msgspec.structs.astuple)
    return ReadingSummary(counts, splits, dict(file_splits), not_asked_for, dict(absent)), rows


def _add(counts: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count
