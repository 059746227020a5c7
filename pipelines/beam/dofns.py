"""The ``DoFn`` of each step of the pipeline.

Elements are few, large and packed: a slice of a raw file, the records of one slice for one shard,
the summary of one shard. Records that cannot be used go to the tagged output ``REJECTED``.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from pipelines.beam import progress
from pipelines.beam.serialization import pack, unpack
from pipelines.beam.shard_builder import ShardBuilder, ShardSummary
from pipelines.captions.parsing import shared_parser
from pipelines.captions.stop_words import STOP_WORDS, parse_stop_words
from pipelines.dedup.eval_exclusion import read_held_out
from pipelines.dedup.image_registry import ImageRegistry
from pipelines.dedup.near_duplicates import HashedImage, perceptual_hash
from pipelines.garbage_collection import collection_paused
from pipelines.io.beam_files import scratch_folder
from pipelines.io.images import ImageStore, UnusableImageError
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import Input, SliceRange, find_slices, read_slice
from pipelines.io.zips import read_whole
from pipelines.recipe import Recipe
from pipelines.sources.base import Context
from schemas import EvalImage, ImageInfo, ImageRecord, Rejected
from schemas.image_ids import namespace_of, normal_key
from schemas.limits import MAX_LIST_BYTES, MAX_REPORTED_CHARACTERS
from shards.format.placement import shard_of

# Tags of additional outputs.
REJECTED = "rejected"
UNIQUE_IMAGES = "unique_images"
IMAGES = "images"

METRICS = "build"  # the namespace of counters and distributions
NO_IMAGE = ""  # the source of a row that only joins images
MAX_SIDE = 1 << 24  # of an image in pixels; whole numbers below it are exact in float32


class Build(msgspec.Struct, frozen=True):
    """The settings of a build that all steps share.

    The paths of ``recipe`` are resolved; those of ``as_written`` are as in the recipe's file. The
    manifest contains the latter, so that it does not depend on where the raw files are.
    """

    recipe: Recipe
    as_written: Recipe
    output: str
    strict: bool = False
    progress: str = ""  # file to which steps append, on the local runner

    @property
    def scratch(self) -> str:
        """The folder of temporary files."""
        return scratch_folder(self.output)


class StrictError(Exception):
    """The first record that could not be used, under ``--strict``."""


class SliceOutput(msgspec.Struct, array_like=True, gc=False):
    """The records of one slice that belong to one shard."""

    records: list[ImageRecord] = []
    rejected: list[Rejected] = []
    images: list[ImageInfo] = []  # unique images, which no other source has


def shard_key(split: str, shard: int) -> bytes:
    """Returns the key by which elements are grouped into a shard, such as ``train/00003``."""
    return f"{split}/{shard:05d}".encode()


class _Step(beam.DoFn):
    """The base class of all steps."""

    def __init__(self, build: Build) -> None:
        self._build = build

    def _key_of_image(self, image_key: str, split: str) -> bytes:
        """Returns the key of the shard of a split that holds an image."""
        recipe = self._build.recipe
        return shard_key(split, shard_of(image_key, recipe.splits[split].shards, recipe.salt))

    def _key_of_rejected(self, rejected: Rejected) -> bytes:
        """Returns the key of the shard, of the first split, that reports a rejected record."""
        split = next(iter(self._build.recipe.splits))
        return self._key_of_image(f"{rejected.source}/{rejected.record}", split)

    def _tag_rejected(self, rejected: Rejected) -> Any:
        """Returns the tagged output with a rejected record, keyed by the shard that reports it."""
        self._check_strict([rejected])
        packed = _pack("slice outputs", SliceOutput(rejected=[rejected]))
        return beam.pvalue.TaggedOutput(REJECTED, (self._key_of_rejected(rejected), packed))

    def _check_strict(self, rejected: list[Rejected]) -> None:
        if self._build.strict and rejected:
            first = min(rejected, key=msgspec.structs.astuple)
            raise StrictError(f"{first.source} {first.record}: {first.reason} {first.detail}")

    def _report_done(self, stage: str, started: float) -> None:
        """Reports that an element is done: to the local progress bar, and in a counter."""
        seconds = time.monotonic() - started
        progress.tick(self._build.progress, stage, seconds)
        Metrics.counter(METRICS, f"{stage}: worker ms").inc(int(1000 * seconds))


class FindSlices(_Step):
    """Maps a raw file to the byte ranges of its slices.

    ``annotations``: whether the elements of the file are records of a source, which are counted.
    ``held_out``: whether they name images of an evaluation set.
    """

    def __init__(self, build: Build, annotations: bool, held_out: bool) -> None:
        super().__init__(build)
        self._annotations = annotations
        self._held_out = held_out

    def process(self, element: tuple[str, int, Input]) -> Iterator[Any]:
        """Yields a `SliceRange` for each slice.

        Raises:
            RawFileError: As `find_slices`, or a file of an evaluation set names no image.
        """
        started = time.monotonic()
        source, rank, input = element
        slice_count = 0
        for item in find_slices(source, rank, input, self._build.scratch):
            if isinstance(item, Rejected):
                item.records = int(self._annotations)
                yield self._tag_rejected(item)
            else:
                slice_count += 1
                _report_size("slices", item.stop - item.start)
                yield item
        recipe = self._build.recipe
        if self._held_out and slice_count == 0 and not recipe.exclude[source].allow_empty:
            raise RawFileError(f"{input.path}: exclude.{source} names no image by it")
        self._report_done("find slices", started)
        if self._annotations:
            progress.tick(self._build.progress, f"read {source}", done=0, more=slice_count)


class ReadImageTables(_Step):
    """Maps a slice of an image table to its rows.

    Rows of images that may have duplicates or be held out are a side input of all workers. Those of
    unique images are emitted to ``UNIQUE_IMAGES``, keyed by the shards that may contain them.
    """

    def __init__(self, build: Build) -> None:
        super().__init__(build)
        self._tables = {**build.recipe.sources, **build.recipe.image_tables.sources()}

    def process(self, slice_range: SliceRange) -> Iterator[Any]:
        """Yields the packed rows, and to ``UNIQUE_IMAGES`` packed slice outputs by shard."""
        recipe = self._build.recipe
        held_out_namespaces = {exclusion.namespace for exclusion in recipe.exclude.values()}
        rows: list[ImageInfo] = []
        slice_outputs: dict[bytes, SliceOutput] = defaultdict(SliceOutput)
        source = self._tables[slice_range.source]
        for row in source.read_image_table(read_slice(slice_range)):
            row.source = slice_range.source
            rejected = row if isinstance(row, Rejected) else _row_error(row)
            if rejected is not None:
                if row.source not in recipe.sources:  # the join by its ids would be missing
                    raise RawFileError(
                        f"{slice_range.input.path}: image {rejected.record} from byte "
                        f"{slice_range.start}: {rejected.reason}: {rejected.detail}"
                    )
                # No records are lost here: the sentences about an image without a row are counted
                # later.
                rejected.records = 0
                yield self._tag_rejected(rejected)
            if isinstance(row, Rejected):
                continue
            if rejected is not None:  # its ids still join images of other sources
                joining = ImageInfo(
                    row.key, NO_IMAGE, "", photo_id=row.photo_id, same_as=row.same_as
                )
                rows.append(joining)
            elif source.unique_images and namespace_of(row.key) not in held_out_namespaces:
                for split in recipe.splits:
                    slice_outputs[self._key_of_image(row.key, split)].images.append(row)
            else:
                rows.append(row)
        yield _pack("image tables", rows)
        for key, slice_output in slice_outputs.items():
            packed = _pack("slice outputs", slice_output)
            yield beam.pvalue.TaggedOutput(UNIQUE_IMAGES, (key, packed))


class ReadHeldOut(_Step):
    """Maps a slice of an evaluation set's file to the images that it names.

    Those whose files are in the set's own folders are also emitted to ``IMAGES``, to be hashed.
    """

    def process(self, slice_range: SliceRange) -> Iterator[Any]:
        """Yields the packed `EvalImage` rows, and to ``IMAGES`` packed `ImageInfo` rows."""
        name = slice_range.source
        exclusion = self._build.recipe.exclude[name]
        others = self._build.recipe.own_namespaces()
        rows = list(read_held_out(name, exclusion.dataset, read_slice(slice_range), others))
        yield _pack("evaluation sets", rows)
        if exclusion.images:
            files = [ImageInfo(row.key, _roots_name(name), row.file) for row in rows if row.file]
            yield beam.pvalue.TaggedOutput(IMAGES, pack(files))


class ImageRegistryStep(_Step):
    """A step that gets the image tables and the evaluation sets as side inputs.

    They grow with the data, so the registry that joins them is held once per worker: ``shared`` is
    the same for all steps of a build.
    """

    _image_registry: ImageRegistry | None = None

    def __init__(self, build: Build, shared: Shared) -> None:
        super().__init__(build)
        self._shared = shared

    def _registry(self, images: Iterable[bytes], held_out: Iterable[bytes]) -> ImageRegistry:
        """Returns the registry of this worker, built from the side inputs on the first call."""

        def build() -> ImageRegistry:
            recipe = self._build.recipe
            return ImageRegistry(
                (row for rows in images for row in unpack(rows, list[ImageInfo])),
                (row for rows in held_out for row in unpack(rows, list[EvalImage])),
                recipe.rules.same_photo,
                {name: e.namespace for name, e in recipe.exclude.items() if e.namespace},
                {name for name, source in recipe.sources.items() if source.images},
                {NO_IMAGE, *recipe.image_tables.sources()},
            )

        if self._image_registry is None:
            self._image_registry = self._shared.acquire(build)
        return self._image_registry


class HashHeldOut(ImageRegistryStep):
    """Maps a table of images to the perceptual hashes of those that are held out."""

    def setup(self) -> None:
        """Opens the image store."""
        self._store = _image_store(self._build.recipe)

    def process(
        self, element: bytes, images: Iterable[bytes], held_out: Iterable[bytes]
    ) -> Iterator[Any]:
        """Yields the packed hashes of the table's held-out images."""
        registry = self._registry(images, held_out)
        hashes: list[HashedImage] = []
        for image in unpack(element, list[ImageInfo]):
            matches = registry.held_out(image.key)
            if not matches or not self._is_file_of_key(image, registry):
                continue
            try:
                content = self._store.read(image).content
                hash = perceptual_hash(content)
            except UnusableImageError as error:
                yield self._tag_rejected(
                    Rejected(
                        source=image.source,
                        record=image.key,
                        reason=f"held-out {error.reason}",
                        detail=error.detail,
                        image=image.key,
                        records=0,
                    )
                )
            else:
                hashes.append(HashedImage(hash, matches[0].eval_set, image.key))
        yield pack(hashes)

    def _is_file_of_key(self, image: ImageInfo, registry: ImageRegistry) -> bool:
        """Returns whether a row is the registry's row of its key, or of an evaluation set."""
        is_of_source = image.source in self._build.recipe.sources
        return not is_of_source or registry.image(image.key) == image


