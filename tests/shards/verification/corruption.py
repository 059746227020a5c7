"""Corrupts one detail of a shard set and updates everything else, such as checksums."""

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
from shards.format.writer import shard_writer
from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind, VerificationError
from shards.verification.result import VerificationResult
from shards.verification.verify import verify
from tests.shard_sets import licenses, write_index

SHARD = "train-00001-of-00008.tar"
OTHER = "train-00002-of-00008.tar"


class StoredSample(NamedTuple):
    """A sample with its image file; None if there is no image."""

    sample: Sample
    extension: str
    image: bytes | None


#: The samples of every shard, by file name.
ShardContents = dict[str, list[StoredSample]]


def rewrite(folder: Path, edit: Callable[[ShardContents], object]) -> None:
    """Rewrites a set after ``edit`` changed its samples; no license is known then."""
    contents = _read(folder)
    edit(contents)
    manifest = mf.load(folder)
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
        write_index(folder, entry.file, writer.rows)
        entry.licenses = [0]
        entry.images, entry.captions = len(writer.rows), sum(row.captions for row in writer.rows)
    for split, totals in manifest.totals.items():
        manifest.totals[split] = {name: getattr(stats[split], name) for name in totals}
    manifest.licenses = licenses(manifest.shards)
    source = next(iter(manifest.sources.values()))
    source.read += sum(split_stats.sentences for split_stats in stats.values()) - sentences
    (folder / mf.NAME).write_bytes(mf.encode(manifest))
    (folder / "stats.json").write_bytes(as_json(stats))
    restate(folder)


def replace_fields(stored: StoredSample, **fields: Any) -> StoredSample:
    """Returns a sample with other values of some fields."""
    return stored._replace(sample=msgspec.structs.replace(stored.sample, **fields))


def reindex(folder: Path, edit: Callable[[dict[str, list[IndexRow]]], object]) -> None:
    """Rewrites the indexes after ``edit`` changed their rows, which are by shard.

    Rows have the ids of the manifest's licenses.
    """
    shards = ShardSet.open(folder)
    rows = {entry.file: shards.index_rows(i) for i, entry in enumerate(shards.shards)}
    edit(rows)
    manifest = shards.manifest
    for entry in manifest.shards:
        write_index(folder, entry.file, rows[entry.file])
        entry.licenses = list(range(len(manifest.licenses)))
    (folder / mf.NAME).write_bytes(mf.encode(manifest))
    restate(folder)


def retar(folder: Path, file: str, edit: Callable[[dict[str, bytes]], dict[str, bytes]]) -> None:
    """Rewrites a tar with the members that ``edit`` returns, and updates their index entries.

    The index entries of members that are gone stay.
    """
    with tarfile.open(folder / file) as archive:
        members = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]
    with tarfile.open(folder / file, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in edit(members).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with tarfile.open(folder / file) as archive:
        infos = {info.name: info for info in archive}
        contents = {m.name: archive.extractfile(m).read() for m in infos.values()}  # type: ignore[union-attr]

    def edit_index(rows: dict[str, list[IndexRow]]) -> None:
        for row in rows[file]:
            for kind, name in (("json", f"{row.key}.json"), ("image", row.image_name)):
                if name in infos:
                    setattr(row, f"{kind}_offset", infos[name].offset_data)
                    setattr(row, f"{kind}_size", infos[name].size)
                    setattr(row, f"{kind}_crc32", zlib.crc32(contents[name]))

    restate(folder)
    reindex(folder, edit_index)


def restate(folder: Path) -> None:
    """Updates the size and sha256 of every file in the manifest."""
    manifest = mf.load(folder)
    for entry in manifest.entries():
        content = (folder / entry.file).read_bytes()
        entry.bytes, entry.sha256 = len(content), hashlib.sha256(content).hexdigest()
    (folder / mf.NAME).write_bytes(mf.encode(manifest))


def flip_byte(path: Path, offset: int) -> None:
    """Inverts the bits of one byte of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


def verified(folder: Path) -> VerificationResult:
    return verify(ShardSet.open(folder))


def kinds(folder: Path) -> dict[ErrorKind, int]:
    return dict(verified(folder).errors.counts)


def of_kind(folder: Path, kind: ErrorKind) -> list[VerificationError]:
    return [error for error in verified(folder).errors.listed if error.kind is kind]


def only_error(folder: Path) -> VerificationError:
    report = verified(folder)
    [error] = report.errors.listed
    assert report.errors.counts == {error.kind: 1}
    return error


def only_kind_and_file(folder: Path) -> tuple[ErrorKind, str]:
    error = only_error(folder)
    return error.kind, error.file


def only_kind_and_key(folder: Path) -> tuple[ErrorKind, str]:
    error = only_error(folder)
    return error.kind, error.key


def index_rows(folder: Path, file: str = SHARD) -> list[IndexRow]:
    index_rows: list[IndexRow] = []
    reindex(folder, lambda rows: index_rows.extend(rows[file]))
    return index_rows


def _read(folder: Path) -> ShardContents:
    shards = ShardSet.open(folder)
    contents: ShardContents = {}
    for i, entry in enumerate(shards.shards):
        tar = (folder / entry.file).read_bytes()
        contents[entry.file] = [
            StoredSample(
                decode_sample(tar[row.json_offset : row.json_offset + row.json_size]),
                row.image_name.rpartition(".")[2],
                tar[row.image_offset : row.image_offset + row.image_size]
                if row.image_name
                else None,
            )
            for row in shards.index_rows(i)
        ]
    return contents
