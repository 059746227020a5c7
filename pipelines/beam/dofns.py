"""The ``DoFn`` of each step of the pipeline.

Elements are few, large and packed: a slice of a raw file, the records of one slice for one shard,
the summary of one shard. What a raw file states, and the records of it that cannot be used, go to
the tagged output ``READINGS``.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from pipelines.beam import progress, shuffle_files
from pipelines.beam.emptiness import check_read
from pipelines.beam.output_files import write_rejected
from pipelines.beam.reading import Reading, ReadingSummary, RejectedRows, summarize
from pipelines.beam.rejection_limit import RejectionLimit, TooManyRejectedError
from pipelines.beam.serialization import pack, unpack
from pipelines.beam.shard_builder import ShardBuilder, ShardSummary
from pipelines.captions.merge import reject_unknown_image
from pipelines.captions.negatives import Vocabulary, VocabularyCounts
from pipelines.captions.parsing import shared_parser
from pipelines.captions.stop_words import STOP_WORDS, parse_stop_words
from pipelines.dedup.eval_exclusion import Exclusion, read_held_out
from pipelines.dedup.image_registry import ImageRegistry
from pipelines.dedup.near_duplicates import HashedImage, perceptual_hash
from pipelines.io.archives import file_name, read_whole
from pipelines.io.beam_files import scratch_folder
from pipelines.io.images import ImageStore, UnusableImageError
from pipelines.io.lease import Lease
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import Input, SliceRange, find_slices, read_slice
from pipelines.recipe import Recipe
from pipelines.sources.base import Context, Source
from schemas import (
    UNKNOWN_LICENSE,
    EvalImage,
    ImageInfo,
    ImageRecord,
    NotAskedFor,
    RawCounts,
    Rejected,
    Synonyms,
)
from schemas.image_ids import namespace_of, normal_key
from schemas.licenses import LICENSE_REASONS, NOT_A_WEB_ADDRESS, is_web_address
from schemas.limits import MAX_LIST_BYTES, MAX_REPORTED_CHARACTERS
from shards.format.manifest import Role, Terms
from shards.format.placement import shard_of
from shards.garbage_collection import collection_paused

# Tags of additional outputs.
READINGS = "readings"
VOCABULARY = "vocabulary"
REJECTED = "rejected"
UNIQUE_IMAGES = "unique_images"
IMAGES = "images"
PHOTOS: dict[Role, str] = {"train": "trained_on", "eval": "evaluated_on"}

METRICS = "build"  # the namespace of counters and distributions
MAX_SIDE = 1 << 24  # of an image in pixels; whole numbers below it are exact in float32


class Build(msgspec.Struct, frozen=True):
    """The settings of a build that all steps share.

    The paths of ``recipe`` are resolved; those of ``as_written`` are as in the recipe's file. The
    manifest contains the latter, so that it does not depend on where the raw files are. ``terms``
    are those of the datasets that each source reads, for the manifest. In a bucket, the build holds
    a ``lease`` of the output; ``detached``: its launcher has left, so that the job releases it.
    ``finishes_output``: whether the job cleans the output after the manifest, so that it needs no
    launcher that waits.
    """

    recipe: Recipe
    as_written: Recipe
    output: str
    terms: dict[str, dict[str, Terms]] = {}
    lease: Lease | None = None
    detached: bool = False
    strict: bool = False
    finishes_output: bool = False
    progress: str = ""  # file to which steps append, on the local runner
    shuffle: str = ""  # folder of `shuffle_files`, on the local runner

    @property
    def scratch(self) -> str:
        """The folder of temporary files."""
        return scratch_folder(self.output, self.lease)


class StrictError(Exception):
    """The first record that could not be used, under ``--strict``."""


class SliceOutput(msgspec.Struct, array_like=True, gc=False):
    """The records of one slice that belong to one shard."""

    records: list[ImageRecord] = []
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

    def _tag_reading(self, reading: Reading) -> Any:
        """Returns the tagged output with a reading."""
        self._check_strict(reading.rejected)
        return beam.pvalue.TaggedOutput(READINGS, pack(reading))

    def _check_strict(self, rejected: list[Rejected]) -> None:
        if self._build.strict and rejected:
            first = min(rejected, key=msgspec.structs.astuple)
            raise StrictError(f"{first.source} {first.record}: {first.reason} {first.detail}")

    def _to_shuffle(self, slice_outputs: dict[bytes, SliceOutput]) -> Iterable[tuple[bytes, bytes]]:
        """Returns the elements of the shuffle with packed slice outputs."""
        packed = {key: _pack("slice outputs", output) for key, output in slice_outputs.items()}
        folder = self._build.shuffle
        return shuffle_files.write_parts(packed, folder) if folder else packed.items()

    def _from_shuffle(self, element: bytes) -> bytes:
        """Returns the packed slice output of an element of the shuffle."""
        folder = self._build.shuffle
        return shuffle_files.read_part(element, folder) if folder else element

    def _report_done(self, stage: str, started: float) -> None:
        """Reports that an element is done: to the local progress bar, and in counters."""
        seconds = time.monotonic() - started
        progress.tick(self._build.progress, stage, seconds)
        Metrics.counter(METRICS, f"{stage}{progress.DONE}").inc()
        Metrics.counter(METRICS, f"{stage}{progress.WORKER_MS}").inc(int(1000 * seconds))

    def _report_more(self, stage: str, elements: int) -> None:
        """Reports that a stage has more elements to do."""
        progress.tick(self._build.progress, stage, done=0, more=elements)
        Metrics.counter(METRICS, f"{stage}{progress.TOTAL}").inc(elements)


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
        started, recipe = time.monotonic(), self._build.recipe
        source, rank, input = element
        slice_count = 0
        reading = Reading(source, _name(input), is_table=not self._annotations)
        for item in find_slices(source, rank, input, self._build.scratch):
            if isinstance(item, Rejected):
                if source not in recipe.sources and item.reason in LICENSE_REASONS:
                    continue  # of a table that is read for its ids
                if self._held_out:  # its image would be trained on
                    raise RawFileError(f"{input.path}: {item.record}: {item.reason} {item.detail}")
                item.records = int(self._annotations)
                reading.counts.read += item.records
                reading.reject(item)
            else:
                slice_count += 1
                _report_size("slices", item.stop - item.start)
                yield item
        if reading.rejected:
            yield self._tag_reading(reading)
        if self._held_out and slice_count == 0 and not recipe.exclude[source].allow_empty:
            raise RawFileError(f"{input.path}: exclude.{source} names no image by it")
        self._report_done("find slices", started)
        if self._annotations:
            self._report_more(f"read {source}", slice_count)


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
        reading = Reading(slice_range.source, _name(slice_range.input), is_table=True)
        source = self._tables[slice_range.source]
        for row in source.read_image_table(read_slice(slice_range)):
            row.source = slice_range.source
            rejected = row if isinstance(row, Rejected) else _row_error(row)
            if rejected is not None:
                if row.source not in recipe.sources:
                    if rejected.reason in LICENSE_REASONS:
                        continue  # the table is read for its ids
                    raise RawFileError(  # the join by its ids would be missing
                        f"{slice_range.input.path}: image {rejected.record} from byte "
                        f"{slice_range.start}: {rejected.reason}: {rejected.detail}"
                    )
                # No records are lost here: the sentences about an image without a row are counted
                # later.
                rejected.records = 0
                rejected.record = _position_in_file(rejected, slice_range)
                reading.reject(rejected)
            if isinstance(row, Rejected) or not normal_key(row.key):
                continue
            if rejected is not None or row.source not in recipe.sources:
                row.joins_only, row.width, row.height = True, 0, 0
            if row.joins_only:
                row.license, row.url = UNKNOWN_LICENSE, ""
                rows.append(row)
                continue
            if row.url and not is_web_address(row.url):
                reading.reject(_bad_address(row))
                row.url = ""
            if source.unique_images and namespace_of(row.key) not in held_out_namespaces:
                for split in recipe.splits:
                    slice_outputs[self._key_of_image(row.key, split)].images.append(row)
            else:
                rows.append(row)
        if reading.rejected:
            yield self._tag_reading(reading)
        yield _pack("image tables", rows)
        for element in self._to_shuffle(slice_outputs):
            yield beam.pvalue.TaggedOutput(UNIQUE_IMAGES, element)


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
            files = [ImageInfo(row.key, roots_name(name), row.file) for row in rows]
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
        reading = Reading("", "")
        for image in unpack(element, list[ImageInfo]):
            matches = registry.held_out(image.key)
            if not matches or not self._is_file_of_key(image, registry):
                continue
            try:
                content = self._store.read(image).content
                hash = perceptual_hash(content)
            except UnusableImageError as error:
                is_of_source = image.source in self._build.recipe.sources
                if not is_of_source and registry.image(image.key) is not None:
                    continue  # a source has its file, too
                reading.reject(
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
        if reading.rejected:
            yield self._tag_reading(reading)
        yield pack(hashes)

    def _is_file_of_key(self, image: ImageInfo, registry: ImageRegistry) -> bool:
        """Returns whether a row is the registry's row of its key, or of an evaluation set."""
        if image.joins_only:
            return False
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
            rules,
            tuple(self._build.recipe.splits),
            shared_parser(),
            stop_words,
            negatives=self._build.recipe.negatives.are_asked_for,
            proven=self._build.recipe.negatives.proven > 0,
        )

    def teardown(self) -> None:
        """Closes what slices were read from."""
        self._context.roots.close()

    def process(
        self,
        slice_range: SliceRange,
        images: Iterable[bytes],
        held_out: Iterable[bytes],
        join_reports: Iterable[bytes],
    ) -> Iterator[Any]:
        """Yields packed slice outputs by shard, and to ``READINGS`` the slice's counts.

        ``join_reports`` are not read: they are why no slice is read before `CheckJoins` is done.
        """
        started = time.monotonic()
        recipe = self._build.recipe
        registry = self._registry(images, held_out)
        source_rank = list(recipe.sources).index(slice_range.source)
        slice_outputs: dict[bytes, SliceOutput] = defaultdict(SliceOutput)
        reading = Reading(slice_range.source, _name(slice_range.input))
        vocabulary = VocabularyCounts()
        source = recipe.sources[slice_range.source]
        for item in source.read(read_slice(slice_range), self._context):
            item.source = slice_range.source
            match item:
                case RawCounts():
                    reading.add_raw(item)
                case NotAskedFor():
                    reading.add_not_asked_for(item)
                case Synonyms():
                    vocabulary.add_synonyms(item.names)
                case Rejected():
                    item.record = _position_in_file(item, slice_range)[:MAX_REPORTED_CHARACTERS]
                    item.detail = item.detail[:MAX_REPORTED_CHARACTERS]
                    reading.reject(item)
                case ImageRecord():
                    item.rank = (source_rank, slice_range.rank, slice_range.start)
                    item.image = normal_key(item.image) or item.image
                    reading.add_merged(item)
                    reading.absent.read += len(item.absent)
                    has_split = item.split in recipe.splits
                    if (item.captions or item.absent) and not has_split:
                        reading.leave_out_split(item)
                        continue
                    if self._is_unknown(item, source, registry):
                        reading.reject(reject_unknown_image(item))
                        reading.absent.rejected += len(item.absent)
                        continue
                    reading.add_captions(item)
                    is_trained_on = has_split and recipe.is_trained_on(item.split)
                    # Near duplicates of held-out images are not known before shards are written.
                    if (
                        recipe.negatives.unproven
                        and is_trained_on
                        and not registry.held_out(item.image)
                    ):
                        vocabulary.add_captions(item.captions)
                    image_key = registry.canonical(item.image)
                    for split in [item.split] if item.split else recipe.splits:
                        slice_outputs[self._key_of_image(image_key, split)].records.append(item)
        yield self._tag_reading(reading)
        yield from self._to_shuffle(slice_outputs)
        if recipe.negatives.are_asked_for:
            yield beam.pvalue.TaggedOutput(VOCABULARY, _pack("vocabularies", vocabulary))
        self._report_done(f"read {slice_range.source}", started)

    def _is_unknown(self, record: ImageRecord, source: Source, registry: ImageRegistry) -> bool:
        """Returns whether captions are lost because no table has their image.

        Images that may not be trained on are excluded, whether they are known or not.
        """
        if source.unique_images or registry.image(record.image):
            return False
        if not record.captions and not record.absent:
            return False
        is_trained_on = self._build.recipe.is_trained_on(record.split)
        return not (is_trained_on and registry.held_out(record.image))


