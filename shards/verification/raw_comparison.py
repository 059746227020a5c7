"""Compares some samples of a shard set with the raw files, and the raw files with the samples."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from schemas import Caption, Provenance, Region, Sample
from schemas.image_ids import namespace_of, other_coco_names
from schemas.sample import decode_sample
from shards import box_overlap
from shards.format.index import IndexRow
from shards.format.manifest import ShardError
from shards.reading.shard_set import ShardSet
from shards.reading.tables import read_rejected
from shards.verification.errors import ErrorKind, VerificationError
from shards.verification.raw.duplicates import SameImages
from shards.verification.raw.files import RawError, RawRoot
from shards.verification.raw.licenses import Stated, stated_licenses
from shards.verification.raw.readers import READERS
from shards.verification.raw.records import RawRecord
from shards.verification.recipe import RecipeRequirements
from shards.verification.spans import sentence_index

#: Pixels by which a box may differ: files state coordinates with two decimals.
TOLERANCE = 0.05

#: The IoU with a raw box that the mean of several of them has, at least.
NEAR = 0.5

# What a raw file of another layout raises, whatever is wrong with it.
_LAYOUT_ERRORS = (
    *(RawError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError),
    *(msgspec.MsgspecError, ElementTree.ParseError, DefusedXmlException, RuntimeError),
)

Rows = Sequence[tuple[int, int]]  # of images: shard, and row there


class _Chosen(NamedTuple):
    """A sample that is compared, with its image; None if the set has none."""

    file: str
    split: str
    sample: Sample
    content: bytes | None
    row: IndexRow


class _Expected(NamedTuple):
    """A sentence of a raw file of a source: that of one of the image's captions, or rejected."""

    source: str
    dataset: str
    id: str
    record: RawRecord


class _Rejections:
    """The sentences that rejected.parquet counts; none if it cannot be read."""

    def __init__(self, shards: ShardSet) -> None:
        self._records: Counter[tuple[str, str, str]] = Counter()  # by source, record and image
        self._places: Counter[tuple[str, str]] = Counter()  # by source, and file with position
        try:
            rows = read_rejected(shards).to_pylist()
        except ShardError:
            return  # check_tables reports it
        for row in rows:
            source, record, lost = row["source"], row["record"], row["records"]
            self._records[source, record, row["image"]] += lost
            if row["reason"] == "malformed record":
                self._places[source, f"{row['detail'].partition(': ')[0]}: {record}"] += lost

    def unexplained(
        self, sentences: Sequence[_Expected], present: Mapping[tuple[str, str], int]
    ) -> Iterator[str]:
        """Yields the sentences of an image that are neither in its sample nor rejected, by name.

        A row of a whole image explains as many sentences of its source as it counts. ``present``
        has the numbers of sentences in the sample, by dataset and record.
        """
        stated = Counter((s.dataset, s.id) for s in sentences)
        missing: dict[tuple[str, str], set[str]] = defaultdict(set)  # by source and image
        for sentence in sentences:
            id_ = sentence.dataset, sentence.id
            if self._count(sentence) < stated[id_] - present.get(id_, 0):
                missing[sentence.source, sentence.record.image].add("/".join(id_))
        for (source, image), names in missing.items():
            if len(names) > self._records[source, image, image]:
                yield from sorted(names)

    def _count(self, sentence: _Expected) -> int:
        """Returns how often a sentence was rejected.

        A number alone is its id only where records are not known by their position.
        """
        source, record = sentence.source, sentence.record
        names = [f"{sentence.dataset}/{sentence.id}", *([] if record.place else [sentence.id])]
        rows = product([source], names, ["", record.image])
        return self._places[source, record.place] + sum(map(self._records.__getitem__, rows))


