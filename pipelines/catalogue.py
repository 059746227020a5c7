"""Which pictures there are, which copies are one picture, and which may not be trained on.

Visual Genome was collected from COCO and YFCC, COCO and Flickr30k from Flickr: one photo lies in
several data sets, at several sizes. Two copies are tied by Visual Genome's ``coco_id``, or by the
id of the Flickr photo that both were made from.
"""

import copy
from collections.abc import Iterable, Mapping, Set

import msgspec

from schemas import HeldOut, Picture

# Of several copies the first of these namespaces gives the picture its key and its pixels.
_PREFERENCE = {"coco": 0, "vg": 1, "gqa": 2, "flickr30k": 3}


class Catalogue:
    """The pictures of a build, joined. ``held_out_namespaces``: name of a set -> a namespace, all
    of whose pictures are held out. ``sources_with_pictures``: those that have picture files.

    >>> vg = Picture("vg/7", "vg", "7.jpg", same_as="coco/139")
    >>> coco = Picture("coco/139", "coco", "COCO_train2014_000000000139.jpg")
    >>> catalogue = Catalogue([vg, coco], [HeldOut("refcoco", "coco/139")], same_photo=True)
    >>> catalogue.canonical("vg/7")
    'coco/139'
    >>> catalogue.held_out("vg/7")
    [('refcoco', 'coco/139', 'coco_id')]
    """

    def __init__(
        self,
        pictures: Iterable[Picture],
        held_out: Iterable[HeldOut],
        same_photo: bool,
        held_out_namespaces: Mapping[str, str] | None = None,
        sources_with_pictures: Set[str] = frozenset(),
    ) -> None:
        self._with_pictures = sources_with_pictures
        ids, photos = _Union(), _Union()
        pictures = list(pictures)
        self._pictures, self.repeated = self._chosen(pictures)
        self._alone: dict[str, Picture] = {}
        for picture in pictures:
            if picture.same_as:
                ids.join(picture.key, picture.same_as)
                photos.join(picture.key, picture.same_as)
            if picture.photo and same_photo:
                photos.join(picture.key, f"photo {picture.photo}")
        held = sorted(held_out, key=lambda h: (h.set, h.key, h.photo))
        for name, namespace in (held_out_namespaces or {}).items():
            known = {*self._pictures, *ids.names()}
            held += [HeldOut(name, k) for k in sorted(known) if k.startswith(f"{namespace}/")]
        sets: dict[str, set[tuple[str, str]]] = {}
        for h in held:
            if h.photo and same_photo:
                photos.join(h.key, f"photo {h.photo}")
        for h in held:
            sets.setdefault(photos.root(h.key), set()).add((h.set, h.key))
        self._held_out = sets
        self._ids, self._photos = ids, photos
        self._canonical = self._choose_canonical()

    def beside(self, alone: Iterable[Picture]) -> "Catalogue":
        """The same, with rows more, of pictures of which none is a copy of another or held out."""
        rows = list(alone)
        known = {row.key for row in rows} & self._pictures.keys()
        other = copy.copy(self)
        other._alone, repeated = self._chosen([*rows, *(self._pictures[key] for key in known)])
        other.repeated = self.repeated | repeated
        return other

    def _chosen(self, pictures: Iterable[Picture]) -> tuple[dict[str, Picture], set[str]]:
        """The row of each key, and the keys to which one source gives rows that differ."""
        chosen: dict[str, Picture] = {}
        repeated: set[str] = set()

        def preference(row: Picture) -> tuple[object, ...]:
            """Of several rows of one key that with a size and a file, then its own source's."""
            no_file = row.source not in self._with_pictures
            own = row.key.startswith(f"{row.source}/")
            return row.key, row.width == 0, no_file, not own, msgspec.structs.astuple(row)

        for picture in sorted(pictures, key=preference):
            kept = chosen.setdefault(picture.key, picture)
            if kept != picture and kept.source == picture.source:
                repeated.add(picture.key)
        return chosen, repeated

    def _choose_canonical(self) -> dict[str, str]:
        """The best copy of each joined picture, by the root of its union."""
        best: dict[str, str] = {}
        for key in self._pictures:
            if self._photos.is_joined(key):
                root = self._photos.root(key)
                best[root] = min(key, best.get(root, key), key=_rank)
        return best

    def canonical(self, key: str) -> str:
        """The key of the picture that this copy is of: itself, or its best copy."""
        return self._canonical.get(self._photos.root(key), key)

    def picture(self, key: str) -> Picture | None:
        """The row of this copy in its source's table."""
        return self._alone.get(key) or self._pictures.get(key)

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
