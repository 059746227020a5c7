"""The files that Megatron-Energon's ``prepare`` writes, so that its loader reads the tars.

No shard is read: the index has the offsets of the samples. Each split is a separate dataset,
because Energon requires unique keys in a dataset, and an image may be in both val and test.
"""

import contextlib
import json
import sqlite3
import struct
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from shards.export.job import ExportedFile, ExportJob, link_tar
from shards.format.index import Member
from shards.format.manifest import ShardError

VERSION = "7.4.1"  # version of Energon whose file formats are written
_HEADER_SIZE = _BLOCK_SIZE = 512  # bytes in a tar
_TABLES = """
CREATE TABLE samples (
    tar_file_id INTEGER NOT NULL, sample_key TEXT NOT NULL UNIQUE, sample_index INTEGER NOT NULL,
    byte_offset INTEGER, byte_size INTEGER);
CREATE TABLE sample_parts (
    tar_file_id INTEGER, sample_index INTEGER, part_name TEXT,
    content_byte_offset INTEGER, content_byte_size INTEGER);
"""
_INDEXES = """
CREATE INDEX idx_samples_by_tar_and_idx ON samples(tar_file_id, sample_index);
CREATE INDEX idx_sample_parts_seq
    ON sample_parts(tar_file_id, sample_index, content_byte_offset);
CREATE INDEX idx_sample_parts_full
    ON sample_parts(tar_file_id, sample_index, part_name, content_byte_offset, content_byte_size);
"""


class TarSample(NamedTuple):
    """A sample in a tar, from the header of its first member to the end of its last block."""

    key: str
    members: Sequence[Member]

    @property
    def start(self) -> int:
        """The byte offset of the first header."""
        return self.members[0].offset - _HEADER_SIZE

    @property
    def stop(self) -> int:
        """The byte offset after the last block."""
        last = self.members[-1]
        return last.offset + -(-last.size // _BLOCK_SIZE) * _BLOCK_SIZE


def export(job: ExportJob) -> list[ExportedFile]:
    """Writes for each split ``SPLIT/.nv-meta/``, ``SPLIT/TAR.idx`` and a link to each tar.

    ``metadataset.yaml`` lists the splits for Energon. Tars of a remote set are not linked: copy
    them to these folders.

    Raises:
        ShardError: the index is missing or damaged, or has an image twice in a split; or a tar is
            missing.
        OSError: a file cannot be written.
        ValueError: the job asks to unpack or leave out images.
    """
    if job.with_images or job.no_coco:
        raise ValueError("Energon reads the tars as they are: all images, packed")
    folders = [_export_split(job, split) for split in job.splits]
    (job.output_folder / "metadataset.yaml").write_text(_metadataset(job.splits))
    return folders


def _export_split(job: ExportJob, split: str) -> ExportedFile:
    folder = job.output_folder / split
    (folder / ".nv-meta").mkdir(parents=True)
    counts: dict[str, int] = {}
    captions = regions = 0
    with contextlib.closing(sqlite3.connect(folder / ".nv-meta" / "index.sqlite")) as database:
        database.executescript(_TABLES)
        for shard in job.shards.shards_of(split):
            rows = job.shards.index_rows(shard)
            samples = [TarSample(row.key, row.members()) for row in rows]
            name = job.shards.shards[shard].file
            _write_offsets(folder / f"{name}.idx", samples)
            _write_rows(database, len(counts), samples)
            link_tar(job, folder / name)
            counts[name] = len(samples)
            captions += sum(row.captions for row in rows)
            regions += sum(row.regions for row in rows)
        database.executescript(_INDEXES)
        database.commit()
    meta = {
        ".info.json": json.dumps({"energon_version": VERSION, "shard_counts": counts}, indent=2),
        "dataset.yaml": "__module__: megatron.energon\n__class__: CrudeWebdataset\n",
        "split.yaml": "\n".join(
            ["split_parts:", f"  {json.dumps(split)}:"]
            + [f"  - {name}" for name in counts]
            + ["exclude: []", ""]
        ),
        # Energon writes a random one; this one is as reproducible as the shards.
        "index.uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, _digests(job, split))),
    }
    for name, content in meta.items():
        (folder / ".nv-meta" / name).write_text(content)
    return ExportedFile(folder, captions, regions)


def _write_offsets(path: Path, samples: Sequence[TarSample]) -> None:
    """Writes the offset of each sample and of the end, as little-endian 64-bit integers."""
    offsets = [*(sample.start for sample in samples), samples[-1].stop]
    path.write_bytes(struct.pack(f"<{len(offsets)}Q", *offsets))


def _write_rows(database: sqlite3.Connection, tar: int, samples: Sequence[TarSample]) -> None:
    try:
        database.executemany(
            "INSERT INTO samples VALUES (?, ?, ?, ?, ?)",
            [(tar, s.key, i, s.start, s.stop - s.start) for i, s in enumerate(samples)],
        )
    except sqlite3.IntegrityError as error:
        raise ShardError(f"an image is in the split twice: {error}") from error
    database.executemany(
        "INSERT INTO sample_parts VALUES (?, ?, ?, ?, ?)",
        [
            (tar, i, member.name.removeprefix(f"{sample.key}."), member.offset, member.size)
            for i, sample in enumerate(samples)
            for member in sample.members
        ],
    )


def _digests(job: ExportJob, split: str) -> str:
    return " ".join(entry.sha256 for entry in job.shards.shards if entry.split == split)


def _metadataset(splits: Sequence[str]) -> str:
    lines = ["__module__: megatron.energon", "__class__: MetadatasetV2", "splits:"]
    for split in splits:
        name = json.dumps(split)
        lines += [f"  {name}:", f"    path: ./{split}", f"    split_part: {name}"]
    return "\n".join(lines) + "\n"
