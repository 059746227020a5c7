"""Shard sets with one object wrong, and all the rest, checksums included, as it should be."""

import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from schemas import Sample
from schemas.sample import decode_sample
from shards.format import manifest as mf
from shards.format.index import IndexRow
from shards.format.stats import Stats, as_json
from shards.format.tables import encode_index
from shards.format.writer import shard_writer
from shards.reading.shard_set import ShardSet
from shards.verification.errors import Fault, Kind
from shards.verification.verify import Report, verify

SHARD = "train-00001-of-00008.tar"
OTHER = "train-00002-of-00008.tar"


class Item(NamedTuple):
    """A sample with its image, and what kind of file that is."""

    sample: Sample
    extension: str
    image: bytes | None


Contents = dict[str, list[Item]]  # by shard


def rewrite(folder: Path, edit: Callable[[Contents], object]) -> None:
    """Writes the set in a folder anew, with what ``edit`` makes of its samples."""
    contents = _read(folder)
    edit(contents)
    manifest = mf.load(folder)
    rows: list[list[IndexRow]] = []
    stats = {split: Stats() for split in manifest.totals}
    sentences = sum(totals["sentences"] for totals in manifest.totals.values())
    for entry in manifest.shards:
        with (
            (folder / entry.file).open("wb") as stream,
            shard_writer(stream, entry.file) as writer,
        ):
            for sample, extension, image in contents[entry.file]:
                writer.write(sample, extension, image)
                stats[entry.split].add(sample)
        rows.append(writer.rows)
        entry.images, entry.captions = len(writer.rows), sum(row.captions for row in writer.rows)
    for split, totals in manifest.totals.items():
        manifest.totals[split] = {name: getattr(stats[split], name) for name in totals}
    source = next(iter(manifest.sources.values()))
    source.read += sum(of.sentences for of in stats.values()) - sentences
    (folder / mf.NAME).write_bytes(mf.encode(manifest))
    (folder / "index.parquet").write_bytes(encode_index(rows))
    (folder / "stats.json").write_bytes(as_json(stats))
    restate(folder)


def change(of: Item, **fields: Any) -> Item:
    """The item with other fields of its sample."""
    return of._replace(sample=msgspec.structs.replace(of.sample, **fields))


def reindex(folder: Path, edit: Callable[[dict[str, list[IndexRow]]], object]) -> None:
    """Writes the index anew, with what ``edit`` makes of its rows, by shard."""
    shards = ShardSet.open(folder)
    rows = {entry.file: shards.index_rows(i) for i, entry in enumerate(shards.shards)}
    edit(rows)
    (folder / "index.parquet").write_bytes(encode_index(rows.values()))
    restate(folder)


def retar(folder: Path, file: str, edit: Callable[[dict[str, bytes]], dict[str, bytes]]) -> None:
    """Writes a tar anew, with what ``edit`` makes of its members; the index says where they are.

    What the index says of members that are gone stays.
    """
    with tarfile.open(folder / file) as archive:
        members = {of.name: archive.extractfile(of).read() for of in archive}  # type: ignore[union-attr]
    with tarfile.open(folder / file, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in edit(members).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with tarfile.open(folder / file) as archive:
        found = {of.name: of for of in archive}
        content_of = {of.name: archive.extractfile(of).read() for of in found.values()}  # type: ignore[union-attr]

    def edit_index(rows: dict[str, list[IndexRow]]) -> None:
        for row in rows[file]:
            for kind, name in (("json", f"{row.key}.json"), ("image", row.image_name)):
                if name in found:
                    setattr(row, f"{kind}_offset", found[name].offset_data)
                    setattr(row, f"{kind}_size", found[name].size)
                    setattr(row, f"{kind}_crc32", zlib.crc32(content_of[name]))

    restate(folder)
    reindex(folder, edit_index)


def restate(folder: Path) -> None:
    """Has the manifest say of each of its files what it is now."""
    manifest = mf.load(folder)
    for entry in (*manifest.shards, *manifest.files):
        content = (folder / entry.file).read_bytes()
        entry.bytes, entry.sha256 = len(content), hashlib.sha256(content).hexdigest()
    (folder / mf.NAME).write_bytes(mf.encode(manifest))


def flip(path: Path, offset: int) -> None:
    """Damages one byte of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


def verified(folder: Path) -> Report:
    return verify(ShardSet.open(folder))


def kinds(folder: Path) -> dict[Kind, int]:
    return dict(verified(folder).faults.counts)


def one_fault(folder: Path) -> Fault:
    report = verified(folder)
    [fault] = report.faults.first
    assert report.faults.counts == {fault.kind: 1}
    return fault


def rows_of(folder: Path, file: str = SHARD) -> list[IndexRow]:
    found: list[IndexRow] = []
    reindex(folder, lambda rows: found.extend(rows[file]))
    return found


def _read(folder: Path) -> Contents:
    shards = ShardSet.open(folder)
    contents: Contents = {}
    for i, entry in enumerate(shards.shards):
        tar = (folder / entry.file).read_bytes()
        contents[entry.file] = [
            Item(
                decode_sample(tar[row.json_offset : row.json_offset + row.json_size]),
                row.image_name.rpartition(".")[2],
                tar[row.image_offset : row.image_offset + row.image_size]
                if row.image_name
                else None,
            )
            for row in shards.index_rows(i)
        ]
    return contents
