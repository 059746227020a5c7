"""Small shard sets, made by the code that writes real ones."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from schemas import Caption, Provenance, Region, Sample
from shards.format import manifest as mf
from shards.format.index import IndexRow
from shards.format.licenses import LicenseEntry
from shards.format.manifest import FileEntry, Manifest, ShardEntry, Terms
from shards.format.placement import index_name, shard_name
from shards.format.tables import encode_index
from shards.format.writer import shard_writer

UNKNOWN_TERMS = Terms("own data", "", "unknown", "unknown")


def image(key: str) -> bytes:
    """Returns bytes that stand for the encoded image of a key."""
    return f"image of {key} ".encode() * 20


def sample(key: str, captions: int, width: int = 640, height: int = 480) -> Sample:
    """Returns a sample with numbered captions of one region each."""
    return Sample(
        key,
        width,
        height,
        f"{key}.jpg",
        [
            Caption(
                text := f"caption {i} of {key}",
                [Region([(0, 7)], (0.1, 1.7, 30.0, 40.25), 12.5)],
                [],
                [Provenance("vg", str(i), (0, len(text)))],
            )
            for i in range(captions)
        ],
    )


def write_shard_set(
    folder: Path,
    shards: Sequence[Sequence[int]],
    split: str = "train",
    *,
    name: str = "vg",
    sizes: Sequence[tuple[int, int]] = ((640, 480),),
    images: bool = True,
) -> Path:
    """Writes a shard set of one split, given the captions of each image of each shard.

    Images have the keys NAME/0, NAME/1, ..., and ``sizes`` in turn.
    """
    samples: list[list[tuple[Sample, bytes | None]]] = []
    number = 0
    for images_of in shards:
        samples.append([])
        for captions in images_of:
            key = f"{name}/{number}"
            content = image(key) if images else None
            samples[-1].append((sample(key, captions, *sizes[number % len(sizes)]), content))
            number += 1
    return write_samples(folder, samples, split, name)


def write_index_only(
    folder: Path,
    shards: Sequence[Sequence[int]],
    split: str = "train",
    *,
    sizes: Sequence[tuple[int, int]] = ((640, 480),),
) -> Path:
    """Writes a shard set like `write_shard_set`, without its tars: the order needs none."""
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[ShardEntry] = []
    number = 0
    for i, images in enumerate(shards):
        file = shard_name(split, i, len(shards))
        rows: list[IndexRow] = []
        for captions in images:
            width, height = sizes[number % len(sizes)]
            rows.append(
                IndexRow(
                    shard=file,
                    key=f"vg/{number}",
                    image_name=f"vg/{number}.jpg",
                    image_offset=512,
                    image_size=1,
                    image_crc32=0,
                    json_offset=2048,
                    json_size=1,
                    json_crc32=0,
                    width=width,
                    height=height,
                    captions=captions,
                    regions=captions,
                    datasets=["vg"],
                )
            )
            number += 1
        index = write_index(folder, file, rows)
        counts = (len(images), sum(images))
        entries.append(ShardEntry(file, split, 10240, "0" * 64, *counts, index, [0]))
    write_manifest(folder, entries, "index only")
    return folder


def write_samples(
    folder: Path,
    shards: Sequence[Iterable[tuple[Sample, bytes | None]]],
    split: str = "train",
    name: str = "synthetic",
) -> Path:
    """Writes a shard set of one split, given the samples of each shard with their JPEG images."""
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[ShardEntry] = []
    for i, samples in enumerate(shards):
        file = shard_name(split, i, len(shards))
        with (folder / file).open("wb") as stream, shard_writer(stream, file) as writer:
            for item, content in samples:
                writer.write(item, "jpg", content)
        counts = (len(writer.rows), sum(row.captions for row in writer.rows))
        index = write_index(folder, file, writer.rows)
        entries.append(ShardEntry(file, split, writer.size, writer.sha256, *counts, index, [0]))
    write_manifest(folder, entries, name)
    return folder


def licenses(shards: Iterable[ShardEntry]) -> list[LicenseEntry]:
    """Returns the licenses of a manifest, if no table states that of an image."""
    return [LicenseEntry(0, "unknown", "", images=sum(entry.images for entry in shards))]


def write_index(folder: Path, shard: str, rows: Sequence[IndexRow]) -> FileEntry:
    """Writes the index of a shard, and returns its entry in the manifest."""
    return write_entry(folder, index_name(shard), encode_index(rows))


def read_indexes(folder: Path, split: str = "*") -> list[dict[str, Any]]:
    """Returns the rows of the indexes of a set or of a split, as they are stored."""
    paths = sorted(folder.glob(f"{split}-*.index.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def write_entry(folder: Path, name: str, content: bytes) -> FileEntry:
    """Writes a file, and returns its entry in the manifest."""
    (folder / name).write_bytes(content)
    return FileEntry(name, len(content), hashlib.sha256(content).hexdigest())


def write_manifest(folder: Path, shards: list[ShardEntry], name: str) -> None:
    """Writes the manifest of a shard set that has no tables."""
    manifest = Manifest(
        name=name,
        recipe_sha256="",
        recipe={},
        code_version="",
        language_model={},
        roles={
            entry.split: "train" if entry.split.startswith("train") else "eval" for entry in shards
        },
        totals={},
        not_asked_for=[],
        exclusions={},
        warnings=[],
        licenses=licenses(shards),
        terms={},
        sources={},
        shards=shards,
        files=[],
    )
    (folder / mf.NAME).write_bytes(mf.encode(manifest))
