"""The image registry: which images are duplicates of each other, and which are held out.

Visual Genome was collected from COCO and YFCC, COCO and Flickr30k from Flickr: one photo is in
several datasets, at several sizes. Two images are duplicates by Visual Genome's ``coco_id``, or by
the id of the Flickr photo that both were made from.
"""

import copy
from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

import msgspec

from schemas import EvalImage, ImageInfo

# The canonical image of several duplicates is that of the first of these namespaces.
_PREFERENCE = {"coco": 0, "vg": 1, "gqa": 2, "flickr30k": 3}


class EvalMatch(NamedTuple):
    """An image of an evaluation set that an image is, or is a duplicate of.

    ``join`` is how the two were identified: "id", "coco_id" or "flickr photo id".
    """

    eval_set: str
    eval_image: str
    join: str


class ImageRegistry:
    """The images of all sources, with their duplicates and the evaluation sets joined.

    Args:
        images: Rows of the image tables.
        held_out: Images that evaluation sets name.
        same_photo: Whether images with one Flickr photo id are duplicates.
        held_out_namespaces: By evaluation set, a namespace all of whose images are held out.
        sources_with_images: The sources that have image files.

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
        images = list(images)
        self._images, self.repeated_keys = self._by_key(images)
        self._unique_images: dict[str, ImageInfo] = {}

        self._ids, self._photos = _DisjointSets(), _DisjointSets()
        for image in images:
            if image.same_as:
                self._ids.join(image.key, image.same_as)
                self._photos.join(image.key, image.same_as)
            if image.photo_id and same_photo:
                self._photos.join(image.key, f"photo {image.photo_id}")

        held = sorted(held_out, key=lambda h: (h.eval_set, h.key, h.photo_id))
        for eval_set, namespace in (held_out_namespaces or {}).items():
            keys = {*self._images, *self._ids.names()}
            held += [EvalImage(eval_set, k) for k in sorted(keys) if k.startswith(f"{namespace}/")]
        for h in held:
            if h.photo_id and same_photo:
                self._photos.join(h.key, f"photo {h.photo_id}")
        # Evaluation set and key of each held-out image, by the root of its set.
        self._held_out: dict[str, set[tuple[str, str]]] = {}
        for h in held:
            self._held_out.setdefault(self._photos.root(h.key), set()).add((h.eval_set, h.key))

        self._canonical_keys = self._choose_canonical_keys()

    def with_unique_images(self, rows: Iterable[ImageInfo]) -> "ImageRegistry":
        """Returns a registry with more rows, of images without duplicates and not held out."""
        rows = list(rows)
        known = {row.key for row in rows} & self._images.keys()
        registry = copy.copy(self)
        registry._unique_images, repeated_keys = self._by_key(
            [*rows, *(self._images[key] for key in known)]
        )
        registry.repeated_keys = self.repeated_keys | repeated_keys
        return registry

    def image(self, key: str) -> ImageInfo | None:
        """Returns the row of an image, or None if no table has it."""
        return self._unique_images.get(key) or self._images.get(key)

    def canonical(self, key: str) -> str:
        """Returns the key of the canonical image of an image's duplicates."""
        return self._canonical_keys.get(self._photos.root(key), key)

    def held_out(self, key: str) -> list[EvalMatch]:
        """Returns why an image may not be trained on, sorted; empty if it may."""
        matches = self._held_out.get(self._photos.root(key), ())
        return sorted(
            EvalMatch(eval_set, eval_image, self._join(key, eval_image))
            for eval_set, eval_image in matches
        )

    def _join(self, key: str, eval_image: str) -> str:
        if key == eval_image:
            return "id"
        same_id = self._ids.root(key) == self._ids.root(eval_image)
        return "coco_id" if same_id else "flickr photo id"

    def _by_key(self, images: Iterable[ImageInfo]) -> tuple[dict[str, ImageInfo], set[str]]:
        """Returns one row per key, and the keys for which one source has different rows."""

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
        repeated_keys: set[str] = set()
        for image in sorted(images, key=preference):
            chosen = by_key.setdefault(image.key, image)
            if chosen != image and chosen.source == image.source:
                repeated_keys.add(image.key)
        return by_key, repeated_keys

    def _choose_canonical_keys(self) -> dict[str, str]:
        """Returns the canonical key of each set of duplicates, by the set's root."""
        canonical_keys: dict[str, str] = {}
        for key in self._images:
            if self._photos.is_joined(key):
                root = self._photos.root(key)
                canonical_keys[root] = min(key, canonical_keys.get(root, key), key=_rank)
        return canonical_keys


def _rank(key: str) -> tuple[int, str]:
    return _PREFERENCE.get(key.partition("/")[0], len(_PREFERENCE)), key


class _DisjointSets:
    """Disjoint sets of names (union-find); a name that was never joined takes no memory."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        root = name
        while (parent := self._parent.get(root, root)) != root:
            root = parent
        while (parent := self._parent.get(name, name)) != root:
            self._parent[name] = root
            name = parent
        return root

    def join(self, a: str, b: str) -> None:
        low, high = sorted((self.root(a), self.root(b)))
        self._parent.setdefault(low, low)
        self._parent[high] = low

    def names(self) -> Iterable[str]:
        return self._parent

    def is_joined(self, name: str) -> bool:
        return name in self._parent
