"""What became of each source's captions and of their boxes, as in the manifest."""

from collections.abc import Iterable

import msgspec


class Counts(msgspec.Struct):
    """Counts of captions, or of boxes; ``read`` is the sum of the others."""

    read: int = 0
    in_shards: int = 0
    merged: int = 0  # into another caption, or another box
    rejected: int = 0
    excluded: int = 0
    not_asked_for: int = 0  # of another split, or of a part that the recipe leaves out

    def unaccounted(self) -> int:
        """Returns how many more were read than have an outcome; 0 unless counts are wrong.

        >>> Counts(read=5, in_shards=3, merged=1).unaccounted()
        1
        """
        outcomes: list[int] = [getattr(self, name) for name in Counts.__struct_fields__[1:]]
        return self.read - sum(outcomes)

    def add(self, other: "Counts") -> None:
        """Adds other counts to these."""
        for name in Counts.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class SourceCounts(Counts):
    """Counts of a source's captions, and of the boxes that they refer to.

    A caption is one that the raw files state: a region of Visual Genome, a question, a sentence, a
    class of an image. A box is counted once for each caption that refers to it, as the raw record
    states it; so boxes of one object in two captions are two. The boxes of a caption that cannot
    be read are not known, and are not counted.
    """

    boxes: Counts = msgspec.field(default_factory=Counts)

    def add(self, other: Counts) -> None:
        """Adds other counts to these, those of boxes included."""
        super().add(other)
        if isinstance(other, SourceCounts):
            self.boxes.add(other.boxes)


def total(counts: Iterable[SourceCounts]) -> SourceCounts:
    """Returns the sum over sources, or over shards.

    >>> total([SourceCounts(read=5, merged=1), SourceCounts(read=2)]).read
    7
    """
    summed = SourceCounts()
    for each in counts:
        summed.add(each)
    return summed
