"""The steps of the pipeline that do the work, each a Beam ``DoFn``.

Elements are fat and packed: a slice of a raw file, the records of one slice for one shard, the
summary of one shard. What cannot be used leaves by the output ``REJECTED``.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from pipelines.beam import progress
from pipelines.beam.serialization import pack, unpack
from pipelines.beam.shard_builder import HashedImage, ShardBuilder, ShardSummary
from pipelines.captions.parsing import SpacyParser
from pipelines.captions.stop_words import STOP_WORDS, parse_stop_words
from pipelines.dedup.eval_exclusion import read_held_out
from pipelines.dedup.image_registry import ImageRegistry
from pipelines.garbage_collection import collection_paused
from pipelines.io import raw_files
from pipelines.io.images import ImageStore, UnusableImageError, perceptual_hash
from pipelines.io.raw_files import Cut
from pipelines.recipe import Recipe
from pipelines.sources.base import Context, Input
from schemas import EvalImage, ImageInfo, ImageRecord, Rejected
from shards.format.placement import shard_of

REJECTED = "rejected"
UNIQUE_IMAGES = "alone"
IMAGES = "images"
LARGEST_SIDE = 1 << 24  # of an image in pixels; whole numbers below it are exact in float32


class Build(msgspec.Struct, frozen=True):
    """What every step needs to know.

    ``recipe`` has its files located, ``as_written`` has the paths of the recipe's own text, which
    the manifest repeats: the same data at another place is the same data.
    """

    recipe: Recipe
    as_written: Recipe
    output: str
    strict: bool = False
    progress: str = ""  # file that steps append to, on the local runner

    @property
    def scratch(self) -> str:
        return f"{self.output}/.scratch"


class StrictError(Exception):
    """The first record that could not be used, under ``--strict``."""


class SliceOutput(msgspec.Struct, array_like=True, gc=False):
    """What one slice has for one shard."""

    parts: list[ImageRecord] = []
    rejected: list[Rejected] = []
    images: list[ImageInfo] = []  # none of which is a copy of another


class _Step(beam.DoFn):
    def __init__(self, build: Build) -> None:
        self._build = build

    def _rejected(self, rejected: Rejected) -> Any:
        """The element that carries a rejected record to some shard's group, and so to its table."""
        self._check_strict([rejected])
        slice_output = self._weighed("slice_outputs", pack(SliceOutput(rejected=[rejected])))
        return beam.pvalue.TaggedOutput(REJECTED, (self._place_rejected(rejected), slice_output))

    def _done(self, stage: str, started: float) -> None:
        """Tells that an element is done: a bar on the local runner, a counter on all."""
        seconds = time.monotonic() - started
        progress.tick(self._build.progress, stage, seconds)
        Metrics.counter("compose", f"{stage}: ms of all workers").inc(int(1000 * seconds))

    def _weighed(self, of: str, content: bytes) -> bytes:
        """An element on its way to other workers, whose size is told."""
        _tell_size(of, len(content))
        return content

    def _check_strict(self, rejected: list[Rejected]) -> None:
        if self._build.strict and rejected:
            first = min(rejected, key=msgspec.structs.astuple)
            raise StrictError(f"{first.source} {first.record}: {first.reason} {first.detail}")

    def _place(self, key: str, split: str) -> bytes:
        """The key of the shard of a split that has the image of a key."""
        recipe = self._build.recipe
        return shard_key(split, shard_of(key, recipe.splits[split].shards, recipe.salt))

    def _place_rejected(self, rejected: Rejected) -> bytes:
        split = next(iter(self._build.recipe.splits))
        return self._place(f"{rejected.source}/{rejected.record}", split)


def shard_key(split: str, shard: int) -> bytes:
    return f"{split}/{shard:05d}".encode()


class CutInput(_Step):
    """A raw file -> where its slices lie. ``counts``: its elements are records of a source."""

    def __init__(self, build: Build, counts: bool) -> None:
        super().__init__(build)
        self._counts = counts

    def process(self, element: tuple[str, int, Input]) -> Iterator[Any]:
        started = time.monotonic()
        source, rank, input = element
        slices = 0
        for cut in raw_files.cut(source, rank, input, self._build.scratch):
            if isinstance(cut, Rejected):
                cut.records = int(self._counts)
                yield self._rejected(cut)
            else:
                slices += 1
                _tell_size("slices", cut.stop - cut.start)
                yield cut
        self._done("cut raw files", started)
        if self._counts:
            progress.tick(self._build.progress, f"read {source}", done=0, more=slices)


