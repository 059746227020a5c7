"""Checks that images and records of a set are distinct: facts of all its samples together."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas import Sample
from schemas.image_ids import key_of_file, namespace_of
from schemas.sample import decode_sample
from shards.format import manifest as mf
from shards.format.manifest import ShardError
from shards.reading.shard_set import ShardSet
from shards.terminal import count_noun, listed
from shards.verification.datasets import Datasets
from shards.verification.errors import ErrorKind, VerificationError
from shards.verification.recipe import RecipeRequirements
from shards.verification.set_checks import IndexedShard

_Array = npt.NDArray[np.uint64]


class SampleFacts(NamedTuple):
    """Facts of a shard's samples that are compared over the whole set, each with its row.

    Records and files are hashed: a set may have 15 million records.
    """

    records: "array[int]"
    record_rows: "array[int]"
    files: "array[int]"
    file_rows: "array[int]"
    are_named: "array[int]"  # whether the name of the file is the published one of the key
    answers: Counter[tuple[str, bool]]  # questions by dataset, and whether they have an answer

    @classmethod
    def empty(cls) -> "SampleFacts":
        """Returns the facts of no samples."""
        return cls(array("Q"), array("L"), array("Q"), array("L"), array("B"), Counter())

    def add(self, sample: Sample, row: int, datasets: Datasets | None) -> None:
        """Adds a sample, as far as its recipe makes facts comparable."""
        if datasets is None or datasets.is_open:
            return
        for caption in sample.captions:
            for origin in caption.provenance:
                self.records.append(_hash(f"{origin.dataset}\n{origin.record}"))
                self.record_rows.append(row)
            if caption.question is not None and caption.provenance:
                has_answer = caption.question.answer is not None
                self.answers[caption.provenance[0].dataset, has_answer] += 1
        self.files.append(_hash(sample.file))
        self.file_rows.append(row)
        named = key_of_file(namespace_of(sample.key), sample.file)
        self.are_named.append(named == sample.key)


def _hash(name: str) -> int:
    encoded = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "big")


def check_image_files(
    shards: ShardSet, indexed: Mapping[int, IndexedShard], requirements: RecipeRequirements
) -> Iterator[VerificationError]:
    """Yields images whose file is that of another key, by size and CRC-32.

    In splits of both roles it is a leak. Within a role, sources that may state anything may repeat
    a file, those of several datasets do if no rule joins their photos, and the raw files do where
    the manifest states it.
    """
    files = _files(indexed)
    roles = shards.manifest.roles
    datasets = requirements.datasets
    is_closed = datasets is not None and not datasets.is_open
    is_whole = len(indexed) == len(shards.shards)
    stated = {file.identity(): file.images for file in shards.manifest.same_files}
    for group in _groups(files, files != 0):
        images = [_image(int(i), indexed) for i in group]
        by_key = {image.key: image for image in images}
        missing = stated.pop(int(files[group[0]]), 0) - len(by_key)
        is_stated = missing == 0 or (missing > 0 and not is_whole)
        first = images[0]
        evaluated = next((i for i in images if roles[_split(shards, i)] == "eval"), None)
        for image in by_key.values():
            entry = shards.shards[image.shard]
            if evaluated is not None and roles[entry.split] == "train":
                if image.key != evaluated.key:
                    message = f"its file is that of {evaluated.key} of {_split(shards, evaluated)}"
                    yield VerificationError(ErrorKind.LEAK, message, entry.file, image.key)
            elif image.key != first.key and is_closed and not is_stated:
                same = image.key.partition("/")[0] == first.key.partition("/")[0]
                if same or requirements.joins_photos:
                    message = f"its file is that of {first.key}"
                    yield VerificationError(ErrorKind.SAME_BYTES, message, entry.file, image.key)
    if is_whole:
        for identity, count in stated.items():
            crc32 = f"the CRC-32 {identity >> 32:08x}"
            message = f"it states that {count_noun(count, 'image')} have one file, with {crc32}"
            yield VerificationError(ErrorKind.SAME_BYTES, message, mf.NAME)


def not_checked(shards: ShardSet, indexed: Mapping[int, IndexedShard]) -> Iterator[str]:
    """Yields the images that the manifest states to have the file of another one."""
    stated = np.array([file.identity() for file in shards.manifest.same_files], np.uint64)
    positions = np.flatnonzero(np.isin(_files(indexed), stated)).tolist()
    if keys := sorted({_image(position, indexed).key for position in positions}):
        yield (
            f"whether {count_noun(len(keys), 'image')} are different ones: the build found their "
            f"files under several names ({listed(keys)})"
        )


def check_records(
    shards: ShardSet, indexed: Mapping[int, IndexedShard], facts: Mapping[int, SampleFacts]
) -> Iterator[VerificationError]:
    """Yields records that are in several images. One image may be in two evaluation splits."""
    for image, other in _repeated(indexed, facts, "records"):
        if image.key != other.key:
            file, other_file = (shards.shards[i.shard].file for i in (image, other))
            [name, *_] = [*sorted(_records(shards, image) & _records(shards, other)), "a record"]
            message = f"{name} is in {other.key} of {other_file} too"
            yield VerificationError(ErrorKind.RECORD, message, file, image.key)


def check_file_names(
    shards: ShardSet, indexed: Mapping[int, IndexedShard], facts: Mapping[int, SampleFacts]
) -> Iterator[VerificationError]:
    """Yields images whose ``file`` is that of another image.

    Images of two namespaces may have one name: coco/7.jpg and vg/7.jpg. But where most images of a
    namespace have published names, no other image has the published name of another namespace.
    """
    named: dict[tuple[int, int], bool] = {}
    published: Counter[str] = Counter()
    for shard, of_shard in facts.items():
        for row, is_named in zip(of_shard.file_rows, of_shard.are_named, strict=True):
            named[shard, row] = bool(is_named)
            published[namespace_of(indexed[shard].keys[row])] += 1 if is_named else -1
    for pair in _repeated(indexed, facts, "files"):
        image, other = sorted(pair, key=lambda i: named[i.shard, i.row])
        namespaces = namespace_of(image.key), namespace_of(other.key)
        is_known = named[other.shard, other.row] and not named[image.shard, image.row]
        if image.key != other.key and (
            namespaces[0] == namespaces[1] or (is_known and published[namespaces[0]] > 0)
        ):
            message = f"{other.key} states the same file"
            file = shards.shards[image.shard].file
            yield VerificationError(ErrorKind.FILE_NAME, message, file, image.key)


def check_answers(
    shards: ShardSet, facts: Mapping[int, SampleFacts]
) -> Iterator[VerificationError]:
    """Yields splits of which some questions of a dataset have an answer and others none.

    Questions without answers cannot be trained on, so a split for training has all answers.
    """
    by_split: dict[str, Counter[tuple[str, bool]]] = {}
    for shard, facts_of_it in facts.items():
        by_split.setdefault(shards.shards[shard].split, Counter()).update(facts_of_it.answers)
    for split, answers in by_split.items():
        for dataset in sorted({dataset for dataset, _ in answers}):
            without, with_answer = answers[dataset, False], answers[dataset, True]
            if without and (with_answer or shards.manifest.roles[split] == "train"):
                questions = f"{without} of {without + with_answer} questions of {dataset}"
                message = f"{questions} in {split} lack an answer"
                yield VerificationError(ErrorKind.QUESTION, message)


class _Image(NamedTuple):
    """An image of the set, by its shard and its row there."""

    shard: int
    row: int
    key: str


def _split(shards: ShardSet, image: _Image) -> str:
    return shards.shards[image.shard].split


def _image(position: int, indexed: Mapping[int, IndexedShard]) -> _Image:
    """Returns the image at a position in the rows of all indexed shards."""
    for shard, row in indexed.items():
        if position < len(row.keys):
            return _Image(shard, position, row.keys[position])
        position -= len(row.keys)
    raise IndexError(position)


def _files(indexed: Mapping[int, IndexedShard]) -> _Array:
    """Returns CRC-32 and size of the files of all indexed images, 0 without a file."""
    return np.concatenate([np.empty(0, np.uint64), *(row.files for row in indexed.values())])


def _groups(values: _Array, chosen: npt.NDArray[np.bool_]) -> Iterator[npt.NDArray[np.intp]]:
    """Yields the positions of each chosen value that occurs several times, ascending."""
    positions = np.flatnonzero(chosen)
    order = positions[np.argsort(values[positions], kind="stable")]
    borders = np.flatnonzero(np.diff(values[order])) + 1
    for start, stop in pairwise([0, *borders.tolist(), len(order)]):
        if stop - start > 1:
            yield order[start:stop]


def _repeated(
    indexed: Mapping[int, IndexedShard], facts: Mapping[int, SampleFacts], name: str
) -> Iterator[tuple[_Image, _Image]]:
    """Yields each image with a fact that an earlier one has, and that earlier image."""
    row_names = {"records": "record_rows", "files": "file_rows"}
    if not facts:
        return
    values = np.concatenate([np.array(getattr(f, name), np.uint64) for f in facts.values()])
    rows = np.concatenate([np.array(getattr(f, row_names[name])) for f in facts.values()])
    sizes = [len(getattr(f, name)) for f in facts.values()]
    shard_of = np.repeat(np.array(list(facts)), sizes)
    for group in _groups(values, np.ones(len(values), bool)):
        images = [
            _Image(int(shard_of[i]), int(rows[i]), indexed[int(shard_of[i])].keys[int(rows[i])])
            for i in group
        ]
        for other in images[1:]:
            yield other, images[0]


def _records(shards: ShardSet, image: _Image) -> set[str]:
    """Returns the records of an image's sentences; none if the sample cannot be read again."""
    try:
        row = shards.index_rows(image.shard)[image.row]
        with shards.open_shard(image.shard) as file:
            file.seek(row.json_offset)
            sample = decode_sample(file.read(row.json_size))
    except (ShardError, OSError, ValueError):
        return set()
    return {f"{s.dataset}/{s.record}" for c in sample.captions for s in c.provenance}