class RawComparison:
    """The comparison of the chosen rows with the raw files below ``root``."""

    def __init__(
        self, shards: ShardSet, requirements: RecipeRequirements, root: str | Path, rows: Rows
    ) -> None:
        self._sources = requirements.raw_sources
        self._requirements = requirements
        self._root = RawRoot(root)
        self._shards = shards
        self.not_checked: list[str] = []
        self._chosen = list(self._read(rows))
        self.images = len(self._chosen)

    def _read(self, rows: Rows) -> Iterator[_Chosen]:
        """Yields the samples that can be read; the others are errors of other checks."""
        for shard, row_number in rows:
            entry = self._shards.shards[shard]
            try:
                row = self._shards.index_rows(shard)[row_number]
                with self._shards.open_shard(shard) as file:
                    file.seek(max(row.json_offset, 0))
                    sample = decode_sample(file.read(max(row.json_size, 0)))
                    content = None
                    if row.image_name:
                        file.seek(max(row.image_offset, 0))
                        content = file.read(max(row.image_size, 0))
            except (ShardError, OSError, ValueError):
                self.not_checked.append(f"an image of {entry.file} against raw files: unreadable")
                continue
            yield _Chosen(entry.file, entry.split, sample, content, row)

    def errors(self) -> Iterator[VerificationError]:
        """Yields what the samples and the raw files do not agree about."""
        keys = {chosen.sample.key for chosen in self._chosen}
        records: dict[tuple[str, str], list[RawRecord]] = {}
        expected: dict[tuple[str, str], list[_Expected]] = {}  # by split and image
        unread: set[str] = set()
        try:
            wanted = SameImages(keys, self._root, self._sources)
        except _LAYOUT_ERRORS as error:
            yield VerificationError(ErrorKind.RAW, f"image tables cannot be read: {_text(error)}")
            return
        yield from self._licenses(keys)
        for name, source in sorted(self._sources.items()):
            reader = READERS.get(source.get("reader", name))
            if reader is None:
                self.not_checked.append(f"sentences of {name} against raw files: no raw reader")
                unread.add(name)
                continue
            try:
                for split, dataset, id_, record in reader(self._root, source, wanted):
                    records.setdefault((dataset, id_), []).append(record)
                    if record.regions != "near":  # a build merges those
                        sentence = _Expected(name, dataset, id_, record)
                        expected.setdefault((split, record.image), []).append(sentence)
            except _LAYOUT_ERRORS as error:
                unread.add(name)
                message = f"sentences of {name} cannot be read: {_text(error)}"
                yield VerificationError(ErrorKind.RAW, message)
        rejected = _Rejections(self._shards)
        for chosen in self._chosen:
            present: Counter[tuple[str, str]] = Counter()
            for index, caption in enumerate(chosen.sample.captions):
                present.update((s.dataset, s.record) for s in caption.provenance)
                for message in self._caption(chosen, caption, records, complete=not unread):
                    yield VerificationError(
                        ErrorKind.RAW, message, chosen.file, chosen.sample.key, index
                    )
            sentences = expected.get((chosen.split, chosen.sample.key), [])
            for name in rejected.unexplained(sentences, present):
                message = f"{name} is in the raw file, not in the sample"
                yield VerificationError(ErrorKind.RAW, message, chosen.file, chosen.sample.key)
            yield from self._image(chosen)

    def _licenses(self, keys: set[str]) -> Iterator[VerificationError]:
        """Yields images that lack a license or the address that a table states by their key."""
        try:
            stated_by_key = stated_licenses(self._root, self._sources, keys)
        except _LAYOUT_ERRORS as error:
            self.not_checked.append(f"licenses of images against raw files: {_text(error)}")
            return
        table = {e.id: (e.name, e.url) for e in self._shards.manifest.licenses}
        for chosen in self._chosen:
            stated = stated_by_key.get(chosen.sample.key, Stated())
            missing = stated.licenses - {table.get(id_) for id_ in chosen.row.licenses}
            messages = [f"it lacks the license {name!a} {url!a}" for name, url in sorted(missing)]
            if stated.addresses and chosen.row.url not in stated.addresses:
                messages.append(f"its address is {chosen.row.url!a}, not {stated.addresses}")
            for message in messages:
                yield VerificationError(ErrorKind.RAW, message, chosen.file, chosen.sample.key)

    def _caption(
        self,
        chosen: _Chosen,
        caption: Caption,
        records: dict[tuple[str, str], list[RawRecord]],
        complete: bool,
    ) -> Iterator[str]:
        """Yields how the sentences of a caption differ from their raw records."""
        required = self._requirements.for_split(chosen.split)
        for index, origin in enumerate(caption.provenance):
            of_id = records.get((origin.dataset, origin.record))
            if of_id is None:
                # Images of several datasets have the key of one of them.
                if complete and self._is_of_own_dataset(chosen.sample, origin):
                    yield f"{origin.dataset}/{origin.record} is no raw record of the image"
                continue
            name = f"{origin.dataset}/{origin.record}"
            key = chosen.sample.key
            # The first of the image: builds reject later ones, and those of other images.
            record = next((r for r in of_id if key in (r.image, r.same_as)), of_id[0])
            if key not in (record.image, record.same_as) and (
                namespace_of(key) == namespace_of(record.image)
            ):
                yield f"{name} is a record of {record.image}"
                continue
            text = caption.text[slice(*origin.span)]
            if _letters(text) != _letters(record.text) or (
                record.regions != "near" and text != record.text
            ):
                yield f"{name} is {record.text!a}, not {text!a}"
            regions = [
                region
                for region in caption.regions
                if region.spans and sentence_index(region.spans[0], caption.provenance) == index
            ]
            for problem in chain(
                _fact_problems(caption, regions, record, required.joins(origin.dataset)),
                _box_problems(chosen.sample, regions, record, required.clipped),
            ):
                yield f"{name}: {problem}"

    def _is_of_own_dataset(self, sample: Sample, origin: Provenance) -> bool:
        """Returns whether a reader that found the image would have found the record."""
        namespaces = {"vg": "vg", "gqa": "vg", "flickr30k": "flickr30k"}
        return namespaces.get(origin.dataset, "coco") == namespace_of(sample.key)

    def _image(self, chosen: _Chosen) -> Iterator[VerificationError]:
        """Yields an error unless the image has the bytes of a raw file of its name."""
        if chosen.content is None:
            return
        folders = [
            folder for source in self._sources.values() for folder in source.get("images", [])
        ]
        sample, has_name = chosen.sample, False
        names = [sample.file, *other_coco_names(sample.file, sample.key)]
        for folder, name in product(dict.fromkeys(folders), names):
            try:
                content = self._root.read_in(folder, name)
            except _LAYOUT_ERRORS as error:
                detail = f"{folder} cannot be read: {error}"
                yield VerificationError(ErrorKind.RAW, detail, chosen.file, chosen.sample.key)
                return
            has_name = has_name or content is not None
            if content == chosen.content:
                return
        message = (
            f"its bytes are not those of {chosen.sample.file!a}"
            if has_name
            else (f"no folder of images has {chosen.sample.file!a}")
        )
        yield VerificationError(ErrorKind.RAW, message, chosen.file, chosen.sample.key)


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, RawError) else f"{type(error).__name__}: {error}"


