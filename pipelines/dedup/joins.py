"""How images of different datasets are recognized as one, and where a recipe cannot recognize them.

COCO, Visual Genome and Flickr30k share photos. Visual Genome's image table states the COCO id of
some of its images and the Flickr photo of others, COCO's and OpenImages' state the Flickr photo,
and Flickr30k's images have the ids of their photos. So an image that an evaluation set names is
found in a source only if the tables that link them are read. Objects365 and V3Det state nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import NamedTuple

from schemas.joins import COCO_ID, ID, PHOTO_ID

#: The namespaces of image keys, each with the ids of other datasets that a table states (`COCO_ID`,
#: `PHOTO_ID`). None: none of the images is in another dataset under another id.
TableIds = Mapping[str, Set[str] | None]

# Files that state an id of the images of a namespace, for messages.
_TABLES = {
    ("vg", COCO_ID): "vg (image_data.json)",
    ("vg", PHOTO_ID): "vg (image_data.json)",
    ("coco", PHOTO_ID): "coco (instances_train2014.json, instances_val2014.json)",
}


class MissingTable(NamedTuple):
    """An id of a namespace that no table of a recipe states, but other files do."""

    namespace: str
    id: str

    @property
    def remedy(self) -> str:
        """The key of ``[image_tables]`` that would state it."""
        return _TABLES.get(self, self.namespace)


# The tables that link all images that two datasets share. An image of Visual Genome may state only
# a COCO id, and be one of Flickr30k by the photo of that image: those two need COCO's table, too.
_COCO_AND_VG = {
    MissingTable("vg", COCO_ID),
    MissingTable("vg", PHOTO_ID),
    MissingTable("coco", PHOTO_ID),
}
_LINKS = {
    frozenset({"coco", "vg"}): _COCO_AND_VG,
    frozenset({"coco", "flickr30k"}): {MissingTable("coco", PHOTO_ID)},
    frozenset({"vg", "flickr30k"}): _COCO_AND_VG,
    frozenset({"openimages", "coco"}): {MissingTable("coco", PHOTO_ID)},
    frozenset({"openimages", "vg"}): _COCO_AND_VG,
}


class Joins:
    """The joins between datasets that the tables of a recipe make possible.

    >>> joins = Joins([{"vg": {COCO_ID, PHOTO_ID}}, {"coco": set()}])
    >>> joins.possible({"coco": set()}, {"vg": set()})
    ['coco_id']
    >>> joins.missing({"coco": set()}, {"vg": set()})
    {MissingTable(namespace='coco', id='flickr photo id')}
    """

    def __init__(self, tables: Iterable[TableIds]) -> None:
        self._stated: dict[str, set[str]] = defaultdict(set, flickr30k={PHOTO_ID})
        for table in tables:
            for namespace, ids in table.items():
                self._stated[namespace] |= ids or set()

    def possible(self, eval_set: TableIds, source: TableIds) -> list[str]:
        """Returns the joins by which images of an evaluation set are found in a source."""
        joins: set[str] = set()
        for a, b, may_share in _pairs(eval_set, source):
            if a == b:
                joins.add(ID)
            elif may_share:
                joins |= self._links(a, b)
        return [join for join in (ID, COCO_ID, PHOTO_ID) if join in joins]

    def missing(self, eval_set: TableIds, source: TableIds) -> set[MissingTable]:
        """Returns what is not stated, but would find more images of a set in a source."""
        missing: set[MissingTable] = set()
        for a, b, may_share in _pairs(eval_set, source):
            if may_share:
                missing |= _LINKS.get(frozenset({a, b}), set())
        return {table for table in missing if table.id not in self._stated[table.namespace]}

    def _links(self, a: str, b: str) -> set[str]:
        """Returns the joins of images of two namespaces, directly or through a third."""
        links = set()
        if self._has_photos(a, third=b) and self._has_photos(b, third=a):
            links.add(PHOTO_ID)
        if "coco" in (a, b) and COCO_ID in self._stated[b if a == "coco" else a]:
            links.add(COCO_ID)
        return links

    def _has_photos(self, namespace: str, third: str) -> bool:
        """Returns whether photos of a namespace are stated, by tables other than ``third``'s.

        An image of COCO may be known by the photo of its duplicate in Visual Genome, and one of
        Visual Genome by that of its duplicate in COCO.
        """
        other = {"coco": "vg", "vg": "coco"}.get(namespace, third)
        by_other = other != third and COCO_ID in self._stated["vg"]
        return PHOTO_ID in self._stated[namespace] | (self._stated[other] if by_other else set())


def _pairs(eval_set: TableIds, source: TableIds) -> Iterator[tuple[str, str, bool]]:
    """Yields each pair of namespaces, and whether their images may be in both datasets."""
    for a, of_a in eval_set.items():
        for b, of_b in source.items():
            yield a, b, of_a is not None and of_b is not None
