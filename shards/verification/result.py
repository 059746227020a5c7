"""The result of a verification, and its form for a terminal."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from shards.terminal import count_noun, printable, table_row
from shards.verification.errors import ErrorLog

LABEL_WIDTH = 50


class VerificationResult(NamedTuple):
    """The errors of a shard set, and what was checked.

    ``checked`` counts files, images, captions, regions and held-out ids; ``not_checked`` has a
    sentence for each check that was impossible or left out.
    """

    errors: ErrorLog
    checked: Counter[str]
    not_checked: list[str]

    def lines(self) -> Iterator[str]:
        """Yields the listed errors, the counts by kind, what was not checked, and the totals."""
        yield from map(str, self.errors.listed)
        total = self.errors.counts.total()
        if total > len(self.errors.listed):
            yield f"and {total - len(self.errors.listed):,} more"
        if total:
            yield ""
            for kind, count in self.errors.counts.most_common():
                yield table_row(kind, [count], LABEL_WIDTH)
            yield ""
        for check in self.not_checked:
            yield f"not checked: {printable(check)}"
        nouns = {
            "files": "file",
            "images": "image",
            "captions": "caption",
            "regions": "region",
            "held-out ids": "held-out id",
        }
        checked = ", ".join(count_noun(self.checked[name], noun) for name, noun in nouns.items())
        yield f"checked {checked}: {count_noun(total, 'error') if total else 'no errors'}"
