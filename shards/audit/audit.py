"""Looks for the images of evaluation sets among those of an annotation file."""

import functools
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.image_ids import namespace_of
from schemas.joins import COCO_ID, HASH, ID, PHOTO_ID
from shards.audit.eval_sets import EvalSet
from shards.audit.files.annotation_file import Mask
from shards.audit.files.statements import Statement, Unknown
from shards.audit.hashes import HashedImages
from shards.audit.identities import (
    Identity,
    IdentityGraph,
    join_of_link,
)

#: The joins from the strongest: an image counts for the first that found it.
JOINS = (ID, COCO_ID, PHOTO_ID, HASH)
#: Images that are rendered, so that no other dataset has them.
_RENDERED = frozenset({"clevr"})
_CLEAN = 0
_FIRST_JOIN = 1 << 15  # codes from here on are joins, below are reasons


_COMPARE_FILES = "--images and --eval-images, to compare the image files"
_REMEDIES = {
    Unknown.NUMBER: "--namespace, to state the dataset",
    Unknown.OWN_NAME: _COMPARE_FILES,
    Unknown.NO_ID: _COMPARE_FILES,
    Unknown.UNREADABLE: "a file without damaged records",
}
#: The tables that state ids of other datasets, by the namespace of the images.
_TABLES = {
    "vg": ("COCO id or Flickr photo", "image_data.json"),
    "coco": ("Flickr photo", "instances_train2014.json and instances_val2014.json"),
}


#: Number of an evaluation set, key of its image, join.
_Match = tuple[int, str, str]


class _EvalImages(NamedTuple):
    """What is known of some images of an evaluation set.

    ``spaces``: the namespaces in which their ids are known. ``is_in_table``: whether it is known
    what the tables state about them. ``is_unique``: whether no other dataset has them.
    """

    namespace: str
    spaces: frozenset[str]
    is_in_table: bool
    is_unique: bool


class _Known(NamedTuple):
    """What is known of the image of a record.

    ``namespace``: that of its first id, empty if it has none. ``spaces`` and ``is_in_table``: as of
    `_EvalImages`. ``unknown``: why its ids are not known.
    """

    namespace: str
    spaces: frozenset[str]
    is_in_table: bool
    unknown: Unknown | None


class NotChecked(NamedTuple):
    """Why images could not be compared with an evaluation set, and what it would take."""

    images: str  # such as "images of vg/ have no Flickr photo here"
    remedy: str


class Leak(NamedTuple):
    """An image of the audited file that is in an evaluation set."""

    image: str
    file: str
    eval_set: str
    eval_image: str
    join: str


class Counts(NamedTuple):
    """Numbers of images and of their captions."""

    images: int
    captions: int


class SetResult(NamedTuple):
    """What an audit found of one evaluation set, or of all: each image is counted once.

    Attributes:
        named: The number of images that the set names.
        leaking: The leaking images by join.
        clean: Images that are known not to be in it.
        not_checked: Images of which that is not known, by reason, with an example of each.
    """

    named: int
    leaking: dict[str, Counts]
    clean: Counts
    not_checked: dict[NotChecked, tuple[Counts, str]]


class AuditResult(NamedTuple):
    """The result of an audit.

    Attributes:
        total: All images and captions of the file.
        sets: By evaluation set.
        leaking, clean, not_checked: Images that are in any set; in none; and of which a set could
            not be checked. They add up to the total.
        leaks: Each leak, by its image.
        captions: The number of captions by leaking image.
        leaking_records: For each record of the file, whether its image leaks.
        set_aside: By set, how many of its images have no id by which they could be found among
            images of another dataset that are counted as clean.
        other_splits: The number of records that are not trained on, by their split.
    """

    total: Counts
    sets: dict[str, SetResult]
    leaking: Counts
    clean: Counts
    not_checked: Counts
    leaks: list[Leak]
    captions: dict[str, int]
    leaking_records: Mask
    set_aside: dict[str, int]
    other_splits: dict[str, int]


