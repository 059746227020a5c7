"""The Arrow schemas of the Parquet tables of a shard set."""

import pyarrow as pa

#: The index of a shard: one row per image, in the order of its tar. An offset is that of a member's
#: bytes in the tar, so that a reader can map a shard and read single members; the CRC-32 of the
#: bytes detects damage. ``captions`` counts the pairs of image and caption. ``crop_of`` is the key
#: of the image that a crop was made from, in whose shard it is; empty for all other images.
#: ``licenses`` are positions in the list ``licenses`` of the shard's entry in the manifest, ``url``
#: is the image's address on the web; see docs/shard_format.md.
INDEX = pa.schema(
    [
        ("shard", pa.string()),
        ("key", pa.string()),
        ("image_name", pa.string()),  # of the tar member; empty in a set without images
        ("image_offset", pa.int64()),
        ("image_size", pa.int64()),
        ("image_crc32", pa.int64()),
        ("json_offset", pa.int64()),
        ("json_size", pa.int64()),
        ("json_crc32", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("captions", pa.int32()),
        ("regions", pa.int32()),
        ("datasets", pa.list_(pa.string())),
        ("crop_of", pa.string()),
        ("licenses", pa.list_(pa.int32())),
        ("url", pa.string()),
    ]
)

#: ``rejected.parquet``: see `schemas.Rejected`.
REJECTED = pa.schema(
    [
        ("source", pa.string()),
        ("record", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("image", pa.string()),
        ("records", pa.int64()),
        ("boxes", pa.int64()),
    ]
)

#: ``excluded.parquet``: see `schemas.Excluded`.
EXCLUDED = pa.schema(
    [
        ("split", pa.string()),
        ("image", pa.string()),
        ("duplicate_of", pa.string()),
        ("eval_set", pa.string()),
        ("eval_image", pa.string()),
        ("join", pa.string()),
        ("captions", pa.int64()),
        ("excluded", pa.bool_()),
    ]
)
