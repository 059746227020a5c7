"""What was found wrong with a shard set, for a terminal."""

from collections.abc import Iterator

from shards.columns import row
from shards.verification.verify import Report

WIDE = 50  # of the first column


def lines(report: Report) -> Iterator[str]:
    """The faults, a line each, their counts by kind, what was not checked, and what was."""
    faults = report.faults
    yield from map(str, faults.first)
    total = faults.counts.total()
    if total > len(faults.first):
        yield f"and {total - len(faults.first):,} more"
    if total:
        yield ""
        for kind, n in faults.counts.most_common():
            yield row(str(kind), [n], WIDE)
        yield ""
    for what in report.not_checked:
        yield f"not checked: {what}"
    names = {
        "files": "files",
        "images": "pictures",
        "captions": "captions",
        "regions": "regions",
        "held-out ids": "held-out ids",
    }
    checked = ", ".join(f"{report.checked[name]:,} {shown}" for name, shown in names.items())
    yield f"checked {checked}: {total:,} faults" if total else f"checked {checked}: no fault"
