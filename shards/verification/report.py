"""What was found wrong with a shard set, for a terminal."""

from collections.abc import Iterator

from shards.console.columns import row
from shards.console.printable import counted, printable
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
        yield f"not checked: {printable(what)}"
    names = {
        "files": "file",
        "images": "image",
        "captions": "caption",
        "regions": "region",
        "held-out ids": "held-out id",
    }
    checked = ", ".join(counted(report.checked[name], one) for name, one in names.items())
    yield f"checked {checked}: {counted(total, 'fault') if total else 'no fault'}"
