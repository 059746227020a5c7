"""What Megatron-Energon's ``prepare`` writes about a data set, so that its loader takes the tars.

It reads no shard: the index tells where samples lie. Each split is a data set of its own, because
Energon wants a key once a data set, and an image may be in val and in test.
"""

import contextlib
import json
import sqlite3
import struct
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from shards.export.request import Request, Written
from shards.format.index import Member
from shards.format.manifest import ShardError

VERSION = "7.4.1"  # the one whose files these are
_HEADER = _BLOCK = 512  # bytes in a tar
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


class Placed(NamedTuple):
    """A sample in a tar, from the header of its first member to the end of its last block."""

    key: str
    members: Sequence[Member]

    @property
    def start(self) -> int:
        return self.members[0].offset - _HEADER

    @property
    def stop(self) -> int:
        last = self.members[-1]
        return last.offset + -(-last.size // _BLOCK) * _BLOCK


def export(of: Request) -> list[Written]:
    """Writes of each split ``SPLIT/.nv-meta/``, ``SPLIT/TAR.idx`` and a link to each tar.

    And ``metadataset.yaml``, by which Energon finds them. Tars of a set behind a URL are not
    linked: they have to be brought to these folders.

    Raises:
        ShardError: the index is missing or damaged, or has an image twice in a split; or a tar is
            missing.
        OSError: a file cannot be written.
        ValueError: it was asked to unpack or leave out images.
    """
    if of.unpack or of.no_coco:
        raise ValueError("Energon takes the tars as they are: with all images, packed")
    found = [_export_split(of, split) for split in of.splits]
    (of.out / "metadataset.yaml").write_text(_metadataset(of.splits))
    return found


def _export_split(of: Request, split: str) -> Written:
    folder = of.out / split
    (folder / ".nv-meta").mkdir(parents=True)
    counts: dict[str, int] = {}
    captions = regions = 0
    with contextlib.closing(sqlite3.connect(folder / ".nv-meta" / "index.sqlite")) as database:
        database.executescript(_TABLES)
        for shard in of.shards.shards_of(split):
            rows = of.shards.index_rows(shard)
            samples = [Placed(row.key, row.members()) for row in rows]
            name = of.shards.shards[shard].file
            _write_offsets(folder / f"{name}.idx", samples)
            _write_rows(database, len(counts), samples)
            _link(of, folder / name)
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
        # Energon's is random; this one is as reproducible as the shards.
        "index.uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, _digests(of, split))),
    }
    for name, content in meta.items():
        (folder / ".nv-meta" / name).write_text(content)
    return Written(folder, captions, regions)


def _write_offsets(path: Path, samples: Sequence[Placed]) -> None:
    """Where each sample begins, and where the last one ends, as 64 bits each."""
    offsets = [*(sample.start for sample in samples), samples[-1].stop]
    path.write_bytes(struct.pack(f"<{len(offsets)}Q", *offsets))


def _write_rows(database: sqlite3.Connection, tar: int, samples: Sequence[Placed]) -> None:
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


def _link(of: Request, link: Path) -> None:
    """A link to a tar."""
    if of.shards.is_remote:
        return
    target = Path(of.shards.location, link.name).resolve()
    if not target.exists():
        raise ShardError(f"{target} is missing")
    link.symlink_to(target)


def _digests(of: Request, split: str) -> str:
    return " ".join(entry.sha256 for entry in of.shards.shards if entry.split == split)


def _metadataset(splits: Sequence[str]) -> str:
    lines = ["__module__: megatron.energon", "__class__: MetadatasetV2", "splits:"]
    for split in splits:
        name = json.dumps(split)
        lines += [f"  {name}:", f"    path: ./{split}", f"    split_part: {name}"]
    return "\n".join(lines) + "\n"
