"""Measures what licenses and web addresses of images cost, for image tables of the real sizes.

    PYTHONPATH=. .venv/bin/python benchmarks/image_tables.py

The tables have the rows of COCO 2014, Visual Genome, GQA's scene graphs and Flickr30k in their
published form, with random ids. It prints the bytes of the image tables that every worker gets, the
memory of the image registry that it makes of them, and the bytes of the columns of the index, each
with and without licenses and addresses.
"""

import io
import random
import tracemalloc
from collections.abc import Iterator

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.beam.serialization import pack, unpack
from pipelines.dedup.image_registry import ImageRegistry
from schemas import UNKNOWN_LICENSE, ImageInfo, License, arrow

COCO, VG, GQA, FLICKR30K = 123_287, 108_077, 66_000, 31_783
COCO_IN_VG = 51_208
ROWS_PER_SLICE, SHARDS = 1_700, 128
LICENSES = [
    License(f"Attribution-{name} License", f"http://creativecommons.org/licenses/{code}/2.0/")
    for name, code in (("NonCommercial", "by-nc"), ("ShareAlike", "by-sa"), ("NoDerivs", "by-nd"))
]


def tables(rng: random.Random) -> Iterator[list[ImageInfo]]:
    """Yields the table of each dataset."""
    ids, photos = rng.sample(range(1, 581_930), COCO), [_photo(rng) for _ in range(COCO)]
    yield [
        ImageInfo(
            key=f"coco/{id_}",
            source="coco",
            file=f"COCO_train2014_{id_:012d}.jpg",
            width=640,
            height=480,
            photo_id=photo,
            license=rng.choice(LICENSES),
            url=f"http://farm{rng.randrange(1, 10)}.staticflickr.com/{rng.randrange(1, 9000)}/"
            f"{photo}_{rng.getrandbits(40):010x}_z.jpg",
        )
        for id_, photo in zip(ids, photos, strict=True)
    ]
    vg = rng.sample(range(1, 2_417_998), VG)
    folders = "VG_100K", "VG_100K_2"
    yield [
        ImageInfo(
            key=f"vg/{id_}",
            source="vg",
            file=f"{id_}.jpg",
            width=640,
            height=480,
            photo_id=photos[i] if i < COCO_IN_VG else _photo(rng),
            same_as=f"coco/{ids[i]}" if i < COCO_IN_VG else "",
            url=f"https://cs.stanford.edu/people/rak248/{rng.choice(folders)}/{id_}.jpg",
        )
        for i, id_ in enumerate(vg)
    ]
    yield [ImageInfo(f"vg/{id_}", "gqa", f"{id_}.jpg", 640, 480) for id_ in vg[:GQA]]
    yield [
        ImageInfo(f"flickr30k/{photo}", "flickr30k", f"{photo}.jpg", photo_id=photo)
        for photo in (_photo(rng) for _ in range(FLICKR30K))
    ]


def _photo(rng: random.Random) -> str:
    return str(rng.randrange(10**8, 10**10))


def _slices(rows: list[ImageInfo], size: int) -> list[list[ImageInfo]]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def main() -> None:
    """Prints the measurements."""
    with_licenses = list(tables(random.Random(0)))
    without = [
        [msgspec.structs.replace(row, license=UNKNOWN_LICENSE, url="") for row in table]
        for table in with_licenses
    ]
    for name, all_tables in (("without", without), ("with", with_licenses)):
        packed = [pack(rows) for table in all_tables for rows in _slices(table, ROWS_PER_SLICE)]
        tracemalloc.start()
        registry = ImageRegistry(
            (row for content in packed for row in unpack(content, list[ImageInfo])), [], True
        )
        memory, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del registry
        count, size = sum(map(len, all_tables)), sum(map(len, packed))
        print(f"{name}: {count:,} rows, {size / 1e6:.1f} MB packed, {memory / 1e6:.0f} MB joined")
    for table in with_licenses[:2]:
        names = ["licenses", "url"]
        sizes = {name: _column_bytes(table, name) / len(table) for name in names}
        text = ", ".join(f"{name} {size:.1f} bytes an image" for name, size in sizes.items())
        print(f"indexes of {table[0].source}: {text}")


def _column_bytes(table: list[ImageInfo], name: str) -> int:
    """Returns the bytes of a Parquet file with one column of the index."""
    schema, buffer = pa.schema([arrow.INDEX.field(name)]), io.BytesIO()
    with pq.ParquetWriter(buffer, schema, compression="zstd", write_page_checksum=True) as writer:
        for rows in _slices(table, len(table) // SHARDS + 1):
            values = {
                "url": [row.url for row in rows],
                "licenses": [
                    [1 + LICENSES.index(row.license) if row.license.name else 0] for row in rows
                ],
            }
            writer.write_table(pa.table({name: values[name]}, schema=schema))
    return buffer.getbuffer().nbytes


if __name__ == "__main__":
    main()
