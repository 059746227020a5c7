"""The errors that verification finds in a shard set, and the log that counts them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from shards.terminal import printable

MAX_LISTED = 100


class ErrorKind(StrEnum):
    """The kinds of errors; the value is the label in the report."""

    FILE = "file missing, of another size, or unreadable"
    SHA256 = "sha256"
    DUPLICATE_FILE = "file listed twice"
    UNKNOWN_FILE = "unknown file"
    RECIPE = "recipe"
    INDEX = "index"
    TOTALS = "totals"
    SOURCES = "counts of a source"
    TABLE = "table of excluded or rejected data"
    STATS = "stats.json"
    TAR = "tar"
    MEMBER = "tar member"
    CRC32 = "CRC-32"
    KEY = "key"
    DUPLICATE_IMAGE = "image twice in a split"
    LEAK = "train image in another split"
    HELD_OUT = "held-out image"
    SAMPLE = "sample"
    IMAGE = "image"
    SPAN = "span outside the text"
    WORD = "span that splits a word or has spaces around it"
    SAME_BYTES = "same image file under two keys"
    FILE_NAME = "file name of another image"
    PLACEMENT = "shard or position of an image"
    PROVENANCE = "provenance"
    COMPOSITION = "text that is not its sentences joined"
    DATASET = "dataset of no source"
    RECORD = "record twice"
    REGION = "region outside a single sentence"
    REGION_COUNT = "number of regions of a sentence"
    DUPLICATE_REGION = "region twice"
    BOX = "box"
    AREA = "area"
    CATEGORY = "category"
    NEGATIVE = "tokens_negative"
    ABSENT = "absent phrase"
    PHRASE = "phrase"
    QUESTION = "question"
    LICENSE = "license"
    LENGTH = "caption too long"
    OVERLAP = "sentences about the same object"
    JOINABLE = "captions that one caption has room for"
    RAW = "raw files"
    CHECK = "check that the damage ended"


#: An error of a caption: its kind and message.
CaptionError = tuple[ErrorKind, str]


class VerificationError(NamedTuple):
    """An error in ``file``; ``caption`` is the index of a caption of the image ``key``."""

    kind: ErrorKind
    message: str
    file: str = ""
    key: str = ""
    caption: int | None = None

    def __str__(self) -> str:
        """Returns one line; control characters in names and messages are escaped.

        >>> str(VerificationError(ErrorKind.BOX, "...", "train-00000-of-00001.tar", "coco/139", 3))
        'train-00000-of-00001.tar: coco/139, caption 3: box: ...'
        """
        caption = "" if self.caption is None else f"caption {self.caption}"
        sample = ", ".join(filter(None, (self.key, caption)))
        return printable(": ".join(filter(None, (self.file, sample, self.kind, self.message))))


def guarded(errors: Iterable[VerificationError]) -> Iterator[VerificationError]:
    """Yields errors; an exception of the check that finds them is the last one.

    A damage may have any form. One that no check expects must not hide what the others find.
    """
    try:
        yield from errors
    except Exception as error:
        name = getattr(errors, "__name__", "a check")
        message = f"{name}: {type(error).__name__}: {error}"
        yield VerificationError(ErrorKind.CHECK, message)


class ErrorLog:
    """Counts errors by kind, and lists the first ``MAX_LISTED`` of them."""

    def __init__(self, errors: Iterable[VerificationError] = ()) -> None:
        self.counts: Counter[ErrorKind] = Counter()
        self.listed: list[VerificationError] = []
        self.add(errors)

    def add(self, errors: Iterable[VerificationError]) -> None:
        """Counts errors, in the order in which they were found."""
        for error in guarded(errors):
            self.counts[error.kind] += 1
            if len(self.listed) < MAX_LISTED:
                self.listed.append(error)

    def merge(self, other: "ErrorLog") -> None:
        """Appends the errors of another log."""
        self.counts.update(other.counts)
        self.listed += other.listed[: MAX_LISTED - len(self.listed)]