class ReadImageTables(_Step):
    """A slice of a table of images -> its rows.

    Those that may be copies of others, or be held out, go to every worker. The others go by
    ``UNIQUE_IMAGES`` to where they are written.
    """

    def process(self, cut: Cut) -> Iterator[Any]:
        recipe = self._build.recipe
        held_out = {exclusion.namespace for exclusion in recipe.exclude.values()}
        rows: list[ImageInfo] = []
        slice_outputs: dict[bytes, SliceOutput] = {}
        source = recipe.sources[cut.source]
        for row in source.read_images(raw_files.read(cut)):
            row.source = cut.source
            if isinstance(row, Rejected):
                row.records = 0  # the sentences about an image that is not listed are counted
                yield self._rejected(row)
            elif not _is_size(row.width, row.height):
                reason, size = "bad image size", f"{row.width}x{row.height}"
                yield self._rejected(Rejected(row.source, row.key, reason, size, row.key, 0))
            elif not source.unique_images or row.key.partition("/")[0] in held_out:
                rows.append(row)
            else:
                for split in recipe.splits:
                    key = self._place(row.key, split)
                    slice_outputs.setdefault(key, SliceOutput(images=[])).images.append(row)
        yield self._weighed("tables of images", pack(rows))
        for key, slice_output in slice_outputs.items():
            packed = self._weighed("slice_outputs", pack(slice_output))
            yield beam.pvalue.TaggedOutput(UNIQUE_IMAGES, (key, packed))


class ReadHeldOut(_Step):
    """A slice of an evaluation set's file -> the images that it names.

    Those whose files lie below the set's own roots leave by ``IMAGES`` as well, to be hashed.
    """

    def process(self, cut: Cut) -> Iterator[Any]:
        exclusion = self._build.recipe.exclude[cut.source]
        rows = list(read_held_out(cut.source, exclusion.of, raw_files.read(cut)))
        yield self._weighed("evaluation sets", pack(rows))
        if exclusion.images:
            root = _roots_of(cut.source)
            files = [ImageInfo(row.key, root, row.file) for row in rows if row.file]
            yield beam.pvalue.TaggedOutput(IMAGES, pack(files))


class _ImageRegistryStep(_Step):
    """A step that is given the tables of images as side inputs.

    They grow with the data, and are held once a worker: ``shared`` is one for all steps of a build.
    """

    _image_registry: ImageRegistry | None = None

    def __init__(self, build: Build, shared: Shared) -> None:
        super().__init__(build)
        self._shared = shared

    def _image_registry_of(
        self, images: Iterable[bytes], held_out: Iterable[bytes]
    ) -> ImageRegistry:
        def join() -> ImageRegistry:
            recipe = self._build.recipe
            return ImageRegistry(
                (row for rows in images for row in unpack(rows, list[ImageInfo])),
                (row for rows in held_out for row in unpack(rows, list[EvalImage])),
                recipe.rules.same_photo,
                {name: e.namespace for name, e in recipe.exclude.items() if e.namespace},
                {name for name, source in recipe.sources.items() if source.images},
            )

        if self._image_registry is None:
            self._image_registry = self._shared.acquire(join)
        return self._image_registry


class HashHeldOut(_ImageRegistryStep):
    """A table of images -> the perceptual hashes of those that are held out."""

    def setup(self) -> None:
        self._store = _store(self._build.recipe)

    def process(
        self, element: bytes, images: Iterable[bytes], held_out: Iterable[bytes]
    ) -> Iterator[Any]:
        image_registry = self._image_registry_of(images, held_out)
        rows: list[HashedImage] = []
        for image in unpack(element, list[ImageInfo]):
            reasons = image_registry.held_out(image.key)
            listed = image_registry.image(image.key)
            if not reasons or (listed != image and image.source in self._build.recipe.sources):
                continue
            try:
                content = self._store.read(image).content
                rows.append(HashedImage(perceptual_hash(content), reasons[0][0], image.key))
            except UnusableImageError as error:
                yield self._rejected(
                    Rejected(
                        image.source,
                        image.key,
                        f"held-out {error.reason}",
                        error.detail,
                        image.key,
                        records=0,
                    )
                )
        yield pack(rows)


