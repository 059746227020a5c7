"""One shard of a set: its file, its tar, and every sample in it, or some of them."""

import hashlib
import io
import math
import mmap
import warnings
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import msgspec
from PIL import Image, UnidentifiedImageError

from schemas import Sample
from schemas.sample import decode_sample
from shards.format.index import IndexRow
from shards.format.manifest import ShardError
from shards.format.stats import Stats
from shards.reading.shard_set import ShardSet
from shards.verification.errors import Fault, Faults, Kind
from shards.verification.expected import Expected
from shards.verification.sample_checks import sample_faults, unchecked
from shards.verification.tar_checks import tar_faults

# By what Pillow calls the content; an MPO is a JPEG that carries more images behind the first.
_EXTENSIONS = {"JPEG": ("jpg", "jpeg"), "MPO": ("jpg", "jpeg"), "PNG": ("png",)}


class Task(NamedTuple):
    """A shard, by its place in the manifest, and how much of it is looked at.

    ``indexed``: whether the index tells of it. ``images`` are rows of the index; None: all, and
    the whole file with them.
    """

    shards: ShardSet
    shard: int
    expected: Expected
    indexed: bool
    images: Sequence[int] | None = None


class ShardReport(NamedTuple):
    """``stats`` are of the samples that were looked at, and ``unchecked`` what could not be checked
    of them.
    """

    faults: Faults
    stats: Stats
    unchecked: set[str]


def check_shard(task: Task) -> ShardReport:
    """Faults and counts of a shard, or of some of its images."""
    entry = task.shards.shards[task.shard]
    report = ShardReport(Faults(), Stats(), set())
    report.faults.add(fault._replace(file=entry.file) for fault in _faults(task, report))
    return report


def _faults(task: Task, report: ShardReport) -> Iterator[Fault]:
    entry = task.shards.shards[task.shard]
    try:
        file = task.shards.open_shard(task.shard)
    except ShardError as error:
        yield Fault(Kind.FILE, str(error))
        return
    with file:
        if not entry.bytes:
            yield Fault(Kind.TAR, "it is empty")  # and cannot be mapped
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as tar:
            if task.images is None and (found := hashlib.sha256(tar).hexdigest()) != entry.sha256:
                yield Fault(Kind.SHA256, f"it has {found}, the manifest says {entry.sha256}")
            if task.indexed:
                yield from _content_faults(file, tar, task, report)


def _content_faults(
    file: BinaryIO, tar: mmap.mmap, task: Task, report: ShardReport
) -> Iterator[Fault]:
    try:
        rows = task.shards.index_rows(task.shard)
    except ShardError as error:
        yield Fault(Kind.INDEX, str(error))
        return
    if task.images is None:
        yield from tar_faults(file, rows)
    for row in rows if task.images is None else [rows[i] for i in task.images]:
        yield from _image_faults(tar, row, task.expected)
        yield from _annotation_faults(tar, row, task.expected, report)


def _image_faults(tar: mmap.mmap, row: IndexRow, expected: Expected) -> Iterator[Fault]:
    """An image against its row, by its CRC-32 and its header; the pixels are not decoded."""
    if not row.image_name:
        if expected.images:
            yield Fault(Kind.IMAGE, "the recipe embeds images, there is none", key=row.key)
        return
    if row.image_name.rpartition(".")[0] != row.key:
        yield Fault(Kind.MEMBER, f"{row.image_name} is not named by its key", key=row.key)
    content = tar[row.image_offset : row.image_offset + row.image_size]
    if zlib.crc32(content) != row.image_crc32:
        yield Fault(Kind.CRC32, _damage(row.image_name, content, row.image_crc32), key=row.key)
        return
    try:
        with warnings.catch_warnings():
            # Pillow warns of images that builds still take.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=["JPEG", "PNG"]) as image:
                size, format_ = image.size, str(image.format)
    except UnidentifiedImageError:
        yield Fault(Kind.IMAGE, f"{row.image_name} is neither JPEG nor PNG", key=row.key)
        return
    except Image.DecompressionBombError as error:
        yield Fault(Kind.IMAGE, f"{row.image_name} is too large: {error}", key=row.key)
        return
    except (OSError, ValueError, SyntaxError) as error:
        yield Fault(Kind.IMAGE, f"{row.image_name} cannot be read: {error}", key=row.key)
        return
    if row.image_name.rpartition(".")[2] not in _EXTENSIONS[format_]:
        yield Fault(Kind.IMAGE, f"{row.image_name} holds {format_}", key=row.key)
    if size != (row.width, row.height):
        what = f"{size[0]}x{size[1]} pixels, the index says {row.width}x{row.height}"
        yield Fault(Kind.IMAGE, what, key=row.key)


def _annotation_faults(
    tar: mmap.mmap, row: IndexRow, expected: Expected, report: ShardReport
) -> Iterator[Fault]:
    """The JSON of a sample against its row, and by itself."""
    content = tar[row.json_offset : row.json_offset + row.json_size]
    if zlib.crc32(content) != row.json_crc32:
        yield Fault(Kind.CRC32, _damage(f"{row.key}.json", content, row.json_crc32), key=row.key)
        return
    try:
        sample = decode_sample(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        yield Fault(Kind.SAMPLE, f"{row.key}.json is not a sample: {error}", key=row.key)
        return
    for name, found, stated in _facts(sample, row):
        if found != stated:
            what = f"{name} is {found!r}, the index says {stated!r}"
            yield Fault(Kind.SAMPLE, what, key=row.key)
    if _is_countable(sample):
        report.stats.add(sample)
    report.unchecked.update(unchecked(sample, expected))
    yield from sample_faults(sample, expected)


def _damage(name: str, content: bytes, crc32: int) -> str:
    return f"{name} is damaged: it has {zlib.crc32(content):08x}, the index says {crc32:08x}"


def _facts(sample: Sample, row: IndexRow) -> Iterator[tuple[str, object, object]]:
    """What a sample and its row of the index both say: name, the one, the other."""
    yield "key", sample.key, row.key
    yield "width", sample.width, row.width
    yield "height", sample.height, row.height
    yield "number of captions", len(sample.captions), row.captions
    yield "number of regions", sum(len(c.regions) for c in sample.captions), row.regions
    yield (
        "datasets",
        sorted({p.dataset for c in sample.captions for p in c.provenance}),
        row.datasets,
    )


def _is_countable(sample: Sample) -> bool:
    """Whether there is a part to count each region for, and a box; else there are faults anyway."""
    return all(
        caption.provenance and all(map(math.isfinite, region.box))
        for caption in sample.captions
        for region in caption.regions
    )
