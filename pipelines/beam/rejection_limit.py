"""The limit of rejected records: when a build must fail, and for which reason."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from pipelines.beam.reading import RejectedRows
from schemas import ALL_BOXES_LOST, UNKNOWN_IMAGE, UNKNOWN_OBJECT, Rejected
from schemas.licenses import LICENSE_REASONS
from shards.format.source_counts import SourceCounts
from shards.terminal import printable


class TooManyRejectedError(Exception):
    """More captions of a source were rejected than the recipe allows."""


class RejectionLimit:
    """The share of the captions of each source that may be rejected.

    Args:
        share: ``reject_limit`` of the recipe.
        read: What each source has, and what was rejected when it was read.
    """

    def __init__(self, share: float, read: Mapping[str, SourceCounts]) -> None:
        self._share = share
        self._read = read

    def is_exceeded(self, source: str, more: int = 0) -> bool:
        """Returns whether too much of a source is rejected, with ``more`` after it was read."""
        counts = self._read[source]
        return counts.rejected + more > self._share * counts.read

    def first_exceeded(self) -> str | None:
        """Returns a source too much of which was rejected when it was read, if there is any."""
        return next((source for source in sorted(self._read) if self.is_exceeded(source)), None)

    def warnings(self, counts: Mapping[str, SourceCounts]) -> list[str]:
        """Returns a warning for each source that lost more than the share of its boxes.

        It fails no build: a caption that loses all its boxes is rejected, and counts as one.
        """
        return [
            f"{boxes.rejected} of {boxes.read} boxes of {source} were rejected, more than the "
            f"recipe's reject_limit of {self._share:.2%} of its captions"
            for source, boxes in ((source, each.boxes) for source, each in sorted(counts.items()))
            if boxes.rejected > self._share * boxes.read
        ]

    def message(self, source: str, rows: RejectedRows, listed_in: str, more: int = 0) -> str:
        """Returns why a source fails the build; the first cause comes first.

        Args:
            source: The source.
            rows: All rejected rows that are known.
            listed_in: The file that has them.
            more: The captions that were rejected after the source was read.
        """
        reasons: Counter[str] = Counter()
        for row in rows.all():
            if row.source == source:
                reasons[row.reason] += row.records
        common = [(reason, count) for reason, count in reasons.most_common(3) if count]
        top = ", ".join(f"{reason} ({count})" for reason, count in common)
        reason = common[0][0]
        lost = (r for r in rows.all() if r.source == source and r.reason == reason and r.records)
        causes = _causes(source, reason, rows)
        cause = ""
        if causes:
            cause = f"{_described(_first(causes))} ({len(causes)} such rows), and therefore "
        counts = self._read[source]
        return printable(
            f"{cause}{counts.rejected + more} of {counts.read} captions of {source} were rejected, "
            f"more than the recipe's reject_limit of {self._share:.2%}: {top}; for example "
            f"{_described(_first(lost))}; {listed_in} has the rejected rows"
        )


def _causes(source: str, reason: str, rows: RejectedRows) -> list[Rejected]:
    """Returns the rejected rows because of which captions were rejected for a reason.

    A row of an image table, of an object or of a box loses no caption by itself: it comes before
    the captions that need it.
    """
    if reason == UNKNOWN_IMAGE:
        of_tables = [row for row in rows.of_tables if row.reason not in LICENSE_REASONS]
        of_source = [row for row in of_tables if row.source == source]
        return of_source or of_tables  # the row may be in the table of another source
    if reason in (UNKNOWN_OBJECT, ALL_BOXES_LOST):
        lose_boxes = reason == ALL_BOXES_LOST
        return [
            row
            for row in rows.others
            if row.source == source
            and not row.records
            and (lose_boxes or not row.boxes)
            and not _is_kept(row)
        ]
    return []


def _is_kept(row: Rejected) -> bool:
    """Returns whether the row of a table is used although it is rejected, in part."""
    return row.reason in (UNKNOWN_OBJECT, "duplicate id") or row.reason.endswith("several images")


def _first(rows: Iterable[Rejected]) -> Rejected:
    """Returns the row whose record is first in its file; numbers are ordered as numbers."""

    def position(row: Rejected) -> tuple[list[tuple[int, str]], str]:
        parts = re.split(r"(\d+)", row.record)
        return [(int(p[:18]), p) if p.isdigit() else (-1, p) for p in parts], row.detail

    return min(rows, key=position)


def _described(row: Rejected) -> str:
    """Returns a row as text, the file first if the detail begins with it."""
    file, colon, error = row.detail.partition(": ")
    if row.reason == "malformed record" and colon:
        return f"{file}: {row.reason} {row.record}: {error}"
    return f"{row.record}: {row.reason} {row.detail}".rstrip()