def _letters(text: str) -> str:
    """Returns the letters and digits of a text: what a clean-up of white space leaves as it is.

    Visual Genome has "//t" for a tab.
    """
    return "".join(filter(str.isalnum, text.replace("//t", " ")))


def _fact_problems(
    caption: Caption, regions: Sequence[Region], record: RawRecord, is_joined: bool
) -> Iterator[str]:
    """Yields fields that differ from those of the raw record; a joined caption has not all."""
    for name, value in record.facts.items():
        if name in ("category", "crowd"):
            for region in regions:
                if getattr(region, name) != value:
                    yield f"{name} is {getattr(region, name)}, not {value}"
        elif is_joined:
            continue
        elif name == "phrases":
            if (entities := {phrase.entity for phrase in caption.phrases}) != value:
                yield f"it has phrases of the entities {sorted(entities)}, not {sorted(value)}"
        elif name == "tokens_negative":
            if (spans := [list(span) for span in caption.tokens_negative]) != value:
                yield f"{name} is {spans}, not {value}"
        elif (actual := getattr(caption.question, name, None)) != value:
            yield f"{name} is {actual!a}, not {value!a}"


def _box_problems(
    sample: Sample, regions: Sequence[Region], record: RawRecord, clipped: bool
) -> Iterator[str]:
    """Yields regions whose boxes are not those of the record, in pixels of the sample's image."""
    if 0 in record.size or 0 in (sample.width, sample.height):
        return
    size = np.array([sample.width, sample.height] * 2)
    scale = size / np.array([*record.size, *record.size])
    raw = np.array([*record.boxes, *record.alternatives], np.float64).reshape(-1, 4) * scale
    if clipped:
        raw = np.clip(raw, 0, size)
    for region in regions:
        box = np.array(region.box, np.float64)
        if len(raw) and (np.abs(raw - box) <= TOLERANCE).all(axis=1).any():
            continue
        if record.regions == "near" and len(raw):
            overlaps = box_overlap.iou(box_overlap.as_array([region.box]), raw.astype(np.float32))
            if np.nanmax(overlaps, initial=0.0) >= NEAR:
                continue
        yield f"no raw box is {region.box}"
    usable = (raw[: len(record.boxes), :2] < raw[: len(record.boxes), 2:]).all(axis=1).sum()
    if record.regions == "each" and clipped and len(regions) < usable:
        yield f"{len(regions)} regions, the raw record has {usable} boxes"