class ReadAnnotations(ImageRegistryStep):
    """Maps a slice of an annotation file to its records, grouped by shard."""

    def setup(self) -> None:
        """Loads the language model and the stop words."""
        rules = self._build.recipe.rules
        stop_words = STOP_WORDS
        if rules.stop_words:
            content = read_whole(rules.stop_words, MAX_LIST_BYTES)
            stop_words = parse_stop_words(content.decode("utf-8-sig"))
        self._context = Context(
            rules, tuple(self._build.recipe.splits), shared_parser(), stop_words
        )

    def process(
        self,
        slice_range: SliceRange,
        images: Iterable[bytes],
        held_out: Iterable[bytes],
        join_reports: Iterable[bytes],
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yields packed slice outputs by shard.

        ``join_reports`` are not read: they are why no slice is read before `CheckJoins` is done.
        """
        started = time.monotonic()
        recipe = self._build.recipe
        registry = self._registry(images, held_out)
        source_rank = list(recipe.sources).index(slice_range.source)
        slice_outputs: dict[bytes, SliceOutput] = defaultdict(SliceOutput)
        source = recipe.sources[slice_range.source]
        for record in source.read(read_slice(slice_range), self._context):
            record.source = slice_range.source
            if isinstance(record, Rejected):
                record.record = record.record[:MAX_REPORTED_CHARACTERS]
                record.detail = record.detail[:MAX_REPORTED_CHARACTERS]
                in_list = slice_range.input.layout == "list" and record.record.isdigit()
                if in_list and record.reason == "malformed record":
                    # The record is a position in the slice.
                    record.record += f" from byte {slice_range.start}"
                self._check_strict([record])
                slice_outputs[self._key_of_rejected(record)].rejected.append(record)
                continue
            record.rank = (source_rank, slice_range.rank, slice_range.start)
            record.image = normal_key(record.image) or record.image
            image_key = registry.canonical(record.image)
            for split in [record.split] if record.split else recipe.splits:
                slice_outputs[self._key_of_image(image_key, split)].records.append(record)
        for key, slice_output in slice_outputs.items():
            yield key, _pack("slice outputs", slice_output)
        self._report_done(f"read {slice_range.source}", started)


class WriteShard(ImageRegistryStep):
    """Writes the tar of one shard from the records of all slices; emits its summary."""

    def setup(self) -> None:
        """Opens the image store."""
        self._store = _image_store(self._build.recipe)

    def process(
        self,
        element: tuple[bytes, Iterable[bytes]],
        images: Iterable[bytes],
        held_out: Iterable[bytes],
        hashes: Iterable[bytes],
    ) -> Iterator[bytes]:
        """Writes the shard, and yields its packed `ShardSummary`."""
        started = time.monotonic()
        key, slice_outputs = element
        split, shard = key.decode().split("/")
        builder = ShardBuilder(
            recipe=self._build.recipe,
            output=self._build.output,
            split=split,
            shard=int(shard),
            image_registry=self._registry(images, held_out),
            store=self._store,
            held_out_hashes=[row for rows in hashes for row in unpack(rows, list[HashedImage])],
        )
        size = 0
        with collection_paused():
            for content in slice_outputs:
                size += len(content)
                if content:  # every shard gets an empty element, so that it is written
                    slice_output = unpack(content, SliceOutput)
                    builder.add(slice_output.records, slice_output.rejected, slice_output.images)
            summary = builder.write()
        _report_size("shard groups", size)
        self._check_strict(summary.rejected)
        _report_totals(summary)
        yield _pack("shard summaries", summary)
        self._report_done("write shards", started)


def _row_error(row: ImageInfo) -> Rejected | None:
    """Returns why a row of an image table cannot be used, or None; its key gets one spelling.

    A size of 0 x 0 is unknown until the file is read.
    """
    key, sides = normal_key(row.key), (row.width, row.height)
    if not key:
        return Rejected(row.source, row.key, "bad image id", row.file, image=row.key)
    row.key = key
    if 0 < min(sides) <= max(sides) <= MAX_SIDE or sides == (0, 0):
        return None
    detail = f"{row.width}x{row.height}"
    return Rejected(row.source, key, "bad image size", detail, image=key)


def _image_store(recipe: Recipe) -> ImageStore:
    roots = {name: source.images for name, source in recipe.sources.items()}
    roots |= {_roots_name(name): exclusion.images for name, exclusion in recipe.exclude.items()}
    return ImageStore(roots)


def _roots_name(eval_set: str) -> str:
    """Returns the name of an evaluation set's image roots, beside those of the sources."""
    return f"exclude.{eval_set}"


def _pack(name: str, records: Any) -> bytes:
    """Packs records for other workers, and reports the size of the element."""
    content = pack(records)
    _report_size(name, len(content))
    return content


def _report_size(name: str, size: int) -> None:
    """Updates a Beam distribution: number of elements, total bytes, smallest, largest.

    The largest element limits how far a build scales; see "Scaling" in docs/runners.md.
    """
    Metrics.distribution(METRICS, f"{name}: bytes").update(size)


def _report_totals(summary: ShardSummary) -> None:
    """Adds the values of the summary table to Beam counters, which all runners show."""
    for source, counts in summary.sources.items():
        for name, value in msgspec.structs.asdict(counts).items():
            Metrics.counter(METRICS, f"{source}: {name}").inc(value)
    split, stats = summary.entry.split, summary.stats
    for name in ("images", "sentences", "captions", "regions", "questions", "characters"):
        Metrics.counter(METRICS, f"{split}: {name}").inc(getattr(stats, name))
    Metrics.counter(METRICS, f"{split}: shards").inc()
    Metrics.counter(METRICS, f"{split}: bytes").inc(summary.entry.bytes)
