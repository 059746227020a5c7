"""One shard: everything that was said of its images, excluded, merged, combined and written."""

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from apache_beam.io.filesystems import FileSystems

from pipelines.beam.serialization import pack
from pipelines.captions.combine import combine, sentence
from pipelines.captions.merge import Merged, merge
from pipelines.dedup.image_registry import ImageRegistry
from pipelines.io.images import ImageStore, UnusableImageError, perceptual_hash
from pipelines.recipe import Recipe
from schemas import Caption, Excluded, ImageInfo, ImageRecord, Rejected, Sample
from shards.format.manifest import ShardEntry
from shards.format.placement import is_safe_key, position, shard_name
from shards.format.source_counts import SourceCounts
from shards.format.stats import Stats
from shards.format.writer import ShardWriter, shard_writer


class HashedImage(msgspec.Struct, array_like=True):
    """The perceptual hash of a held-out image."""

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
    """Collects what the slices have for a shard, then writes it image by image."""

    def __init__(
        self,
        recipe: Recipe,
        output: str,
        split: str,
        shard: int,
        image_registry: ImageRegistry,
        store: ImageStore,
        held_out_hashes: Sequence[HashedImage],
    ) -> None:
        self._recipe = recipe
        self._output = output
        self._split = split
        self._shard = shard
        self._image_registry = image_registry
        self._store = store
        # An image may be hashed from several folders.
        self._hashed = [*{(h.set, h.key, h.hash): h for h in held_out_hashes}.values()]
        self._hashes = np.array([h.hash for h in self._hashed], np.uint64)
        self._alone: list[ImageInfo] = []
        self._parts: dict[str, list[ImageRecord]] = defaultdict(list)
        self._rejected: list[Rejected] = []
        self._excluded: list[Excluded] = []
        self._stats = Stats()
        self._counts: dict[str, SourceCounts] = defaultdict(SourceCounts)

    def add(
        self,
        parts: Iterable[ImageRecord],
        rejected: Iterable[Rejected],
        alone: Iterable[ImageInfo] = (),
    ) -> None:
        """Takes in what a slice has; ``alone`` are images that are not in the catalogue."""
        self._alone += alone
        for part in parts:
            self._parts[self._image_registry.canonical(part.image)].append(part)
            counts = self._counts[part.source]
            counts.read += len(part.captions) + part.merged
            counts.merged += part.merged
        for record in rejected:
            self._counts[record.source].read += record.records
            self._reject(record)

    def write(self) -> ShardSummary:
        """Writes the tar to a temporary name, renames it, and tells what is in it."""
        self._image_registry = self._image_registry.beside(self._alone)
        name = shard_name(self._split, self._shard, self._recipe.splits[self._split].shards)
        temporary = FileSystems.join(self._output, f".{name}.{uuid.uuid4().hex}")
        with (
            FileSystems.create(temporary, compression_type="uncompressed") as stream,
            shard_writer(stream, name) as writer,
        ):
            for key in sorted(self._parts, key=lambda k: (position(k, self._recipe.salt), k)):
                self._write_image(self._parts.pop(key), writer)
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

    def _write_image(self, parts: list[ImageRecord], writer: ShardWriter) -> None:
        spoken = [part for part in parts if part.captions]
        if self._split == "train" and self._exclude(spoken):
            return
        for merged in merge(parts, self._image_registry, self._recipe.rules):
            if isinstance(merged, Rejected):
                self._reject(merged)
            else:
                self._write_merged(merged, writer)

    def _write_merged(self, merged: Merged, writer: ShardWriter) -> None:
        image, content, extension = merged.image, None, ""
        if not is_safe_key(image.key):
            self._reject_image(merged, "unsafe image name", ascii(image.key[:200]))
            return
        if self._recipe.images == "embed":
            try:
                file = self._store.read(image)
                if self._split == "train" and self._exclude_near_duplicate(merged, file.content):
                    return
            except UnusableImageError as error:
                self._reject_image(merged, error.reason, error.detail)
                return
            content, extension = file.content, file.extension
            image = msgspec.structs.replace(image, width=file.width, height=file.height)
        captions = self._captions(merged)
        if captions:
            sample = Sample(image.key, image.width, image.height, image.file, captions)
            writer.write(sample, extension, content)
            self._stats.add(sample)

    def _captions(self, merged: Merged) -> list[Caption]:
        """The sentences of an image as the captions of its sample."""
        if not self._recipe.splits[self._split].combine:
            return merged.captions
        rules = self._recipe.rules
        fitting: list[Caption] = []
        for source, caption in zip(merged.sources, merged.captions, strict=True):
            length = len(sentence(caption.text))
            if rules.length == "joined" and length >= rules.max_length:
                [origin] = caption.provenance
                record = f"{origin.dataset}/{origin.record}"
                detail = f"{length} characters"
                self._reject(Rejected(source, record, "caption too long", detail, merged.image.key))
            else:
                fitting.append(caption)
        return combine(fitting, rules)

    def _exclude(self, parts: list[ImageRecord]) -> bool:
        """Whether the image is held out through any of its copies, which is then recorded."""
        captions: Counter[str] = Counter()
        for part in parts:
            captions[part.image] += len(part.captions)
        rows = [
            Excluded(
                split=self._split,
                image=image,
                duplicate_of=self._image_registry.canonical(image),
                eval_set=eval_set,
                eval_image=eval_image,
                join=join,
                captions=n,
            )
            for image, n in sorted(captions.items())
            for eval_set, eval_image, join in self._image_registry.held_out(image)
        ]
        self._excluded += rows
        if rows:
            for part in parts:
                self._counts[part.source].excluded += len(part.captions)
        return bool(rows)

    def _exclude_near_duplicate(self, merged: Merged, content: bytes) -> bool:
        """Whether the image looks like a held-out one and the recipe says to leave it out."""
        if not len(self._hashes):
            return False
        own = np.uint64(perceptual_hash(content))
        near = np.flatnonzero(
            np.bitwise_count(self._hashes ^ own) <= self._recipe.near_duplicates.distance
        )
        key, leave_out = merged.image.key, self._recipe.near_duplicates.action == "exclude"
        for i in near.tolist():
            other = self._hashed[i]
            self._excluded.append(
                Excluded(
                    split=self._split,
                    image=key,
                    duplicate_of=key,
                    eval_set=other.set,
                    eval_image=other.key,
                    join="perceptual hash",
                    captions=len(merged.captions),
                    excluded=leave_out,
                )
            )
        if leave_out and len(near):
            for source in merged.sources:
                self._counts[source].excluded += 1
        return leave_out and len(near) > 0

    def _reject(self, rejected: Rejected) -> None:
        self._rejected.append(rejected)
        self._counts[rejected.source].rejected += rejected.records

    def _reject_image(self, merged: Merged, reason: str, detail: str) -> None:
        """Rejects all the records of an image, with one row for each of their sources."""
        key = merged.image.key
        for source, records in sorted(Counter(merged.sources).items()):
            self._reject(Rejected(source, key, reason, detail, key, records))
