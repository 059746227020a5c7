"""The summary table of a build."""

from pipelines.beam.progress import Stage
from schemas import NotAskedFor
from shards.format.manifest import Manifest
from shards.terminal import count_noun, exclusion_rows, source_rows, table_row

_WIDTH = 18  # of the first column


def table(manifest: Manifest, stages: dict[str, Stage], seconds: float) -> str:
    """Returns a table of the records of each source, the contents of each split, and the stages."""
    lines = [
        *source_rows("source", manifest.sources, _WIDTH),
        *map(_left_out, manifest.not_asked_for),
        "",
        _row("split", "images", "sentences", "captions", "boxes", "mean fill", "shards", "MB"),
    ]
    for split, totals in manifest.totals.items():
        shards = [shard for shard in manifest.shards if shard.split == split]
        max_characters = manifest.recipe["rules"]["max_length"] * totals["captions"]
        fill = totals["characters"] / max_characters if max_characters else 0.0
        lines.append(
            _row(
                split,
                totals["images"],
                totals["sentences"],
                totals["captions"],
                totals["regions"],
                f"{fill:.1%}",
                len(shards),
                f"{sum(shard.bytes for shard in shards) / 1e6:.1f}",
            )
        )
    if manifest.exclusions:
        lines += ["", *exclusion_rows("exclusion", manifest.exclusions, _WIDTH)]
    if stages:  # of the local runner; others show them on their own pages
        lines += ["", _row("stage", "elements", "worker s")]
    lines += [_row(name, stage.done, f"{stage.seconds:.1f}") for name, stage in stages.items()]
    lines += ["", f"total {seconds:.1f} s"]
    return "\n".join(lines)


def _left_out(part: NotAskedFor) -> str:
    counts = f"{count_noun(part.captions, 'caption')}, {count_noun(part.boxes, 'box')}"
    return f"not asked for: {part.source}: {part.what}: {counts}"


def _row(first: str, *columns: object) -> str:
    return table_row(first, columns, _WIDTH)
