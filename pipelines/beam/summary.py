"""The closing table of a build."""

from pipelines.beam.progress import Stage
from shards.format.manifest import Manifest
from shards.terminal import source_rows, table_row

WIDTH = 18  # of the first column


def table(manifest: Manifest, stages: dict[str, Stage], seconds: float) -> str:
    """What was read and what became of it, per source, split and stage."""
    lines = [
        *source_rows("source", manifest.sources, WIDTH),
        "",
        _row("split", "images", "sentences", "captions", "boxes", "mean fill", "shards", "MB"),
    ]
    for split, of in manifest.totals.items():
        shards = [shard for shard in manifest.shards if shard.split == split]
        room = manifest.recipe["rules"]["max_length"] * of["captions"]
        fill = of["characters"] / room if room else 0.0
        lines.append(
            _row(
                split,
                of["images"],
                of["sentences"],
                of["captions"],
                of["regions"],
                f"{fill:.1%}",
                len(shards),
                f"{sum(shard.bytes for shard in shards) / 1e6:.1f}",
            )
        )
    if stages:  # other runners than the local one show them on their own pages
        lines += ["", _row("stage", "elements", "worker s")]
    lines += [_row(name, of.done, f"{of.seconds:.1f}") for name, of in stages.items()]
    lines += ["", f"{seconds:.1f} s in all"]
    return "\n".join(lines)


def _row(first: str, *cells: object) -> str:
    return table_row(first, cells, WIDTH)
