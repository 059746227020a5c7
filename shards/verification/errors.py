"""What can be wrong with a shard set, and the faults of one as they are found."""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from shards.console.printable import printable

SHOWN = 100


class Kind(StrEnum):
    """The kinds of faults, as they are called where they are counted."""

    FILE = "file missing, of another size, or unreadable"
    SHA256 = "sha256"
    FILE_TWICE = "file named twice"
    UNKNOWN_FILE = "unknown file"
    RECIPE = "recipe"
    INDEX = "index"
    TOTALS = "totals"
    STATS = "stats.json"
    TAR = "tar"
    MEMBER = "member of a tar"
    CRC32 = "CRC-32"
    KEY = "key"
    TWICE = "image twice"
    LEAK = "image of train in another split"
    HELD_OUT = "held out"
    SAMPLE = "sample"
    IMAGE = "image"
    SPAN = "span outside the text"
    WORD = "span that cuts a word"
    PART = "part"
    REGION = "region of no one part"
    BOX = "box"
    AREA = "area"
    PHRASE = "phrase without words"
    LENGTH = "caption too long"
    OVERLAP = "parts that speak of one object"


class Fault(NamedTuple):
    """One fault: ``caption`` is the number of a caption of the image ``key`` in ``file``."""

    kind: Kind
    what: str
    file: str = ""
    key: str = ""
    caption: int | None = None

    def __str__(self) -> str:
        """One line, whatever control characters there are in names and messages.

        >>> str(Fault(Kind.BOX, "...", "train-00000-of-00001.tar", "coco/139", 3))
        'train-00000-of-00001.tar: coco/139, caption 3: box: ...'
        """
        caption = "" if self.caption is None else f"caption {self.caption}"
        place = ", ".join(part for part in (self.key, caption) if part)
        parts = (self.file, place, str(self.kind), self.what)
        line = ": ".join(part for part in parts if part)
        return printable(line)


class Faults:
    """All faults are counted by kind; the first ``SHOWN`` are kept, in the order of finding."""

    def __init__(self, found: Iterable[Fault] = ()) -> None:
        self.counts: Counter[Kind] = Counter()
        self.first: list[Fault] = []
        self.add(found)

    def add(self, found: Iterable[Fault]) -> None:
        for fault in found:
            self.counts[fault.kind] += 1
            if len(self.first) < SHOWN:
                self.first.append(fault)

    def merge(self, others: "Faults") -> None:
        self.counts.update(others.counts)
        self.first += others.first[: SHOWN - len(self.first)]
