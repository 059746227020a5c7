"""The image registry: which images are duplicates of each other, and which are held out.

Visual Genome was collected from COCO and YFCC, COCO and Flickr30k from Flickr: one photo is in
several datasets, at several sizes. Two images are duplicates by Visual Genome's ``coco_id``, or by
the id of the Flickr photo that both were made from.

A join has two uses, and an error of it two costs. Images that are merged get each other's captions,
so two images of one dataset are never merged, whatever their ids state. Images that are held out
together only cost captions, so every id that is stated anywhere holds out.
"""

import copy
import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import NamedTuple

import msgspec

from schemas import UNKNOWN_LICENSE, EvalImage, ImageInfo, License
from schemas.disjoint_sets import DisjointSets
from schemas.image_ids import has_id, key_of_file, namespace_of, normal_key, photo_id_of_key
from schemas.joins import COCO_ID, ID, PHOTO_ID
from shards.terminal import listed

# The canonical image of several duplicates is that of the first of these namespaces.
_PREFERENCE = {"coco": 0, "vg": 1, "gqa": 2, "flickr30k": 3}
# Duplicates whose ratios of width to height differ by more are crops: boxes cannot be rescaled.
_RATIO_TOLERANCE = 0.02


class EvalMatch(NamedTuple):
    """An image of an evaluation set that an image is, or is a duplicate of.

    ``join`` is how the two were identified: "id", "coco_id" or "flickr photo id".
    """

    eval_set: str
    eval_image: str
    join: str


class SharedId(NamedTuple):
    """An id of another dataset that several images of one dataset state, which cannot be.

    The images are not merged. ``id`` is a COCO key or the id of a Flickr photo, and empty for a
    chain of several.
    """

    join: str
    id: str
    keys: list[str]


class Conflict(NamedTuple):
    """Why an image cannot be used: a short, fixed reason, and details."""

    reason: str
    detail: str


class _RowsByKey(NamedTuple):
    images: dict[str, ImageInfo]
    conflicts: dict[tuple[str, str], Conflict]  # by source and key; "" for all sources of a key
    others: dict[str, list[ImageInfo]]  # that state a license or URL, in order
    sizes: dict[tuple[str, str], tuple[int, int]]  # by source and key, if not that of the row


