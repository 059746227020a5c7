"""One shard: everything that was said of its pictures, excluded, merged, combined and written."""

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from apache_beam.io.filesystems import FileSystems

from pipelines.catalogue import Catalogue
from pipelines.combine import combine, keep, sentence
from pipelines.merge import Merged, merge
from pipelines.packing import pack
from pipelines.pictures import PictureStore, UnusablePictureError, perceptual_hash
from pipelines.recipe import Recipe
from schemas import Caption, Excluded, GroundedCaption, ImagePart, Picture, Rejected, Sample
from shards.manifest import ShardEntry
from shards.placement import is_safe_key, position, shard_name
from shards.stats import Stats
from shards.write import ShardWriter, shard_writer


class SourceCounts(msgspec.Struct):
    """What became of a source's records; those that are in none of the last three are in shards."""

    read: int = 0
    merged: int = 0  # into the caption of another record
    rejected: int = 0
    excluded: int = 0


class HashedPicture(msgspec.Struct, array_like=True):
    """The perceptual hash of a held-out picture."""

    hash: int
    set: str
    key: str


class ShardSummary(msgspec.Struct):
    """What the manifest and the tables need to know of a shard.

    ``rows`` are packed, `list[IndexRow]`: the commit holds those of all shards at once.
    """

    entry: ShardEntry
    shard: int
    rows: bytes
    rejected: list[Rejected]
    excluded: list[Excluded]
    stats: Stats
    sources: dict[str, SourceCounts]