class ReadParts(_ImageRegistryStep):
    """A slice of an annotation file -> what it has for each shard."""

    def setup(self) -> None:
        rules = self._build.recipe.rules
        stop_words = STOP_WORDS
        if rules.stop_words:
            with raw_files.open_binary(rules.stop_words) as file:
                stop_words = parse_stop_words(file.read().decode())
        self._context = Context(rules, tuple(self._build.recipe.splits), SpacyParser(), stop_words)

    def process(
        self, cut: Cut, images: Iterable[bytes], held_out: Iterable[bytes]
    ) -> Iterator[tuple[bytes, bytes]]:
        started = time.monotonic()
        recipe = self._build.recipe
        image_registry = self._image_registry_of(images, held_out)
        source_rank = list(recipe.sources).index(cut.source)
        slice_outputs: dict[bytes, SliceOutput] = {}

        def deliver_to(key: bytes) -> SliceOutput:
            if key not in slice_outputs:
                slice_outputs[key] = SliceOutput([], [])
            return slice_outputs[key]

        for record in recipe.sources[cut.source].read(raw_files.read(cut), self._context):
            record.source = cut.source
            if isinstance(record, Rejected):
                in_list = cut.input.layout == "list" and record.record.isdigit()
                if in_list and record.reason == "malformed record":
                    record.record += f" from byte {cut.start}"  # a position in the slice
                self._check_strict([record])
                deliver_to(self._place_rejected(record)).rejected.append(record)
                continue
            record.rank = (source_rank, cut.rank, cut.start)
            image = image_registry.canonical(record.image)
            for split in [record.split] if record.split else recipe.splits:
                deliver_to(self._place(image, split)).parts.append(record)
        for key, slice_output in slice_outputs.items():
            yield key, self._weighed("slice_outputs", pack(slice_output))
        self._done(f"read {cut.source}", started)


class WriteShard(_ImageRegistryStep):
    """All that the slices have for one shard -> the shard's file, and its summary."""

    def setup(self) -> None:
        self._store = _store(self._build.recipe)

    def process(
        self,
        element: tuple[bytes, Iterable[bytes]],
        images: Iterable[bytes],
        held_out: Iterable[bytes],
        hashes: Iterable[bytes],
    ) -> Iterator[bytes]:
        started = time.monotonic()
        key, slice_outputs = element
        split, shard = key.decode().split("/")
        builder = ShardBuilder(
            self._build.recipe,
            self._build.output,
            split,
            int(shard),
            self._image_registry_of(images, held_out),
            self._store,
            [row for rows in hashes for row in unpack(rows, list[HashedImage])],
        )
        size = 0
        with collection_paused():
            for content in slice_outputs:
                size += len(content)
                if content:
                    slice_output = unpack(content, SliceOutput)
                    builder.add(slice_output.parts, slice_output.rejected, slice_output.images)
            summary = builder.write()
        _tell_size("groups", size)
        self._check_strict(summary.rejected)
        _count(summary)
        yield self._weighed("summaries", pack(summary))
        self._done("write shards", started)


def _is_size(width: int, height: int) -> bool:
    """Whether the sides are those of an image, or both 0: not known before it is opened."""
    return 0 < min(width, height) <= max(width, height) <= LARGEST_SIDE or width == height == 0


def _store(recipe: Recipe) -> ImageStore:
    roots = {name: source.images for name, source in recipe.sources.items()}
    roots |= {_roots_of(name): exclusion.images for name, exclusion in recipe.exclude.items()}
    return ImageStore(roots)


def _roots_of(exclusion: str) -> str:
    """The name under which an evaluation set's image roots stand beside those of the sources."""
    return f"exclude.{exclusion}"


def _tell_size(of: str, size: int) -> None:
    """How many there are, their bytes in all, the smallest and the largest, for any runner to show.

    What breaks first when data grow is what is largest; see "How it grows" in docs/runners.md.
    """
    Metrics.distribution("compose", f"{of}: bytes").update(size)


def _count(summary: ShardSummary) -> None:
    """The figures of the closing table, as counters that any runner shows."""
    for source, counts in summary.sources.items():
        for name, value in msgspec.structs.asdict(counts).items():
            Metrics.counter("compose", f"{source}: {name}").inc(value)
    split, stats = summary.entry.split, summary.stats
    for name in ("images", "sentences", "captions", "regions", "questions", "characters"):
        Metrics.counter("compose", f"{split}: {name}").inc(getattr(stats, name))
    Metrics.counter("compose", f"{split}: shards").inc()
    Metrics.counter("compose", f"{split}: bytes").inc(summary.entry.bytes)