class SumReadings(_Step):
    """Sums the readings of all slices, before any shard is written.

    A build that must fail fails here: too many rejected records, or a split without captions.
    """

    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[Any]:
        """Yields the packed `ReadingSummary`, and to ``REJECTED`` the packed rejected rows.

        Raises:
            TooManyRejectedError: Too much of a source cannot be used.
            EmptyError: A split or a source has no captions.
        """
        recipe, output = self._build.recipe, self._build.output
        readings = (unpack(content, Reading) for content in element[1] if content)
        summary, rows = summarize(readings, recipe.sources)
        limit = RejectionLimit(recipe.reject_limit, summary.counts)
        if source := limit.first_exceeded():
            raise TooManyRejectedError(
                limit.message(source, rows, write_rejected(output, rows, self._build.lease))
            )
        check_read(recipe, summary)
        yield pack(summary)
        yield beam.pvalue.TaggedOutput(REJECTED, pack(rows))


class SumVocabulary(beam.DoFn):
    """Sums the phrases and the synonyms of all slices."""

    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[bytes]:
        """Yields the packed `VocabularyCounts`, without phrases that are not drawn."""
        counts = VocabularyCounts()
        for content in element[1]:
            counts.merge(unpack(content, VocabularyCounts))
        yield _pack("vocabularies", counts.most_frequent())


