"""Checks of one shard: its file, its tar, and all or some of its samples."""

import hashlib
import io
import math
import mmap
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import BinaryIO, NamedTuple

import msgspec
from isal import isal_zlib
from PIL import Image, UnidentifiedImageError

from schemas import Sample
from schemas.sample import decode_sample
from shards.format.image_files import incompleteness
from shards.format.index import IndexRow, Member
from shards.format.manifest import ShardError
from shards.format.stats import Stats
from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind, ErrorLog, VerificationError, guarded
from shards.verification.identity_checks import SampleFacts
from shards.verification.recipe import SampleRequirements
from shards.verification.sample_checks import check_sample, not_checked

# By Pillow's name of the format; an MPO is a JPEG that contains further images.
_EXTENSIONS = {"JPEG": ("jpg", "jpeg"), "MPO": ("jpg", "jpeg"), "PNG": ("png",)}


class ShardCheck(NamedTuple):
    """A check of a shard, which is an index in the manifest's list.

    ``is_indexed``: the rows of the index can be read. ``rows`` are the samples to check; None: all
    of them, and the tar as a whole.
    """

    shards: ShardSet
    shard: int
    required: SampleRequirements
    is_indexed: bool
    rows: Sequence[int] | None = None


class ShardCheckResult(NamedTuple):
    """The errors of a shard, the counts of its samples, and what could not be checked of them.

    ``facts`` are compared with those of all other shards.
    """

    errors: ErrorLog
    stats: Stats
    not_checked: set[str]
    facts: SampleFacts


def check_shard(check: ShardCheck) -> ShardCheckResult:
    """Runs a check; it is picklable, so that another process can run it."""
    file = check.shards.shards[check.shard].file
    result = ShardCheckResult(ErrorLog(), Stats(), set(), SampleFacts.empty())
    result.errors.add(error._replace(file=file) for error in _check_file(check, result))
    return result


def _check_file(check: ShardCheck, result: ShardCheckResult) -> Iterator[VerificationError]:
    entry = check.shards.shards[check.shard]
    try:
        file = check.shards.open_shard(check.shard, verified=True)
    except ShardError as error:
        yield VerificationError(ErrorKind.FILE, str(error))
        return
    with file:
        if not entry.bytes:
            yield VerificationError(ErrorKind.TAR, "it is empty")  # and cannot be mapped
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as tar:
            if check.rows is None and (digest := hashlib.sha256(tar).hexdigest()) != entry.sha256:
                message = f"it has {digest}, the manifest states {entry.sha256}"
                yield VerificationError(ErrorKind.SHA256, message)
            if check.is_indexed:
                yield from _check_contents(file, tar, check, result)


def _check_contents(
    file: BinaryIO, tar: mmap.mmap, check: ShardCheck, result: ShardCheckResult
) -> Iterator[VerificationError]:
    try:
        rows = list(enumerate(check.shards.index_rows(check.shard)))
    except ShardError as error:
        yield VerificationError(ErrorKind.INDEX, str(error))
        return
    if check.rows is None:
        yield from check_tar(file, [row for _, row in rows])
    else:
        rows = [rows[i] for i in check.rows]
    for number, row in rows:
        yield from guarded(_check_image(tar, row, check.required))
        yield from guarded(_check_annotations(tar, row, number, check.required, result))


