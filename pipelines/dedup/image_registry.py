"""Which images there are, which copies are one image, and which may not be trained on.

Visual Genome was collected from COCO and YFCC, COCO and Flickr30k from Flickr: one photo lies in
several data sets, at several sizes. Two copies are tied by Visual Genome's ``coco_id``, or by the
id of the Flickr photo that both were made from.
"""

import copy
from collections.abc import Iterable, Mapping, Set

import msgspec

from schemas import EvalImage, ImageInfo

# Of several copies the first of these namespaces gives the image its key and its pixels.
_PREFERENCE = {"coco": 0, "vg": 1, "gqa": 2, "flickr30k": 3}


class ImageRegistry:
    """The images of a build, joined. ``held_out_namespaces``: name of a set -> a namespace, all
    of whose images are held out. ``sources_with_images``: those that have image files.

    >>> vg = Image("vg/7", "vg", "7.jpg", same_as="coco/139")
    >>> coco = Image("coco/139", "coco", "COCO_train2014_000000000139.jpg")
    >>> catalogue = Catalogue([vg, coco], [EvalImage("refcoco", "coco/139")], same_photo=True)
    >>> catalogue.canonical("vg/7")
    'coco/139'
    >>> catalogue.held_out("vg/7")
    [('refcoco', 'coco/139', 'coco_id')]
    """

    def __init__(
        self,
        images: Iterable[ImageInfo],
        held_out: Iterable[EvalImage],
        same_photo: bool,
        held_out_namespaces: Mapping[str, str] | None = None,
        sources_with_images: Set[str] = frozenset(),
    ) -> None:
        self._with_images = sources_with_images
        ids, photos = _Union(), _Union()
        images = list(images)
        self._images, self.repeated = self._chosen(images)
        self._alone: dict[str, ImageInfo] = {}
        for image in images:
            if image.same_as:
                ids.join(image.key, image.same_as)
                photos.join(image.key, image.same_as)
            if image.photo_id and same_photo:
                photos.join(image.key, f"photo {image.photo_id}")
        held = sorted(held_out, key=lambda h: (h.eval_set, h.key, h.photo_id))
        for name, namespace in (held_out_namespaces or {}).items():
            known = {*self._images, *ids.names()}
            held += [EvalImage(name, k) for k in sorted(known) if k.startswith(f"{namespace}/")]
        sets: dict[str, set[tuple[str, str]]] = {}
        for h in held:
            if h.photo_id and same_photo:
                photos.join(h.key, f"photo {h.photo_id}")
        for h in held:
            sets.setdefault(photos.root(h.key), set()).add((h.eval_set, h.key))
        self._held_out = sets
        self._ids, self._photos = ids, photos
        self._canonical = self._choose_canonical()

    def beside(self, alone: Iterable[ImageInfo]) -> "ImageRegistry":
        """The same, with rows more, of images of which none is a copy of another or held out."""
        rows = list(alone)
        known = {row.key for row in rows} & self._images.keys()
        other = copy.copy(self)
        other._alone, repeated = self._chosen([*rows, *(self._images[key] for key in known)])
        other.repeated = self.repeated | repeated
        return other

    def _chosen(self, images: Iterable[ImageInfo]) -> tuple[dict[str, ImageInfo], set[str]]:
        """The row of each key, and the keys to which one source gives rows that differ."""
        chosen: dict[str, ImageInfo] = {}
        repeated: set[str] = set()

        def preference(row: ImageInfo) -> tuple[object, ...]:
            """Of several rows of one key that with a size and a file, then its own source's."""
            no_file = row.source not in self._with_images
            own = row.key.startswith(f"{row.source}/")
            return row.key, row.width == 0, no_file, not own, msgspec.structs.astuple(row)

        for image in sorted(images, key=preference):
            kept = chosen.setdefault(image.key, image)
            if kept != image and kept.source == image.source:
                repeated.add(image.key)
        return chosen, repeated

    def _choose_canonical(self) -> dict[str, str]:
        """The best copy of each joined image, by the root of its union."""
        best: dict[str, str] = {}
        for key in self._images:
            if self._photos.is_joined(key):
                root = self._photos.root(key)
                best[root] = min(key, best.get(root, key), key=_rank)
        return best

    def canonical(self, key: str) -> str:
        """The key of the image that this copy is of: itself, or its best copy."""
        return self._canonical.get(self._photos.root(key), key)

    def image(self, key: str) -> ImageInfo | None:
        """The row of this copy in its source's table."""
        return self._alone.get(key) or self._images.get(key)

    def held_out(self, key: str) -> list[tuple[str, str, str]]:
        """Why this copy may not be trained on: (set, the key that the set names, join), sorted."""
        found = self._held_out.get(self._photos.root(key), ())
        return sorted((name, other, self._join(key, other)) for name, other in found)

    def _join(self, key: str, other: str) -> str:
        if key == other:
            return "id"
        return "coco_id" if self._ids.root(key) == self._ids.root(other) else "flickr photo id"


def _rank(key: str) -> tuple[int, str]:
    return _PREFERENCE.get(key.partition("/")[0], len(_PREFERENCE)), key


class _Union:
    """Disjoint sets of names; a name never joined is a set of itself and takes no memory."""

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
