"""The check that nothing was lost: every caption and box that was read has one outcome."""

from collections.abc import Mapping

from shards.format.source_counts import Counts, SourceCounts, total


class ConservationError(Exception):
    """Counts do not add up: an error of this program, or of a reader."""


def check_conservation(
    counts: Mapping[str, SourceCounts],
    sentences: int,
    regions: int,
    absent: Mapping[str, Counts],
    proven: int,
) -> None:
    """Checks the counts of each source, and those in shards against the samples.

    Args:
        counts: By source.
        sentences: The number of sentences of all samples.
        regions: The number of regions of all samples.
        absent: Counts of absent phrases, by source.
        proven: The number of proven absent phrases of all samples.

    Raises:
        ConservationError: They do not add up.
    """
    for source, source_counts in counts.items():
        _check(f"captions of {source}", source_counts)
        _check(f"boxes of {source}", source_counts.boxes)
    for source, phrase_counts in absent.items():
        _check(f"absent phrases of {source}", phrase_counts)
    all_sources = total(counts.values())
    for noun, counted, written in (
        ("absent phrases", sum(each.in_shards for each in absent.values()), proven),
        ("captions", all_sources.in_shards, sentences),
        ("boxes", all_sources.boxes.in_shards, regions),
    ):
        if counted != written:
            raise ConservationError(
                f"internal error: the sources count {counted} {noun} in the shards, which have "
                f"{written}"
            )


def _check(what: str, counts: Counts) -> None:
    if difference := counts.unaccounted():
        values = ", ".join(f"{name} {getattr(counts, name)}" for name in Counts.__struct_fields__)
        raise ConservationError(
            f"internal error: {what} do not add up, {difference} more were read than have an "
            f"outcome ({values}); does Source.read yield all RawCounts, and every record once?"
        )