def check_tar(file: BinaryIO, rows: Sequence[IndexRow]) -> Iterator[VerificationError]:
    """Checks that a tar has the members of the index, at their offsets, and nothing else.

    The members of a sample may have either order, but must follow one another: webdataset groups
    consecutive members that have the same name up to the first dot.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            infos = list(archive)
            end = archive.offset  # the offset of the next header
    except (tarfile.TarError, ValueError) as error:  # ValueError: wrong numbers in headers
        yield VerificationError(ErrorKind.TAR, f"cannot be read: {error}")
        return
    for info in infos:
        if not info.isreg():
            message = f"{info.name} is not a regular file, and webdataset skips it"
            yield _member_error(info.name, message)
    members = [Member(info.name, info.offset_data, info.size) for info in infos]
    listed = [member for row in rows for member in row.members()]
    if len(members) < len(listed) and members == listed[: len(members)]:
        # tarfile treats a damaged header as the end of the archive.
        message = f"ends after {len(members)} of the {len(listed)} members of the index"
        yield VerificationError(ErrorKind.TAR, message)
        return
    if _has_data_from(file, end):
        message = f"there is data after its end, at {end}, which readers ignore"
        yield VerificationError(ErrorKind.TAR, message)
    in_tar, in_index = set(members), set(listed)
    for member in listed:
        if member not in in_tar:
            yield _member_error(member.name, f"{_describe(member)}: in the index, not in the tar")
    for member in members:
        if member not in in_index:
            yield _member_error(member.name, f"{_describe(member)}: in the tar, not in the index")
    seen: set[str] = set()
    for key, _ in groupby(members, lambda member: _key_of(member.name)):
        if key in seen:
            message = "its members do not follow one another"
            yield VerificationError(ErrorKind.MEMBER, message, key=key)
        seen.add(key)


def _member_error(name: str, message: str) -> VerificationError:
    return VerificationError(ErrorKind.MEMBER, message, key=_key_of(name))


def _describe(member: Member) -> str:
    return f"{member.name}, {member.size} bytes at {member.offset}"


def _key_of(member_name: str) -> str:
    return member_name.partition(".")[0]


def _has_data_from(file: BinaryIO, offset: int) -> bool:
    """Returns whether anything but zeros, with which tars are padded, follows ``offset``."""
    file.seek(offset)
    while chunk := file.read(1 << 20):
        if chunk.count(0) < len(chunk):
            return True
    return False


def _check_image(
    tar: mmap.mmap, row: IndexRow, required: SampleRequirements
) -> Iterator[VerificationError]:
    """Checks the CRC-32, the header and the end of an image; its pixels are not decoded."""
    if not row.image_name:
        if required.with_images:
            message = "missing, though the recipe embeds images"
            yield VerificationError(ErrorKind.IMAGE, message, key=row.key)
        return
    if row.image_name.rpartition(".")[0] != row.key:
        message = f"{row.image_name} is not named by its key"
        yield VerificationError(ErrorKind.MEMBER, message, key=row.key)
    content = tar[row.image_offset : row.image_offset + row.image_size]
    if isal_zlib.crc32(content) != row.image_crc32:
        yield _crc32_error(row.key, row.image_name, content, row.image_crc32)
        return
    try:
        size, image_format = _read_image_header(content)
    except UnidentifiedImageError:
        message = f"{row.image_name} is neither JPEG nor PNG"
        yield VerificationError(ErrorKind.IMAGE, message, key=row.key)
        return
    except Image.DecompressionBombError as error:
        message = f"{row.image_name} is too large: {error}"
        yield VerificationError(ErrorKind.IMAGE, message, key=row.key)
        return
    except (OSError, ValueError, SyntaxError) as error:
        message = f"{row.image_name} cannot be read: {error}"
        yield VerificationError(ErrorKind.IMAGE, message, key=row.key)
        return
    if row.image_name.rpartition(".")[2] not in _EXTENSIONS[image_format]:
        message = f"{row.image_name} holds {image_format}"
        yield VerificationError(ErrorKind.IMAGE, message, key=row.key)
    if size != (row.width, row.height):
        message = f"{size[0]}x{size[1]} pixels, the index states {row.width}x{row.height}"
        yield VerificationError(ErrorKind.IMAGE, message, key=row.key)
    elif (problem := incompleteness(content)) is not None:
        message = f"{row.image_name} is not whole: {problem}"
        yield VerificationError(ErrorKind.IMAGE, message, key=row.key)


def _read_image_header(content: bytes) -> tuple[tuple[int, int], str]:
    """Returns the size in pixels and Pillow's name of the format."""
    with warnings.catch_warnings():
        # Pillow warns about large images that builds still accept.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content), formats=["JPEG", "PNG"]) as image:
            return image.size, str(image.format)


def _check_annotations(
    tar: mmap.mmap,
    row: IndexRow,
    number: int,
    required: SampleRequirements,
    result: ShardCheckResult,
) -> Iterator[VerificationError]:
    """Checks the JSON of a sample, by itself and against its row of the index."""
    content = tar[row.json_offset : row.json_offset + row.json_size]
    if isal_zlib.crc32(content) != row.json_crc32:
        yield _crc32_error(row.key, f"{row.key}.json", content, row.json_crc32)
        return
    try:
        sample = decode_sample(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"{row.key}.json is not a sample: {error}"
        yield VerificationError(ErrorKind.SAMPLE, message, key=row.key)
        return
    for name, actual, stated in _indexed_facts(sample, row):
        if actual != stated:
            message = f"{name} is {actual!r}, the index states {stated!r}"
            yield VerificationError(ErrorKind.SAMPLE, message, key=row.key)
    if _is_countable(sample):
        result.stats.add(sample)
    result.facts.add(sample, number, required.datasets)
    result.not_checked.update(not_checked(sample, required))
    yield from check_sample(sample, required)


def _crc32_error(key: str, name: str, content: bytes, stated: int) -> VerificationError:
    message = f"{name} is damaged: it has {isal_zlib.crc32(content):08x}, the index {stated:08x}"
    return VerificationError(ErrorKind.CRC32, message, key=key)


def _indexed_facts(sample: Sample, row: IndexRow) -> Iterator[tuple[str, object, object]]:
    """Yields what sample and index both state: the name, the sample's value, the index's value."""
    yield "key", sample.key, row.key
    yield "width", sample.width, row.width
    yield "height", sample.height, row.height
    yield "number of captions", len(sample.captions), row.captions
    yield "number of regions", sum(len(c.regions) for c in sample.captions), row.regions
    datasets = sorted({r.dataset for c in sample.captions for r in c.provenance})
    yield "datasets", datasets, row.datasets


def _is_countable(sample: Sample) -> bool:
    """Returns whether every region has a sentence and a finite box; otherwise it has errors."""
    return all(
        caption.provenance and all(map(math.isfinite, region.box))
        for caption in sample.captions
        for region in caption.regions
    )
