"""Builds one shard: excludes, merges, combines and writes the records of its images."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

import msgspec
from apache_beam.io.filesystems import FileSystems

from pipelines.beam.output_files import write_file
from pipelines.beam.same_files import packed_files
from pipelines.captions.class_captions import unite
from pipelines.captions.combine import combine
from pipelines.captions.merge import MergedImage, merge, reject_record, scale_boxes
from pipelines.captions.negatives import (
    Vocabulary,
    VocabularyCounts,
    absent_caption,
    choose_absent,
    stated_words,
)
from pipelines.dedup.image_registry import ImageRegistry
from pipelines.dedup.near_duplicates import HashedImage, HeldOutHashes
from pipelines.io.beam_files import atomic_write, scratch_folder
from pipelines.io.images import ImageFile, ImageStore, UnusableImageError
from pipelines.io.lease import Lease
from pipelines.recipe import Recipe
from schemas import Caption, Excluded, ImageInfo, ImageRecord, Rejected, Sample
from schemas.joins import HASH
from schemas.sentences import as_sentence
from shards.format.licenses import LicenseCounter, LicenseEntry
from shards.format.manifest import ShardEntry
from shards.format.placement import index_name, is_safe_key, position, shard_name
from shards.format.source_counts import Counts, SourceCounts
from shards.format.stats import Stats
from shards.format.tables import encode_index
from shards.format.writer import ShardWriter, shard_writer


class ShardSummary(msgspec.Struct):
    """The contribution of a shard to the manifest and the tables.

    ``sources`` counts what became of the captions that the shard was given; those that were merged
    or rejected when they were read are not counted. ``entry`` states no licenses yet. ``files``
    is of `packed_files`.
    """

    entry: ShardEntry
    shard: int
    rejected: list[Rejected]
    excluded: list[Excluded]
    stats: Stats
    sources: dict[str, SourceCounts]
    licenses: list[LicenseEntry]  # whose ids the rows have
    several_licenses: int  # the number of images of which sources state different ones
    files: bytes
    absent: dict[str, Counts] = {}  # what became of the absent phrases of each source


class ShardPhotos(msgspec.Struct):
    """The photos of a shard's images.

    ``photos`` has one name for all images that are held out together with the image of a key
    (`ImageRegistry.group`).
    """

    split: str
    keys: list[str]
    photos: list[str]


class ShardBuilder:
    """Collects the slice outputs of a shard, then writes the shard image by image."""

    def __init__(
        self,
        recipe: Recipe,
        output: str,
        split: str,
        shard: int,
        image_registry: ImageRegistry,
        store: ImageStore,
        held_out_hashes: Iterable[HashedImage],
        on_rejected: Callable[[Rejected], None] = lambda rejected: None,
        lease: Lease | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """Creates a builder that passes each rejected row to ``on_rejected``, which may raise.

        Without a ``vocabulary`` there are neither synonyms nor phrases to draw.
        """
        self._recipe = recipe
        self._on_rejected = on_rejected
        self._output = output
        self._lease = lease
        self._split = split
        self._is_trained_on = recipe.is_trained_on(split)
        self._shard = shard
        self._image_registry = image_registry
        self._store = store
        self._held_out_hashes = HeldOutHashes(held_out_hashes, recipe.near_duplicates.distance)
        self._unique_images: list[ImageInfo] = []
        self._records: dict[str, list[ImageRecord]] = defaultdict(list)  # by canonical key
        self._rejected: list[Rejected] = []
        self._excluded: list[Excluded] = []
        self._stats = Stats()
        self._counts: dict[str, SourceCounts] = defaultdict(SourceCounts)
        self._licenses = LicenseCounter()
        self._several_licenses = 0
        self._last_file: tuple[tuple[str, str], ImageFile] | None = None
        self._vocabulary = vocabulary or Vocabulary(VocabularyCounts())
        self._absent: dict[str, Counts] = defaultdict(Counts)
        self._stated: set[str] = set()  # about the image that is being written

    def add(self, records: Iterable[ImageRecord], unique_images: Iterable[ImageInfo] = ()) -> None:
        """Adds a slice output; ``unique_images`` are rows that the image registry lacks."""
        self._unique_images += unique_images
        for record in records:
            self._records[self._image_registry.canonical(record.image)].append(record)

    def write(self) -> tuple[ShardSummary, ShardPhotos]:
        """Writes the tar and its index, and returns their summary and the photos in them.

        Raises:
            LeaseLostError: Another build has taken over the lease that this one held.
        """
        self._image_registry = self._image_registry.with_unique_images(self._unique_images)
        name = shard_name(self._split, self._shard, self._recipe.splits[self._split].shards)
        scratch = scratch_folder(self._output, self._lease)
        with (
            atomic_write(FileSystems.join(self._output, name), scratch, self._lease) as stream,
            shard_writer(stream, name) as writer,
        ):
            for key in sorted(self._records, key=lambda k: (position(k, self._recipe.salt), k)):
                self._write_records(self._records.pop(key), writer)
        index = encode_index(writer.rows)
        summary = ShardSummary(
            entry=ShardEntry(
                file=name,
                split=self._split,
                bytes=writer.size,
                sha256=writer.sha256,
                images=self._stats.images,
                captions=self._stats.captions,
                index=write_file(self._output, index_name(name), index, self._lease),
                licenses=[],
            ),
            shard=self._shard,
            rejected=self._rejected,
            excluded=self._excluded,
            stats=self._stats,
            sources=dict(self._counts),
            licenses=self._licenses.entries,
            several_licenses=self._several_licenses,
            files=packed_files(writer.rows),
            absent=dict(self._absent),
        )
        keys = [row.key for row in writer.rows]
        photos = [self._image_registry.group(key) for key in keys]
        return summary, ShardPhotos(self._split, keys, photos)

    def _write_records(self, records: list[ImageRecord], writer: ShardWriter) -> None:
        """Writes the samples of all records of one canonical key, unless they are excluded."""
        asked_for = self._recipe.negatives.are_asked_for
        self._stated = stated_words(records) if asked_for else set()
        records, merged_counts, rejected_rows = unite(records)
        for source, count in merged_counts.items():
            self._counts[source].merged += count
        for rejected in rejected_rows:
            self._reject(rejected)
        used = [record for record in records if record.captions or record.absent]
        if self._is_trained_on and self._exclude(used):
            return
        absent: Counter[str] = Counter()
        for record in used:
            absent[record.source] += len(record.absent)
        records = [record for record in records if self._has_boxes_in_pixels(record)]
        for merged in merge(records, self._image_registry, self._recipe.rules):
            if isinstance(merged, Rejected):
                self._reject(merged)
            else:
                absent.subtract(sourced.source for sourced in merged.absent)
                self._write_sample(merged, writer)
        for source, count in absent.items():
            if count:  # of records that are rejected as a whole
                self._absent[source].rejected += count

    def _has_boxes_in_pixels(self, record: ImageRecord) -> bool:
        """Returns whether a record's boxes are in pixels, into which it converts relative ones.

        They cannot be if the image has no usable file, for which the record is rejected.
        """
        if not (record.has_relative_boxes and record.captions):
            return True
        image = self._image_registry.image_in(record.source, record.image)
        if image is None:
            return True  # of an unknown image: it is rejected
        try:
            file = self._read(image)
        except UnusableImageError as error:
            self._reject(reject_record(record, error.reason, error.detail))
            return False
        record.width, record.height = file.width, file.height
        scale_boxes(record)
        return True

    def _read(self, image: ImageInfo) -> ImageFile:
        """Reads the file of an image; again only if another one was read since.

        Raises:
            UnusableImageError: As of `ImageStore.read`.
        """
        name = image.source, image.file
        if self._last_file is None or self._last_file[0] != name:
            self._last_file = name, self._store.read(image)
        return self._last_file[1]

    def _write_sample(self, merged: MergedImage, writer: ShardWriter) -> None:
        image, content, extension = merged.image, None, ""
        if not is_safe_key(image.key):
            self._reject_image(merged, "unsafe image name", ascii(image.key[:200]))
            return
        if self._recipe.images == "embed":
            try:
                file = self._read(image)
                if self._is_trained_on and self._exclude_near_duplicate(merged, file.content):
                    return
            except UnusableImageError as error:
                self._reject_image(merged, error.reason, error.detail)
                return
            content, extension = file.content, file.extension
            image = msgspec.structs.replace(image, width=file.width, height=file.height)
        fitting = self._fitting(merged)
        captions = [caption for _, caption in fitting]
        captions += self._absent_captions(merged)
        if self._recipe.splits[self._split].combine:
            captions = combine(captions, self._recipe.rules)
        if captions:
            sample = Sample(
                key=image.key,
                width=image.width,
                height=image.height,
                file=image.file,
                captions=captions,
            )
            canonical = self._image_registry.canonical(image.key)
            crop_of = canonical if canonical != image.key else ""
            rows = self._rows_of_photo([image.key, *merged.keys, canonical])
            licenses = self._licenses.add(rows)
            self._several_licenses += len(licenses) > 1
            url = next((row.url for row in rows if row.url), "")
            writer.write(sample, extension, content, crop_of, licenses, url)
            self._stats.add(sample)
            for source, caption in fitting:
                counts = self._counts[source]
                counts.in_shards += 1
                counts.boxes.in_shards += len(caption.regions)

    def _absent_captions(self, merged: MergedImage) -> list[Caption]:
        """Returns a caption for each absent phrase of an image, and counts what became of them."""
        negatives, rules = self._recipe.negatives, self._recipe.rules
        if not negatives.are_asked_for:
            # The package's own sources state none then; readers of others may.
            for sourced in merged.absent:
                self._absent[sourced.source].not_asked_for += 1
            return []
        chosen = choose_absent(
            merged.absent,
            self._stated,
            self._vocabulary,
            proven=negatives.proven,
            unproven=negatives.unproven if self._is_trained_on else 0,
            seed=merged.image.key,
            max_characters=rules.max_length - 2,
        )
        for sourced in chosen.proven:
            self._absent[sourced.source].in_shards += 1
        for sourced in chosen.merged:
            self._absent[sourced.source].merged += 1
        for sourced in chosen.left_out:
            self._absent[sourced.source].not_asked_for += 1
        for (source, phrase), reason in chosen.rejected:
            self._absent[source].rejected += 1
            record = f"{phrase.dataset}/{phrase.record}"
            detail = ascii(phrase.text[:100])
            self._reject(Rejected(source, record, reason, detail, merged.image.key, records=0))
        return [absent_caption(phrase) for _, phrase in chosen.proven] + [
            absent_caption(phrase) for phrase in chosen.unproven
        ]

    def _rows_of_photo(self, keys: list[str]) -> list[ImageInfo]:
        """Returns the rows of image tables about several images of one photo, in order."""
        return [row for key in dict.fromkeys(keys) for row in self._image_registry.stated_rows(key)]

    def _fitting(self, merged: MergedImage) -> list[tuple[str, Caption]]:
        """Returns the source and the caption of each sentence, unless it is too long to combine."""
        rules = self._recipe.rules
        captions = list(zip(merged.sources, merged.captions, strict=True))
        if not self._recipe.splits[self._split].combine or rules.length != "joined":
            return captions
        fitting: list[tuple[str, Caption]] = []
        for source, caption in captions:
            length = len(as_sentence(caption.text))
            if length >= rules.max_length:
                [origin] = caption.provenance
                self._reject(
                    Rejected(
                        source=source,
                        record=f"{origin.dataset}/{origin.record}",
                        reason="caption too long",
                        detail=f"{length} characters",
                        image=merged.image.key,
                        boxes=len(caption.regions),
                    )
                )
            else:
                fitting.append((source, caption))
        return fitting

    def _exclude(self, records: list[ImageRecord]) -> bool:
        """Excludes an image if it or a duplicate of it is held out; returns whether it is."""
        caption_counts: Counter[str] = Counter()
        for record in records:
            caption_counts[record.image] += len(record.captions)
        rows = [
            Excluded(
                split=self._split,
                image=image,
                duplicate_of=self._image_registry.canonical(image),
                eval_set=match.eval_set,
                eval_image=match.eval_image,
                join=match.join,
                captions=count,
            )
            for image, count in sorted(caption_counts.items())
            for match in self._image_registry.held_out(image)
        ]
        self._excluded += rows
        if rows:
            for record in records:
                counts = self._counts[record.source]
                counts.excluded += len(record.captions)
                counts.boxes.excluded += sum(c.box_count() for c in record.captions)
                if record.absent:
                    self._absent[record.source].excluded += len(record.absent)
        return bool(rows)

    def _exclude_near_duplicate(self, merged: MergedImage, content: bytes) -> bool:
        """Reports held-out images with a similar hash; returns whether the image is excluded."""
        near = self._held_out_hashes.near(content)
        is_excluded = bool(near) and self._recipe.near_duplicates.action == "exclude"
        for eval_image in near:
            self._excluded.append(
                Excluded(
                    split=self._split,
                    image=merged.image.key,
                    duplicate_of=merged.image.key,
                    eval_set=eval_image.eval_set,
                    eval_image=eval_image.key,
                    join=HASH,
                    captions=len(merged.captions),
                    excluded=is_excluded,
                )
            )
        if is_excluded:
            for source, caption in zip(merged.sources, merged.captions, strict=True):
                self._counts[source].excluded += 1
                self._counts[source].boxes.excluded += len(caption.regions)
            for sourced in merged.absent:
                self._absent[sourced.source].excluded += 1
        return is_excluded

    def _reject(self, rejected: Rejected) -> None:
        self._rejected.append(rejected)
        counts = self._counts[rejected.source]
        counts.rejected += rejected.records
        counts.boxes.rejected += rejected.boxes
        self._on_rejected(rejected)

    def _reject_image(self, merged: MergedImage, reason: str, detail: str) -> None:
        """Rejects all records of an image, with one row for each of their sources."""
        key = merged.image.key
        boxes: Counter[str] = Counter()
        for source, caption in zip(merged.sources, merged.captions, strict=True):
            boxes[source] += len(caption.regions)
        absent = Counter(sourced.source for sourced in merged.absent)
        captions = Counter(merged.sources)
        for source in sorted({*captions, *absent}):
            count = captions[source]
            self._reject(Rejected(source, key, reason, detail, key, count, boxes[source]))
        for source, count in absent.items():
            self._absent[source].rejected += count