class WriteShard(ImageRegistryStep):
    """Writes the tar of one shard from the records of all slices; emits its summary."""

    def setup(self) -> None:
        """Opens the image store."""
        self._store = _image_store(self._build.recipe)
        self._has_both_roles = len({s.role for s in self._build.recipe.splits.values()}) == 2
        # Of the shards that this instance has written; a shard that is written again counts once.
        self._rejected: dict[bytes, list[Rejected]] = {}
        self._vocabulary: Vocabulary | None = None

    def process(
        self,
        element: tuple[bytes, Iterable[bytes]],
        images: Iterable[bytes],
        held_out: Iterable[bytes],
        hashes: Iterable[bytes],
        summaries: Iterable[bytes],
        rejected: Iterable[bytes],
        vocabulary: Iterable[bytes] = (),
    ) -> Iterator[bytes]:
        """Writes the shard, and yields its packed `ShardSummary`.

        ``vocabulary`` is that of `SumVocabulary`, if the recipe asks for negatives.
        If the recipe has splits of both roles, also yields the packed `ShardPhotos`, with the tag
        of the role of the split.

        Raises:
            TooManyRejectedError: Too much of a source cannot be used: what was rejected when it was
                read, and the images of the shards that this worker has written.
        """
        started = time.monotonic()
        key, slice_outputs = element
        split, shard = key.decode().split("/")
        for counts in vocabulary if self._vocabulary is None else ():
            self._vocabulary = Vocabulary(unpack(counts, VocabularyCounts))
        builder = ShardBuilder(
            recipe=self._build.recipe,
            output=self._build.output,
            lease=self._build.lease,
            split=split,
            shard=int(shard),
            image_registry=self._registry(images, held_out),
            store=self._store,
            held_out_hashes=[row for rows in hashes for row in unpack(rows, list[HashedImage])],
            on_rejected=self._limited(key, summaries, rejected),
            vocabulary=self._vocabulary,
        )
        size = 0
        with collection_paused():
            for element_of_slice in slice_outputs:
                if element_of_slice:  # every shard gets an empty one, so that it is written
                    content = self._from_shuffle(element_of_slice)
                    size += len(content)
                    slice_output = unpack(content, SliceOutput)
                    builder.add(slice_output.records, slice_output.images)
            summary, photos = builder.write()
        _report_size("shard groups", size)
        self._check_strict(summary.rejected)
        _report_totals(summary)
        yield _pack("shard summaries", summary)
        if self._has_both_roles:
            role = self._build.recipe.splits[split].role
            yield beam.pvalue.TaggedOutput(PHOTOS[role], pack(photos))
        self._report_done("write shards", started)

    def _limited(
        self, shard: bytes, summaries: Iterable[bytes], rejected: Iterable[bytes]
    ) -> Callable[[Rejected], None]:
        """Returns a function that counts a rejected row, and raises `TooManyRejectedError`."""
        [summary] = [unpack(content, ReadingSummary) for content in summaries]
        limit = RejectionLimit(self._build.recipe.reject_limit, summary.counts)
        self._rejected[shard] = []
        more = Counter[str]()
        for rows in self._rejected.values():
            for row in rows:
                more[row.source] += row.records

        def add(row: Rejected) -> None:
            self._rejected[shard].append(row)
            more[row.source] += row.records
            if limit.is_exceeded(row.source, more[row.source]):
                rows = RejectedRows()
                for content in rejected:
                    rows = unpack(content, RejectedRows)
                rows.others += [row for rows in self._rejected.values() for row in rows]
                listed_in = write_rejected(self._build.output, rows, self._build.lease)
                message = limit.message(row.source, rows, listed_in, more[row.source])
                raise TooManyRejectedError(message)

        return add


