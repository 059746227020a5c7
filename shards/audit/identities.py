"""Which images of COCO, Visual Genome and Flickr30k are one photo.

COCO's image tables state the Flickr photo of each image, Visual Genome's the COCO id of some images
and the Flickr photo of others; an image of Flickr30k has the id of its photo. `build_identities`
reads those tables once, and writes what they state as one small Parquet file.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.disjoint_sets import DisjointSets
from schemas.image_ids import (
    ImageIdError,
    RawId,
    image_key,
    key_of_file,
    namespace_of,
    optional_image_key,
    photo_id_of_url,
)
from schemas.joins import COCO_ID, ID, PHOTO_ID
from shards.atomic import atomic_write
from shards.audit.files.annotation_file import open_stream
from shards.audit.files.errors import AuditError
from shards.audit.files.json_lists import decoded
from shards.audit.files.json_stream import Elements, split_json
from shards.audit.files.statements import Record

_BATCH_ROWS = 8192

SCHEMA = pa.schema(
    [
        ("image", pa.string()),  # the key: coco/139, vg/2320633
        ("coco_id", pa.int64()),  # of an image of Visual Genome; null if none is stated
        ("photo_id", pa.int64()),  # of Flickr; null if none is stated
    ]
)


class Identity(NamedTuple):
    """What a table states about an image: its key, and keys of the same photo in other datasets."""

    key: str
    links: tuple[str, ...] = ()


def build_identities(tables: Iterable[Path], output: Path) -> dict[str, int]:
    """Writes the identities that image tables state, sorted by key.

    Args:
        tables: ``instances_*.json`` of COCO (or other files in its layout, as LVIS's), and
            ``image_data.json`` of Visual Genome, in any order.

    If tables contradict each other, an image has a row for each statement, and all count.

    Returns:
        The number of images by namespace.

    Raises:
        AuditError: A table has another layout or states no ids of other datasets, or an id in it
            is none.
        OSError: A file cannot be read or written.
    """
    ordered = sorted({row for table in tables for row in _read_table(table)})
    columns = [
        [row.key for row in ordered],
        [_linked(row, "coco") for row in ordered],
        [_linked(row, "flickr30k") for row in ordered],
    ]
    try:
        arrays = [pa.array(c, field.type) for c, field in zip(columns, SCHEMA, strict=True)]
    except (OverflowError, pa.ArrowException) as error:
        raise AuditError(f"an id is too large: {error}") from error
    with atomic_write(output) as file:
        pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), file, compression="zstd")
    counts: dict[str, int] = {}
    for key in {row.key for row in ordered}:
        namespace = namespace_of(key)
        counts[namespace] = counts.get(namespace, 0) + 1
    return counts


def read_identities(path: Path) -> Iterator[Identity]:
    """Yields the rows that `build_identities` wrote.

    Raises:
        AuditError: The file is another one, or damaged.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        try:
            table = pq.ParquetFile(file)
            if not table.schema_arrow.equals(SCHEMA):
                columns = ", ".join(table.schema_arrow.names[:10])
                raise AuditError(f"{path} is no table of identities; its columns are {columns}")
            for batch in table.iter_batches(_BATCH_ROWS, use_threads=False):
                values = (column.to_pylist() for column in batch.columns)
                for key, coco_id, photo in zip(*values, strict=True):
                    links = (coco_id and f"coco/{coco_id}", photo and f"flickr30k/{photo}")
                    yield Identity(key, tuple(filter(None, links)))
        except (pa.ArrowException, OSError) as error:
            raise AuditError(f"{path} is not a Parquet file, or damaged: {error}") from error


class IdentityGraph:
    """The images that are one photo, by the ids that tables and evaluation sets state.

    Every id that is stated anywhere counts, as in the exclusions of a build: an image that is one
    with a held-out image by a chain of ids is held out.

    >>> graph = IdentityGraph()
    >>> graph.add("vg/7", ["coco/139"])
    >>> graph.add("coco/139", ["flickr30k/589"])
    >>> graph.join("vg/7", "coco/139"), graph.join("vg/7", "flickr30k/589")
    ('coco_id', 'flickr photo id')
    """

    def __init__(self) -> None:
        # By join, the images that this join and stronger ones know to be one.
        self._sets = {join: DisjointSets() for join in (ID, COCO_ID, PHOTO_ID)}
        self._all = self._sets[PHOTO_ID]
        self._in_tables: set[str] = set()

    def add(self, key: str, links: Iterable[str]) -> None:
        """Adds what a table or an evaluation set states about an image."""
        self._in_tables.add(key)
        for link in links:
            joins = list(self._sets)
            for join in joins[joins.index(join_of_link(link)) :]:
                self._sets[join].join(key, link)

    def root(self, key: str) -> str:
        """Returns one name for all images that any id joins."""
        return self._all.root(key)

    def is_in_a_table(self, key: str) -> bool:
        """Returns whether it is known what the tables state about an image."""
        return key in self._in_tables or namespace_of(key) == "flickr30k"

    def join(self, key: str, other: str) -> str:
        """Returns how two images are known to be one, whose roots are equal."""
        return next(join for join, sets in self._sets.items() if sets.root(key) == sets.root(other))

    def namespaces(self) -> dict[str, frozenset[str]]:
        """Returns, by root, the namespaces in which the ids of an image are known."""
        by_root: dict[str, frozenset[str]] = {}
        shared: dict[frozenset[str], frozenset[str]] = {}  # there are few different ones
        for key in self._all.names():
            root, namespace = self._all.root(key), namespace_of(key)
            names = by_root.get(root, frozenset())
            if namespace not in names:
                names |= {namespace}
                by_root[root] = shared.setdefault(names, names)
        return by_root


def join_of_link(link: str) -> str:
    """Returns the join by which an image is one with the key that is stated as the same photo.

    >>> join_of_link("coco/139"), join_of_link("flickr30k/589"), join_of_link("vg/7")
    ('coco_id', 'flickr photo id', 'id')
    """
    return {"coco": COCO_ID, "flickr30k": PHOTO_ID}.get(namespace_of(link), ID)


def _linked(row: Identity, namespace: str) -> int | None:
    ids = [link.partition("/")[2] for link in row.links if namespace_of(link) == namespace]
    return int(ids[0]) if ids else None


def _read_table(path: Path) -> Iterator[Identity]:
    """Yields the rows of a file in COCO's layout, or of Visual Genome's image_data.json.

    Raises:
        AuditError: It is another file, such as one whose rows have none of the fields that state
            ids of other datasets: its images would pass for ones without such ids.
    """
    number = stating = 0
    missing = ""
    with open_stream(path) as file:
        for chunk in split_json(file, str(path)):
            if isinstance(chunk, Elements) and chunk.name in ("", "images"):
                for record in decoded(path, chunk):
                    if record is None:
                        raise AuditError(f"{path}: element {number} cannot be read")
                    if chunk.name == "":
                        stating += record.coco_id is not None or record.flickr_id is not None
                        missing = "coco_id or flickr_id"
                    else:
                        stating += record.flickr_url is not None
                        missing = "flickr_url"
                    try:
                        yield _of_vg(record) if chunk.name == "" else _of_coco(record, path)
                    except ImageIdError as error:
                        raise AuditError(f"{path}: element {number}: {error}") from error
                    number += 1
    if not number:
        raise AuditError(
            f'{path} is neither in COCO\'s layout (a list "images") nor a list as image_data.json'
        )
    if not stating:
        raise AuditError(
            f"{path} is no image table that identifies photos: no image has a {missing}"
        )


def _of_coco(record: Record, path: Path) -> Identity:
    key = image_key("coco", record.id)
    if key_of_file("coco", record.file_name or "") not in ("", key):
        raise AuditError(f"{path}: image {record.id} is the file {(record.file_name or '')[:80]!a}")
    photo = photo_id_of_url(record.flickr_url or "")
    return Identity(key, (f"flickr30k/{photo}",) if photo else ())


def _of_vg(record: Record) -> Identity:
    id_: RawId = record.image_id if record.image_id is not None else record.id
    key = image_key("vg", id_)
    linked = (("coco", record.coco_id), ("flickr30k", record.flickr_id))
    return Identity(key, tuple(filter(None, (optional_image_key(*link) for link in linked))))