class ShardBuilder:
    """Collects what the slices have for a shard, then writes it picture by picture."""

    def __init__(
        self,
        recipe: Recipe,
        output: str,
        split: str,
        shard: int,
        catalogue: Catalogue,
        store: PictureStore,
        held_out_hashes: Sequence[HashedPicture],
    ) -> None:
        self._recipe = recipe
        self._output = output
        self._split = split
        self._shard = shard
        self._catalogue = catalogue
        self._store = store
        # A picture may be hashed from several folders.
        self._hashed = [*{(h.set, h.key, h.hash): h for h in held_out_hashes}.values()]
        self._hashes = np.array([h.hash for h in self._hashed], np.uint64)
        self._alone: list[Picture] = []
        self._parts: dict[str, list[ImagePart]] = defaultdict(list)
        self._rejected: list[Rejected] = []
        self._excluded: list[Excluded] = []
        self._stats = Stats()
        self._counts: dict[str, SourceCounts] = defaultdict(SourceCounts)

    def add(
        self,
        parts: Iterable[ImagePart],
        rejected: Iterable[Rejected],
        alone: Iterable[Picture] = (),
    ) -> None:
        """Takes in what a slice has; ``alone`` are pictures that are not in the catalogue."""
        self._alone += alone
        for part in parts:
            self._parts[self._catalogue.canonical(part.picture)].append(part)
            counts = self._counts[part.source]
            counts.read += len(part.captions) + part.merged
            counts.merged += part.merged
        for record in rejected:
            self._counts[record.source].read += record.records
            self._reject(record)

    def write(self) -> ShardSummary:
        """Writes the tar to a temporary name, renames it, and tells what is in it."""
        self._catalogue = self._catalogue.beside(self._alone)
        name = shard_name(self._split, self._shard, self._recipe.splits[self._split].shards)
        temporary = FileSystems.join(self._output, f".{name}.{uuid.uuid4().hex}")
        with (
            FileSystems.create(temporary, compression_type="uncompressed") as stream,
            shard_writer(stream, name) as writer,
        ):
            for key in sorted(self._parts, key=lambda k: (position(k, self._recipe.salt), k)):
                self._write_picture(self._parts.pop(key), writer)
        FileSystems.rename([temporary], [FileSystems.join(self._output, name)])
        entry = ShardEntry(
            name, self._split, writer.size, writer.sha256, self._stats.images, self._stats.captions
        )
        return ShardSummary(
            entry,
            self._shard,
            pack(writer.rows),
            self._rejected,
            self._excluded,
            self._stats,
            dict(self._counts),
        )

    def _write_picture(self, parts: list[ImagePart], writer: ShardWriter) -> None:
        spoken = [part for part in parts if part.captions]
        if self._split == "train" and self._exclude(spoken):
            return
        for merged in merge(parts, self._catalogue, self._recipe.rules):
            if isinstance(merged, Rejected):
                self._reject(merged)
            else:
                self._write_merged(merged, writer)

    def _write_merged(self, merged: Merged, writer: ShardWriter) -> None:
        picture, content, extension = merged.picture, None, ""
        if not is_safe_key(picture.key):
            self._reject_picture(merged, "unsafe picture name", ascii(picture.key[:200]))
            return
        if self._recipe.images == "embed":
            try:
                file = self._store.read(picture)
                if self._split == "train" and self._exclude_near_duplicate(merged, file.content):
                    return
            except UnusablePictureError as error:
                self._reject_picture(merged, error.reason, error.detail)
                return
            content, extension = file.content, file.extension
            picture = msgspec.structs.replace(picture, width=file.width, height=file.height)
        captions = self._captions(merged)
        if captions:
            sample = Sample(picture.key, picture.width, picture.height, picture.file, captions)
            writer.write(sample, extension, content)
            self._stats.add(sample)

    def _captions(self, merged: Merged) -> list[Caption]:
        """The sentences of a picture as the captions of its sample."""
        if not self._recipe.splits[self._split].combine:
            return [keep(caption) for caption in merged.captions]
        rules = self._recipe.rules
        fitting: list[GroundedCaption] = []
        for source, caption in zip(merged.sources, merged.captions, strict=True):
            length = len(sentence(caption.text))
            if rules.length == "joined" and length >= rules.max_length:
                record = f"{caption.dataset}/{caption.record}"
                detail = f"{length} characters"
                self._reject(
                    Rejected(source, record, "caption too long", detail, merged.picture.key)
                )
            else:
                fitting.append(caption)
        return combine(fitting, rules)

    def _exclude(self, parts: list[ImagePart]) -> bool:
        """Whether the picture is held out through any of its copies, which is then recorded."""
        captions: Counter[str] = Counter()
        for part in parts:
            captions[part.picture] += len(part.captions)
        rows = [
            Excluded(self._split, self._catalogue.canonical(copy), copy, name, held_out, join, n)
            for copy, n in sorted(captions.items())
            for name, held_out, join in self._catalogue.held_out(copy)
        ]
        self._excluded += rows
        if rows:
            for part in parts:
                self._counts[part.source].excluded += len(part.captions)
        return bool(rows)

    def _exclude_near_duplicate(self, merged: Merged, content: bytes) -> bool:
        """Whether the picture looks like a held-out one and the recipe says to leave it out."""
        if not len(self._hashes):
            return False
        own = np.uint64(perceptual_hash(content))
        near = np.flatnonzero(
            np.bitwise_count(self._hashes ^ own) <= self._recipe.near_duplicates.distance
        )
        key, leave_out = merged.picture.key, self._recipe.near_duplicates.action == "exclude"
        for i in near.tolist():
            other = self._hashed[i]
            self._excluded.append(
                Excluded(
                    self._split,
                    key,
                    key,
                    other.set,
                    other.key,
                    "perceptual hash",
                    len(merged.captions),
                    leave_out,
                )
            )
        if leave_out and len(near):
            for source in merged.sources:
                self._counts[source].excluded += 1
        return leave_out and len(near) > 0

    def _reject(self, rejected: Rejected) -> None:
        self._rejected.append(rejected)
        self._counts[rejected.source].rejected += rejected.records

    def _reject_picture(self, merged: Merged, reason: str, detail: str) -> None:
        """Rejects all the records of a picture, with one row for each of their sources."""
        key = merged.picture.key
        for source, records in sorted(Counter(merged.sources).items()):
            self._reject(Rejected(source, key, reason, detail, key, records))
