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
    photo_id,
    photo_id_of_url,
)
from shards.atomic import atomic_write
from shards.audit.files.annotation_file import open_stream
from shards.audit.files.errors import AuditError
from shards.audit.files.json_lists import decoded
from shards.audit.files.json_stream import Elements, split_json
from shards.audit.files.statements import Record

#: The joins by which an image is found in an evaluation set, as in ``excluded.parquet``.
ID, COCO_ID, PHOTO_ID, HASH = "id", "coco_id", "flickr photo id", "perceptual hash"

_BATCH_ROWS = 8192

SCHEMA = pa.schema(
    [
        ("image", pa.string()),  # the key: coco/139, vg/2320633
        ("coco_id", pa.int64()),  # of an image of Visual Genome; null if none is stated
        ("photo_id", pa.int64()),  # of Flickr; null if none is stated
    ]
)


class Identity(NamedTuple):
    """What a table states about an image: its key, its key in COCO, its photo, maybe empty."""

    key: str
    coco_key: str
    photo: str


def build_identities(tables: Iterable[Path], output: Path) -> dict[str, int]:
    """Writes the identities that image tables state, sorted by key.

    Args:
        tables: ``instances_*.json`` of COCO (or other files in its layout, as LVIS's), and
            ``image_data.json`` of Visual Genome, in any order.

    Returns:
        The number of images by namespace.

    Raises:
        AuditError: A table has another layout, or an id in it is none.
        OSError: A file cannot be read or written.
    """
    rows: dict[str, Identity] = {}
    for table in tables:
        for row in _read_table(table):
            earlier = rows.get(row.key)
            rows[row.key] = row if earlier is None else _merged(earlier, row)
    ordered = [rows[key] for key in sorted(rows)]
    columns = [
        [row.key for row in ordered],
        [_number(row.coco_key.partition("/")[2]) for row in ordered],
        [_number(row.photo) for row in ordered],
    ]
    try:
        arrays = [pa.array(c, field.type) for c, field in zip(columns, SCHEMA, strict=True)]
    except (OverflowError, pa.ArrowException) as error:
        raise AuditError(f"an id is too large: {error}") from error
    with atomic_write(output) as file:
        pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), file, compression="zstd")
    counts: dict[str, int] = {}
    for row in ordered:
        namespace = namespace_of(row.key)
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
                    yield Identity(key, f"coco/{coco_id}" if coco_id else "", str(photo or ""))
        except (pa.ArrowException, OSError) as error:
            raise AuditError(f"{path} is not a Parquet file, or damaged: {error}") from error


class IdentityGraph:
    """The images that are one photo, by the ids that tables and evaluation sets state.

    Every id that is stated anywhere counts, as in the exclusions of a build: an image that is one
    with a held-out image by a chain of ids is held out.

    >>> graph = IdentityGraph([Identity("vg/7", "coco/139", ""), Identity("coco/139", "", "589")])
    >>> graph.join("vg/7", "coco/139"), graph.join("vg/7", "flickr30k/589")
    ('coco_id', 'flickr photo id')
    """

    def __init__(self, identities: Iterable[Identity]) -> None:
        self._all = DisjointSets()
        self._by_coco_id = DisjointSets()
        self._in_tables: set[str] = set()
        for row in identities:
            self.add(row)

    def add(self, row: Identity) -> None:
        """Adds what a table states about an image."""
        self._in_tables.add(row.key)
        if row.coco_key:
            self._all.join(row.key, row.coco_key)
            self._by_coco_id.join(row.key, row.coco_key)
        if row.photo:
            self._all.join(row.key, f"flickr30k/{row.photo}")

    def root(self, key: str) -> str:
        """Returns one name for all images that any id joins."""
        return self._all.root(key)

    def is_in_a_table(self, key: str) -> bool:
        """Returns whether it is known what the tables state about an image."""
        return key in self._in_tables or namespace_of(key) == "flickr30k"

    def join(self, key: str, other: str) -> str:
        """Returns how two images are known to be one, whose roots are equal."""
        if key == other:
            return ID
        is_by_coco_id = self._by_coco_id.root(key) == self._by_coco_id.root(other)
        return COCO_ID if is_by_coco_id else PHOTO_ID

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


def _merged(earlier: Identity, row: Identity) -> Identity:
    return Identity(row.key, row.coco_key or earlier.coco_key, row.photo or earlier.photo)


def _number(id_: str) -> int | None:
    return int(id_) if id_ else None


def _read_table(path: Path) -> Iterator[Identity]:
    """Yields the rows of a file in COCO's layout, or of Visual Genome's image_data.json."""
    number = 0
    with open_stream(path) as file:
        for chunk in split_json(file, str(path)):
            if isinstance(chunk, Elements) and chunk.name in ("", "images"):
                for record in decoded(path, chunk):
                    if record is None:
                        raise AuditError(f"{path}: element {number} cannot be read")
                    try:
                        yield _of_vg(record) if chunk.name == "" else _of_coco(record, path)
                    except ImageIdError as error:
                        raise AuditError(f"{path}: element {number}: {error}") from error
                    number += 1
    if not number:
        raise AuditError(
            f'{path} is neither in COCO\'s layout (a list "images") nor a list as image_data.json'
        )


def _of_coco(record: Record, path: Path) -> Identity:
    key = image_key("coco", record.id)
    if key_of_file("coco", record.file_name or "") not in ("", key):
        raise AuditError(f"{path}: image {record.id} is the file {(record.file_name or '')[:80]!a}")
    return Identity(key, "", photo_id_of_url(record.flickr_url or ""))


def _of_vg(record: Record) -> Identity:
    id_: RawId = record.image_id if record.image_id is not None else record.id
    key = image_key("vg", id_)
    return Identity(key, optional_image_key("coco", record.coco_id), photo_id(record.flickr_id))
