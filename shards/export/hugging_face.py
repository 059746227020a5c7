"""A data set as the ``datasets`` library loads it: Parquet with the images in it, and a card."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import Caption, Sample
from shards.export.request import Exported, Request, Written

ROWS = 100  # in a row group, which readers hold as a whole

_SPANS = pa.list_(pa.list_(pa.int32()))
_BOX = pa.list_(pa.float32())
_REGION = pa.struct(
    [
        ("tokens_positive", _SPANS),
        ("box", _BOX),
        ("area", pa.float64()),
        ("category", pa.int32()),
        ("crowd", pa.bool_()),
    ]
)
_PROVENANCE = pa.struct(
    [("dataset", pa.string()), ("record", pa.string()), ("span", pa.list_(pa.int32()))]
)
_PHRASE = pa.struct(
    [
        ("tokens_positive", _SPANS),
        ("entity", pa.string()),
        ("types", pa.list_(pa.string())),
        ("boxes", pa.list_(_BOX)),
    ]
)
_QUESTION = pa.struct(
    [
        ("id", pa.string()),
        ("answer", pa.string()),
        ("semantic_type", pa.string()),
        ("structural_type", pa.string()),
        ("balanced", pa.bool_()),
    ]
)
_CAPTION = pa.struct(
    [
        ("text", pa.string()),
        ("regions", pa.list_(_REGION)),
        ("tokens_negative", _SPANS),
        ("provenance", pa.list_(_PROVENANCE)),
        ("phrases", pa.list_(_PHRASE)),
        ("question", _QUESTION),
    ]
)
#: `datasets` takes a struct of exactly these two fields, in this order, for an image.
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def export(of: Request) -> list[Written]:
    """Writes ``data/SPLIT-*.parquet``, a file a shard and a row an image, and ``README.md``.

    Captions are what they are in the shards, with the same names; boxes x0, y0, x1, y1 in pixels.

    Raises:
        ShardError: see `Request.samples`.
        OSError: a file cannot be written.
        ValueError: it was asked to unpack the images.
    """
    if of.unpack:
        raise ValueError("the files of this format have the images in them")
    (of.out / "data").mkdir()
    schema = schema_of(with_images=_has_images(of))
    found = [written for split in of.splits for written in _export_split(of, split, schema)]
    (of.out / "README.md").write_text(_card(of, found), encoding="utf-8")
    return found


def schema_of(*, with_images: bool) -> pa.Schema:
    """The columns, and what they are to `datasets`."""
    fields = [
        ("key", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("file", pa.string()),
        ("captions", pa.list_(_CAPTION)),
    ]
    schema = pa.schema([("image", _IMAGE), *fields] if with_images else fields)
    features = {field.name: _feature(field.type) for field in schema}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _feature(type_: pa.DataType) -> Any:
    if type_ == _IMAGE:
        return {"_type": "Image"}
    if pa.types.is_struct(type_):
        return {field.name: _feature(field.type) for field in type_}
    if pa.types.is_list(type_):
        return [_feature(type_.value_type)]
    names = {pa.float32(): "float32", pa.float64(): "float64", pa.bool_(): "bool"}
    return {"dtype": names.get(type_, str(type_)), "_type": "Value"}


def _has_images(of: Request) -> bool:
    shards = (shard for split in of.splits for shard in of.shards.shards_of(split))
    rows = (of.shards.rows(shard, ["image_name"]) for shard in shards)
    return any(of_shard["image_name"][0].as_py() for of_shard in rows)


def _export_split(of: Request, split: str, schema: pa.Schema) -> Iterator[Written]:
    for shard, samples in itertools.groupby(of.samples(split), lambda exported: exported.shard):
        name = of.shards.shards[shard].file.removesuffix(".tar")
        path = of.out / "data" / f"{name}.parquet"
        captions = boxes = 0
        with pq.ParquetWriter(path, schema, compression="zstd") as parquet:
            for group in _in_groups(samples):
                rows = [_row(exported, schema) for exported in group]
                parquet.write_table(pa.Table.from_pylist(rows, schema))
                captions += sum(len(row["captions"]) for row in rows)
                boxes += sum(len(c["regions"]) for row in rows for c in row["captions"])
        yield Written(path, captions, boxes)


def _in_groups(samples: Iterator[Exported]) -> Iterator[list[Exported]]:
    while group := list(itertools.islice(samples, ROWS)):
        yield group


def _row(of: Exported, schema: pa.Schema) -> dict[str, Any]:
    sample: Sample = of.sample
    row: dict[str, Any] = {
        "key": sample.key,
        "width": sample.width,
        "height": sample.height,
        "file": sample.file,
        "captions": [_caption(caption) for caption in sample.captions],
    }
    if "image" in schema.names:
        image = of.image()
        row["image"] = {"bytes": bytes(image.content), "path": image.name}
    return row


def _caption(caption: Caption) -> dict[str, Any]:
    return _fields(caption) | {
        "regions": [_fields(region) for region in caption.regions],
        "provenance": [_fields(provenance) for provenance in caption.provenance],
        "phrases": [_fields(phrase) for phrase in caption.phrases],
        "question": None if caption.question is None else _fields(caption.question),
    }


def _fields(record: msgspec.Struct) -> dict[str, Any]:
    """Returns the fields of a record, defaults included, by their names in a shard's JSON."""
    names = zip(record.__struct_encode_fields__, record.__struct_fields__, strict=True)
    return {name: getattr(record, field) for name, field in names}


def _card(of: Request, files: list[Written]) -> str:
    """The card: front matter that `datasets` reads, and what a person wants to know."""
    manifest = of.shards.manifest
    written_splits = [
        split for split in of.splits if any(f.path.name.startswith(f"{split}-") for f in files)
    ]
    data_files = [
        f"  - {{split: {json.dumps(split)}, path: data/{split}-*.parquet}}"
        for split in written_splits
    ]
    counts = [f"| {f.path.name} | {f.captions:,} | {f.boxes:,} |" for f in files]
    lines = [
        "---",
        f"pretty_name: {json.dumps(manifest.name)}",
        "task_categories: [object-detection, zero-shot-object-detection]",
        "configs:",
        "- config_name: default",
        "  data_files:",
        *data_files,
        "---",
        "",
        f"# {manifest.name}",
        "",
        "Images with captions, boxes, and the characters of a caption that name a box. A row is",
        "an image: `captions[].regions[]` has `box` (x0, y0, x1, y1 in pixels) and",
        "`tokens_positive` (half-open character offsets into `captions[].text`);",
        "`captions[].provenance[]` names the records of the published data sets that a caption is",
        "made of. Images and annotations are under the licenses of these.",
        "",
        f"Recipe {manifest.recipe_sha256}, code {manifest.code_version}.",
        "",
        "| file | captions | boxes |",
        "|---|---|---|",
        *counts,
    ]
    return "\n".join(lines) + "\n"