class ImageRegistry:
    """The images of all sources, with their duplicates and the evaluation sets joined.

    Args:
        images: Rows of the image tables.
        held_out: Images that evaluation sets name.
        same_photo: Whether images with one Flickr photo id are merged; they are held out together
            in any case.
        held_out_namespaces: By evaluation set, a namespace all of whose images are held out.
        sources_with_images: The sources that have image files.

    Attributes:
        shared_ids: Ids that several images of one dataset state, sorted.

    >>> vg = ImageInfo("vg/7", "vg", "7.jpg", same_as="coco/139")
    >>> coco = ImageInfo("coco/139", "coco", "COCO_train2014_000000000139.jpg")
    >>> registry = ImageRegistry([vg, coco], [EvalImage("refcoco", "coco/139")], same_photo=True)
    >>> registry.canonical("vg/7")
    'coco/139'
    >>> registry.held_out("vg/7")
    [EvalMatch(eval_set='refcoco', eval_image='coco/139', join='coco_id')]
    """

    def __init__(
        self,
        images: Iterable[ImageInfo],
        held_out: Iterable[EvalImage],
        same_photo: bool,
        held_out_namespaces: Mapping[str, str] | None = None,
        sources_with_images: Set[str] = frozenset(),
    ) -> None:
        self._sources_with_images = sources_with_images
        rows, held = list(_with_shared_values(images)), list(held_out)
        self._images, self._conflicts, self._others, self._sizes = self._by_key(
            row for row in rows if not row.joins_only
        )
        self._unique_images: dict[str, ImageInfo] = {}

        joins = _stated_ids(rows, held)
        self._coco_ids = _joined(join for join in joins if join.join == COCO_ID)
        self._all_ids = _joined(joins)
        self._merged, self.shared_ids = _merged(joins, same_photo)

        known = {*(row.key for row in rows), *(h.key for h in held), *self._all_ids.names()}
        for eval_set, namespace in (held_out_namespaces or {}).items():
            held += [EvalImage(eval_set, key) for key in known if namespace_of(key) == namespace]
        # Evaluation set and key of each held-out image, by the root of its set.
        self._held_out: dict[str, set[tuple[str, str]]] = {}
        for h in held:
            self._held_out.setdefault(self._all_ids.root(h.key), set()).add((h.eval_set, h.key))

        self._canonical_keys = self._choose_canonical_keys()

    def with_unique_images(self, rows: Iterable[ImageInfo]) -> "ImageRegistry":
        """Returns a registry with more rows, of images without duplicates and not held out."""
        rows = list(rows)
        if not rows:
            return self
        known = {row.key for row in rows} & self._images.keys()
        registry = copy.copy(self)
        registry._unique_images, conflicts, others, sizes = self._by_key(
            [*rows, *(self._images[key] for key in known)]
        )
        registry._conflicts = self._conflicts | conflicts
        registry._others = self._others | others
        registry._sizes = self._sizes | sizes
        return registry

    def image(self, key: str) -> ImageInfo | None:
        """Returns the row of an image, or None if no table has it."""
        return self._unique_images.get(key) or self._images.get(key)

    def image_in(self, source: str, key: str) -> ImageInfo | None:
        """Returns the row of an image, with the size that a source's boxes are in pixels of."""
        row, size = self.image(key), self._sizes.get((source, key))
        if row is None or size is None:
            return row
        return msgspec.structs.replace(row, width=size[0], height=size[1])

    def stated_rows(self, key: str) -> list[ImageInfo]:
        """Returns the row of an image, if there is one, and others that state license or URL."""
        row = self.image(key)
        return [*([row] if row else []), *self._others.get(key, [])]

    def conflict(self, source: str, key: str) -> Conflict | None:
        """Returns why a source's captions of a key may be of another image; None if they are not.

        Rows of one source that contradict each other are a conflict of all sources; where those of
        two sources do, the image is the one of the first, and the captions of the other are not.
        """
        return self._conflicts.get(("", key)) or self._conflicts.get((source, key))

    def canonical(self, key: str) -> str:
        """Returns the key of the canonical image of an image's duplicates."""
        return self._canonical_keys.get(self._merged.root(key), key)

    def group(self, key: str) -> str:
        """Returns one name for all images that any id joins, which are held out together."""
        return self._all_ids.root(key)

    def has_coco_id_of(self, key: str, other: str) -> bool:
        """Returns whether two images are one by id, or by ``coco_id`` alone."""
        return self._coco_ids.root(key) == self._coco_ids.root(other)

    def held_out(self, key: str) -> list[EvalMatch]:
        """Returns why an image may not be trained on, sorted; empty if it may."""
        matches = self._held_out.get(self._all_ids.root(key), ())
        return sorted(
            EvalMatch(eval_set, eval_image, self._join(key, eval_image))
            for eval_set, eval_image in matches
        )

    def matched_eval_sets(self) -> set[str]:
        """Returns the evaluation sets that name an image of a table, or a duplicate of one."""
        roots = {self._all_ids.root(key) for key in self._images}
        return {name for root in roots for name, _ in self._held_out.get(root, ())}

    def eval_images(self) -> Iterator[tuple[str, str]]:
        """Yields each evaluation set with the key of each image that it names."""
        for matches in self._held_out.values():
            yield from matches

    def _join(self, key: str, eval_image: str) -> str:
        if key == eval_image:
            return ID
        return COCO_ID if self.has_coco_id_of(key, eval_image) else PHOTO_ID

    def _by_key(self, images: Iterable[ImageInfo]) -> "_RowsByKey":
        """Returns one row per key, with what other rows of the key state."""

        def preference(row: ImageInfo) -> tuple[object, ...]:
            """Returns a sort key: rows with a size, with a file, of the key's source first."""
            has_no_file = row.source not in self._sources_with_images
            is_of_other_source = not row.key.startswith(f"{row.source}/")
            return (
                row.key,
                row.width == 0,
                has_no_file,
                is_of_other_source,
                msgspec.structs.astuple(row),
            )

        by_key: dict[str, ImageInfo] = {}
        first_of_source: dict[tuple[str, str], ImageInfo] = {}
        repeated: dict[str, list[ImageInfo]] = {}
        conflicts: dict[tuple[str, str], Conflict] = {}
        others: dict[str, list[ImageInfo]] = {}
        sizes: dict[tuple[str, str], tuple[int, int]] = {}
        for image in sorted(images, key=preference):
            first = by_key.setdefault(image.key, image)
            if first is not image and (image.url or image.license != UNKNOWN_LICENSE):
                others.setdefault(image.key, []).append(image)
            of_source = first_of_source.setdefault((image.source, image.key), image)
            if image.width and _size(image) != _size(first):
                sizes[image.source, image.key] = _size(image)
            if _differ(of_source, image):
                repeated.setdefault(image.key, [of_source]).append(image)
            elif reason := _contradiction(first, image):
                detail = f"{_text(image)}; {_text(first)}"
                conflicts[image.source, image.key] = Conflict(reason, detail)
            if key_of_file(namespace_of(image.key), image.file) not in ("", image.key):
                conflicts["", image.key] = Conflict(
                    "file of another image", f"{image.source}: {image.key} has {image.file[:200]!a}"
                )
        for key, rows in repeated.items():
            names = listed([_text(row).partition(": ")[2] for row in rows])
            conflicts["", key] = Conflict("one id of several images", f"{rows[0].source}: {names}")
        return _RowsByKey(by_key, conflicts, others, sizes)

    def _choose_canonical_keys(self) -> dict[str, str]:
        """Returns the canonical key of each set of duplicates, by the set's root."""
        canonical_keys: dict[str, str] = {}
        for key in self._images:
            if self._merged.is_joined(key):
                root = self._merged.root(key)
                canonical_keys[root] = min(key, canonical_keys.get(root, key), key=_rank)
        return canonical_keys


