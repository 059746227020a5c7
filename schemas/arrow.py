"""The Arrow schemas of the tables of a shard set."""

import pyarrow as pa

#: One row an image, in the order of the shards. Offsets are of a member's bytes within its tar, so
#: that a reader can map a shard and slice it; the CRC-32 of the bytes tells whether they are still
#: what was written. ``captions`` counts pairs of image and caption.
INDEX = pa.schema(
    [
        ("shard", pa.string()),
        ("key", pa.string()),
        ("image_name", pa.string()),  # of the tar member, empty in an annotation-only set
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
    ]
)

#: What was left out as unusable. ``reason`` is one of few, ``detail`` is free text.
REJECTED = pa.schema(
    [
        ("source", pa.string()),
        ("record", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("image", pa.string()),
        ("records", pa.int64()),
    ]
)

#: What was left out as seen in an evaluation set: see `schemas.Excluded`.
EXCLUDED = pa.schema(
    [
        ("split", pa.string()),
        ("image", pa.string()),
        ("copy", pa.string()),
        ("set", pa.string()),
        ("held_out", pa.string()),
        ("join", pa.string()),
        ("captions", pa.int64()),
        ("left_out", pa.bool_()),
    ]
)
