"""A split or a source without captions fails the build, unless the recipe expects it."""

from collections.abc import Mapping

from pipelines.beam.reading import ReadingSummary
from pipelines.recipe import Recipe
from shards.format.source_counts import Counts, SourceCounts
from shards.terminal import count_noun


class EmptyError(Exception):
    """A split or a source has no captions."""


def check_read(recipe: Recipe, reading: ReadingSummary) -> None:
    """Checks that the raw files have captions for every split, and of every source.

    Raises:
        EmptyError: They have not; the message says what they have.
    """
    for source, splits in reading.splits.items():
        if not any(splits.values()) and not recipe.sources[source].allow_empty:
            counts = reading.counts[source]
            raise EmptyError(
                f"no caption of {source} can be used: {_outcomes(counts)}"
                f"{_file_contents(recipe, reading, [source])}; "
                f"allow_empty = true in [sources.{source}] permits it"
            )
    filled = {split for splits in reading.splits.values() for split, n in splits.items() if n}
    empty = [
        name
        for name, split in recipe.splits.items()
        if name not in filled and not split.allow_empty
    ]
    if empty:
        raise EmptyError(
            f"no caption is for the recipe's {', '.join(empty)}"
            f"{_file_contents(recipe, reading, list(reading.splits))}; allow_empty = true in "
            f"[splits.{empty[0]}] permits it"
        )


def check_written(
    recipe: Recipe, counts: Mapping[str, SourceCounts], captions: Mapping[str, int]
) -> None:
    """Checks that every split and every source has captions in the shards, and boxes if it had any.

    Boxes that were all rejected are damage; that they were all excluded is none by itself.

    Args:
        recipe: The recipe.
        counts: By source.
        captions: The number of captions in the shards, by split.

    Raises:
        EmptyError: One has none; the message says what became of its captions.
    """
    for source, source_counts in counts.items():
        if recipe.sources[source].allow_empty:
            continue
        lost = {
            "caption": not source_counts.in_shards,
            "box": source_counts.boxes.rejected and not source_counts.boxes.in_shards,
        }
        for noun, each in (("caption", source_counts), ("box", source_counts.boxes)):
            if lost[noun]:
                raise EmptyError(
                    f"no {noun} of {source} is in the shards: {_outcomes(each)}; "
                    f"allow_empty = true in [sources.{source}] permits it"
                )
    for name, split in recipe.splits.items():
        if not captions[name] and not split.allow_empty:
            raise EmptyError(
                f"the split {name} has no captions: all were excluded or rejected; "
                f"allow_empty = true in [splits.{name}] permits it"
            )


def _outcomes(counts: Counts) -> str:
    outcomes = {
        "merged": counts.merged,
        "rejected": counts.rejected,
        "excluded": counts.excluded,
        "not asked for": counts.not_asked_for,
    }
    stated = ", ".join(f"{count} {name}" for name, count in outcomes.items() if count)
    return f"{counts.read} read" + (f", of which {stated}" if stated else "")


def _file_contents(recipe: Recipe, reading: ReadingSummary, sources: list[str]) -> str:
    """Returns which splits the files have, and what was left out of them."""
    parts: list[str] = []
    for source in sources:
        files = reading.file_splits.get(source, {})
        for file, splits in sorted(files.items()):
            parts.append(f"{file} has the splits {', '.join(sorted(splits))}")
            parts += [
                f"{count_noun(count, 'caption')} of {split!r} "
                f"{'was' if count == 1 else 'were'} left out"
                for split, count in sorted(splits.items())
                if split not in recipe.splits
            ]
        if not files:
            by_split = {s: n for s, n in sorted(reading.splits[source].items()) if n}
            counts = ", ".join(f"{count} for {split}" for split, count in by_split.items())
            parts.append(f"{source} has {counts or 'no captions'}")
    return "; " + "; ".join(parts) if parts else ""