def _name(input: Input) -> str:
    return file_name(input.path)


def _position_in_file(rejected: Rejected, slice_range: SliceRange) -> str:
    """Returns the record of a row, its position in the slice being replaced by that in the file."""
    is_position = slice_range.input.layout == "list" and rejected.record.isdigit()
    if is_position and rejected.reason == "malformed record":
        return str(slice_range.first + int(rejected.record))
    return rejected.record


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


def _bad_address(row: ImageInfo) -> Rejected:
    detail = row.url[:MAX_REPORTED_CHARACTERS]
    return Rejected(row.source, row.key, NOT_A_WEB_ADDRESS, detail, row.key, records=0)


def _image_store(recipe: Recipe) -> ImageStore:
    tables: dict[str, Source | Exclusion] = {
        **recipe.sources,
        **{roots_name(name): exclusion for name, exclusion in recipe.exclude.items()},
    }
    roots = {name: table.images for name, table in tables.items()}
    # None of the ids of a namespace: files of its names are in no other dataset (GQA's test2015).
    namespaces = {
        name: [namespace for namespace, ids in table.image_ids().items() if ids is not None]
        for name, table in tables.items()
    }
    return ImageStore(roots, namespaces)


def roots_name(eval_set: str) -> str:
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
    """Adds the totals of a shard to Beam counters, which all runners show."""
    split, stats = summary.entry.split, summary.stats
    for name in ("images", "sentences", "captions", "regions", "questions", "characters"):
        Metrics.counter(METRICS, f"{split}: {name}").inc(getattr(stats, name))
    Metrics.counter(METRICS, f"{split}: shards").inc()
    Metrics.counter(METRICS, f"{split}: bytes").inc(summary.entry.bytes)