class Audit:
    """An audit of one file against evaluation sets. `add` each record, then ask for the `result`.

    It takes about 16 bytes per record, and more per leaking image.

    Args:
        eval_sets: The sets, whose names differ.
        identities: What image tables state of images.
        hashes: Perceptual hashes of images of the sets, if any are known.
    """

    def __init__(
        self,
        eval_sets: Iterable[EvalSet],
        identities: Iterable[Identity] = (),
        hashes: HashedImages | None = None,
    ) -> None:
        self._sets = list(eval_sets)
        self._graph = IdentityGraph()
        self._hashes = hashes
        for row in identities:
            self._graph.add(row.key, row.links)
        for eval_set in self._sets:
            for key, statement in eval_set.images.items():
                if statement.links:
                    self._graph.add(key, statement.links)
        self._namespaces = self._graph.namespaces()
        # Evaluation sets, as numbers, and keys of the images of each photo, by its root.
        self._eval_images: dict[str, list[tuple[int, str]]] = {}
        for number, eval_set in enumerate(self._sets):
            for key in eval_set.images:
                self._eval_images.setdefault(self._graph.root(key), []).append((number, key))
        self._profiles = [self._profile(number) for number in range(len(self._sets))]
        self._verdict = functools.lru_cache(maxsize=1 << 12)(self._verdict_of)
        self._status = functools.lru_cache(maxsize=1 << 10)(self._status_of)
        # Each record has a verdict: a code for each evaluation set.
        self._verdicts: dict[tuple[int, ...], int] = {}
        self._reasons: dict[NotChecked, int] = {}
        self._examples: dict[tuple[int, int], str] = {}
        self._set_aside: dict[int, int] = {}
        self._other_splits = Counter[str]()
        # For each statement that was added, whether it begins a record, and whether it counts.
        self._begins_record = array("b")
        self._is_counted = array("b")
        self._image_hashes = array("q")
        self._record_verdicts = array("I")
        self._captions = array("I")
        self._leaks: dict[Leak, None] = {}

    def add(self, statement: Statement) -> None:
        """Adds what the next record of the file states of its image, or of one of them."""
        self._begins_record.append(not statement.is_further)
        self._is_counted.append(not statement.other_split)
        if statement.other_split:
            self._other_splits[statement.other_split] += not statement.is_further
            return
        near = self._hashes.near(statement) if self._hashes else None
        verdict, matches = self._verdict(
            statement.name, statement.keys, statement.links, statement.unknown, near
        )
        for number, eval_key, join in matches:
            name = self._sets[number].name
            self._leaks[Leak(statement.name, statement.file, name, eval_key, join)] = None
        self._image_hashes.append(hash(statement.name))
        self._record_verdicts.append(verdict)
        self._captions.append(statement.captions)

    def result(self) -> AuditResult:
        """Returns the counts and leaks of all records that were added."""
        hashes = np.frombuffer(self._image_hashes, np.int64)
        captions = np.frombuffer(self._captions, np.uint32)
        verdicts = np.frombuffer(self._record_verdicts, np.uint32)
        table = np.array(list(self._verdicts), np.int64).reshape(-1, len(self._sets))
        images, image_of_record = np.unique(hashes, return_inverse=True)
        captions_of_image = np.bincount(image_of_record, captions, len(images)).astype(np.int64)
        # An image is what the most serious of its records is.
        codes = np.zeros((len(images), len(self._sets)), np.int64)
        np.maximum.at(codes, image_of_record, table[verdicts])

        def counts(mask: Mask) -> Counts:
            return Counts(int(mask.sum()), int(captions_of_image[mask].sum()))

        is_leaking: Mask = np.any(codes >= _FIRST_JOIN, axis=1)
        is_clean: Mask = np.all(codes == _CLEAN, axis=1)
        names = sorted({leak.image for leak in self._leaks})
        rows = np.searchsorted(images, np.array([hash(name) for name in names], np.int64))
        return AuditResult(
            total=counts(np.ones(len(images), bool)),
            sets={
                eval_set.name: self._set_result(number, codes[:, number], counts)
                for number, eval_set in enumerate(self._sets)
            },
            leaking=counts(is_leaking),
            clean=counts(is_clean),
            not_checked=counts(~is_leaking & ~is_clean),
            leaks=list(self._leaks),
            captions=dict(zip(names, captions_of_image[rows].tolist(), strict=True)),
            leaking_records=self._of_records(is_leaking[image_of_record]),
            other_splits=dict(self._other_splits),
            set_aside={self._sets[n].name: count for n, count in self._set_aside.items()},
        )

    def _of_records(self, is_leaking: Mask) -> Mask:
        """Returns for each record whether an image of it leaks."""
        of_statements = np.zeros(len(self._is_counted), bool)
        of_statements[np.frombuffer(self._is_counted, bool)] = is_leaking
        starts = np.flatnonzero(np.frombuffer(self._begins_record, bool))
        return np.logical_or.reduceat(of_statements, starts) if len(starts) else of_statements

    def _verdict_of(
        self,
        name: str,
        keys: tuple[str, ...],
        links: tuple[str, ...],
        unknown: Unknown | None,
        near: tuple[tuple[int, str], ...] | None,
    ) -> tuple[int, list[_Match]]:
        """Returns the verdict of a record, as a number, and what it matches, sorted."""
        joins, spaces, is_in_table = self._find(keys, links)
        if near is not None:
            spaces |= {HASH}
            joins = dict.fromkeys(near, HASH) | joins
        known = _Known(namespace_of((*keys, *links, "")[0]), spaces, is_in_table, unknown)
        codes = [_CLEAN] * len(self._sets)
        for (number, _), join in joins.items():
            codes[number] = max(codes[number], _FIRST_JOIN + len(JOINS) - JOINS.index(join))
        for number, code in enumerate(codes):
            if code == _CLEAN:
                codes[number] = self._status(number, known)
                self._examples.setdefault((number, codes[number]), name)
        verdict = self._verdicts.setdefault(tuple(codes), len(self._verdicts))
        return verdict, sorted((*image, join) for image, join in joins.items())

    def _find(
        self, keys: tuple[str, ...], links: tuple[str, ...]
    ) -> tuple[dict[tuple[int, str], str], frozenset[str], bool]:
        """Returns what the ids of a record tell.

        Returns:
            The images of evaluation sets that it is, with the strongest join; the namespaces
            in which its ids are known; and whether it is known what the tables state about it.
        """
        joins: dict[tuple[int, str], str] = {}
        spaces: frozenset[str] = frozenset()
        stated = [(key, ID) for key in keys]
        # A link of the record is a join by itself.
        stated += [(key, join_of_link(key)) for key in links]
        for key, stated_join in stated:
            root = self._graph.root(key)
            spaces |= self._spaces(key)
            for image in self._eval_images.get(root, ()):
                join = max(stated_join, self._graph.join(key, image[1]), key=JOINS.index)
                joins[image] = min(join, joins.get(image, join), key=JOINS.index)
        is_in_table = bool(links) or any(map(self._graph.is_in_a_table, keys))
        return joins, spaces, is_in_table

    def _spaces(self, key: str) -> frozenset[str]:
        root = self._graph.root(key)
        return self._namespaces.get(root) or frozenset({namespace_of(key)})

    def _profile(self, number: int) -> Counter[_EvalImages]:
        """Returns how many images of a set are known by which ids."""
        profile: Counter[_EvalImages] = Counter()
        eval_set = self._sets[number]
        for key in eval_set.images:
            spaces = self._spaces(key)
            if self._hashes and key in self._hashes.hashed[number]:
                spaces |= {HASH}
            is_in_table = self._graph.is_in_a_table(key)
            is_unique = key in eval_set.unique or namespace_of(key) in _RENDERED
            profile[_EvalImages(namespace_of(key), spaces, is_in_table, is_unique)] += 1
        return profile

    def _status_of(self, number: int, known: _Known) -> int:
        """Returns the code of an image without a match: clean, or why that is not known.

        Two images differ if their ids in one namespace do. If tables state what they can about an
        image of the set and about this one, and the former has no other id, then no id can find
        it in another dataset: it is set aside, as long as others of its namespace are compared.
        """
        compared: set[str] = set()
        set_aside: Counter[_EvalImages] = Counter()
        blocked: Counter[_EvalImages] = Counter()
        for images, count in self._profiles[number].items():
            is_other = known.namespace and (images.is_unique or known.namespace in _RENDERED)
            are_in_tables = known.is_in_table and images.is_in_table and images.namespace in _TABLES
            if is_other or known.spaces & images.spaces:
                compared.add(images.namespace)
            elif are_in_tables and images.spaces == {images.namespace} and not known.unknown:
                set_aside[images] += count
            else:
                blocked[images] += count
        blocked.update({i: n for i, n in set_aside.items() if i.namespace not in compared})
        if not blocked:
            if count := set_aside.total():
                self._set_aside[number] = max(count, self._set_aside.get(number, 0))
            return _CLEAN
        reason = self._reason(number, known, blocked)
        return self._reasons.setdefault(reason, len(self._reasons) + 1)

    def _reason(self, number: int, known: _Known, blocked: Counter[_EvalImages]) -> NotChecked:
        name, namespace, unknown = self._sets[number].name, known.namespace, known.unknown
        if unknown and HASH in known.spaces:
            count = blocked.total()
            images = f"images, as {count:,} images of {name} are not in the folders of its images"
            return NotChecked(images, "--eval-images with them")
        if unknown:
            return NotChecked(f"images {unknown.value}", _REMEDIES[unknown])
        if namespace in _TABLES and not known.is_in_table:
            ids, table = _TABLES[namespace]
            return NotChecked(
                f"images of {namespace}/ have no {ids} here", f"--identities of {table}"
            )
        for other in blocked:
            if not other.is_in_table and other.namespace in _TABLES:
                ids, table = _TABLES[other.namespace]
                count = sum(n for i, n in blocked.items() if i.namespace == other.namespace)
                return NotChecked(
                    f"images of {namespace}/, as {count:,} images of {name} have no {ids} here",
                    f"--identities of {table}",
                )
        return NotChecked(
            f"images of {namespace}/ state no id that images of {name} have", _COMPARE_FILES
        )

    def _set_result(
        self,
        number: int,
        codes: npt.NDArray[np.int64],
        counts: Callable[[Mask], Counts],
    ) -> SetResult:
        leaking = {
            join: counts(codes == _FIRST_JOIN + len(JOINS) - i) for i, join in enumerate(JOINS)
        }
        not_checked = {
            reason: (counts(codes == code), self._examples[number, code])
            for reason, code in self._reasons.items()
            if (codes == code).any()
        }
        return SetResult(
            named=len(self._sets[number].images),
            leaking={join: c for join, c in leaking.items() if c.images},
            clean=counts(codes == _CLEAN),
            not_checked=not_checked,
        )