def _with_shared_values(rows: Iterable[ImageInfo]) -> Iterator[ImageInfo]:
    """Yields rows whose equal sources and licenses are one object: few differ, of many rows."""
    sources: dict[str, str] = {}
    licenses: dict[License, License] = {}
    for row in rows:
        row.source = sources.setdefault(row.source, row.source)
        row.license = licenses.setdefault(row.license, row.license)
        yield row


def _rank(key: str) -> tuple[int, str]:
    return _PREFERENCE.get(namespace_of(key), len(_PREFERENCE)), key


def _text(row: ImageInfo) -> str:
    return f"{row.source}: {row.file[:100]!a} {row.width}x{row.height}"


def _size(row: ImageInfo) -> tuple[int, int]:
    return row.width, row.height


def _differ(row: ImageInfo, other: ImageInfo) -> bool:
    """Returns whether two rows of one key and one source are of different files, or sizes.

    One image has several published names: COCO's of 2014 and of 2017.
    """
    if row.width and other.width and _size(row) != _size(other):
        return True
    names = {key_of_file(namespace_of(row.key), r.file) or r.file for r in (row, other)}
    return len(names) > 1


def _contradiction(row: ImageInfo, other: ImageInfo) -> str:
    """Returns why rows of one key, of any sources, cannot be of one image; empty if they can.

    Sources may have copies of an image at several sizes, in folders of their own.
    """
    if row.width and other.width and not have_same_ratio(row, other):
        return "image of another size"
    if len({_name(r) for r in (row, other) if r.file}) > 1:
        return "another image of this id"
    return ""


def _name(row: ImageInfo) -> str:
    """Returns the name of a row's file, the same for all names that end in its id."""
    name = row.file.rpartition("/")[2]
    stem, _, ending = name.rpartition(".")
    number = stem[len(stem.rstrip(string.digits)) :].lstrip("0")
    is_named_by_id = ending.isalpha() and number == row.key.partition("/")[2]
    return row.key if is_named_by_id else name


def have_same_ratio(image: ImageInfo, other: ImageInfo) -> bool:
    """Returns whether one image may be the other one at another size, and no crop of it."""
    ratio = (image.width * other.height) / (image.height * other.width)
    return abs(ratio - 1) <= _RATIO_TOLERANCE


# --- joins ----------------------------------------------------------------------------------------

_Keys = dict[str, set[str]]  # by an id that they state


class _Join(NamedTuple):
    """Images that are one by one id, which most of them state."""

    join: str
    id: str
    keys: set[str]


def _stated_ids(rows: Iterable[ImageInfo], held_out: Iterable[EvalImage]) -> list[_Join]:
    """Returns every id of another dataset with the images that it joins."""
    of_coco_key: _Keys = defaultdict(set)
    of_photo: _Keys = defaultdict(set)
    for row in rows:
        if row.same_as and (coco_key := normal_key(row.same_as)):
            of_coco_key[coco_key].update((coco_key, row.key))
        photo = row.photo_id or photo_id_of_key(row.key)
        if has_id(photo):
            of_photo[photo].add(row.key)
    for held in held_out:
        photo = held.photo_id or photo_id_of_key(held.key)
        if has_id(photo):
            of_photo[photo].add(held.key)
    return [
        *(_Join(COCO_ID, id_, keys) for id_, keys in of_coco_key.items()),
        *(_Join(PHOTO_ID, id_, keys) for id_, keys in of_photo.items() if len(keys) > 1),
    ]


def _merged(joins: Iterable[_Join], same_photo: bool) -> tuple[DisjointSets, list[SharedId]]:
    """Returns which images are one, and the ids that several images of one dataset state.

    A chain of joins that reaches two images of one dataset is cut: first its joins by photo id
    and, if that is not enough, those by ``coco_id``.
    """
    shared: list[SharedId] = []
    used: list[_Join] = []
    for join in joins:
        if repeated := _of_one_dataset(join.keys):
            shared.append(SharedId(join.join, join.id, repeated))
        elif same_photo or join.join == COCO_ID:
            used.append(join)
    for weakest in (PHOTO_ID, COCO_ID):
        sets = _joined(used)
        members: _Keys = defaultdict(set)
        for key in sets.names():
            members[sets.root(key)].add(key)
        roots = {sets.root(min(join.keys)) for join in used if join.join == weakest}
        too_large = {root for root in roots if _of_one_dataset(members[root])}
        shared += [SharedId(weakest, "", _of_one_dataset(members[root])) for root in too_large]
        used = [j for j in used if j.join != weakest or sets.root(min(j.keys)) not in too_large]
    return _joined(used), sorted(shared)


def _joined(joins: Iterable[_Join]) -> DisjointSets:
    sets = DisjointSets()
    for join in joins:
        first, *others = join.keys
        for key in others:
            sets.join(first, key)
    return sets


def _of_one_dataset(keys: Set[str]) -> list[str]:
    """Returns the keys whose namespace another of the keys has, sorted."""
    if len({*map(namespace_of, keys)}) == len(keys):
        return []
    counts = Counter(map(namespace_of, keys))
    return sorted(key for key in keys if counts[namespace_of(key)] > 1)
