"""Writes shard sets with all tables from samples, without a build."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from schemas import Excluded, Rejected, Sample, arrow
from shards.format import manifest as mf
from shards.format.manifest import Manifest, ShardEntry
from shards.format.placement import shard_name
from shards.format.source_counts import SourceCounts
from shards.format.stats import Stats, as_json
from shards.format.tables import encode_table
from shards.format.writer import shard_writer
from tests.shard_sets import UNKNOWN_TERMS, licenses, write_entry, write_index

#: A sample and its encoded image; None in a set without images.
SampleAndImage = tuple[Sample, bytes | None]


def write_full_set(
    folder: Path,
    splits: Mapping[str, Sequence[Sequence[SampleAndImage]]],
    *,
    sources: dict[str, SourceCounts] | None = None,
    excluded: Sequence[Excluded] = (),
    rejected: Sequence[Rejected] = (),
    recipe: dict[str, Any] | None = None,
    name: str = "synthetic",
) -> Path:
    """Writes a shard set: for each split, the samples of every shard."""
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[ShardEntry] = []
    stats = {split: Stats() for split in splits}
    for split, shards in splits.items():
        for i, samples in enumerate(shards):
            file = shard_name(split, i, len(shards))
            with (folder / file).open("wb") as stream, shard_writer(stream, file) as writer:
                for sample, image in samples:
                    writer.write(sample, "jpg", image)
                    stats[split].add(sample)
            counts = (len(writer.rows), sum(row.captions for row in writer.rows))
            index = write_index(folder, file, writer.rows)
            entries.append(ShardEntry(file, split, writer.size, writer.sha256, *counts, index, [0]))
    files = {
        "excluded.parquet": encode_table(excluded, arrow.EXCLUDED),
        "rejected.parquet": encode_table(rejected, arrow.REJECTED),
        "stats.json": as_json(stats),
    }
    manifest = Manifest(
        name=name,
        recipe_sha256="0123456789abcdef" * 4,
        recipe=recipe or {},
        code_version="1.2.3",
        language_model={},
        roles={split: "train" if split == "train" else "eval" for split in splits},
        totals={},
        not_asked_for=[],
        exclusions={},
        warnings=[],
        licenses=licenses(entries),
        terms={source: {"unknown": UNKNOWN_TERMS} for source in sources or {}},
        sources=sources or {},
        shards=entries,
        files=[write_entry(folder, file, content) for file, content in files.items()],
    )
    (folder / mf.NAME).write_bytes(mf.encode(manifest))
    return folder


def jpeg(width: int, height: int, color: tuple[int, int, int] = (255, 255, 255)) -> bytes:
    """Returns an image of one color."""
    encoded = io.BytesIO()
    Image.new("RGB", (width, height), color).save(encoded, "JPEG")
    return encoded.getvalue()
