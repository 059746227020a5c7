"""A dataset for Hugging Face ``datasets``: Parquet files that contain the images, and a card."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import Caption
from shards.export.dataset_card import SplitCounts, dataset_card
from shards.export.job import ExportedFile, ExportedSample, ExportJob, ImageOrigins

ROW_GROUP_SIZE = 100  # rows; readers hold a row group in memory

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
_ABSENT = pa.struct(
    [
        ("span", pa.list_(pa.int32())),
        ("dataset", pa.string()),
        ("record", pa.string()),
        ("reason", pa.string()),
        ("strength", pa.string()),
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
        ("absent", pa.list_(_ABSENT)),
    ]
)
#: `datasets` recognizes a struct of exactly these two fields, in this order, as an image.
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def export(job: ExportJob) -> list[ExportedFile]:
    """Writes ``data/SPLIT-*.parquet``, a file per shard and a row per image, and ``README.md``.

    Captions have the fields of the shards' JSON; boxes are xyxy in pixels. ``licenses`` has the
    names of an image's licenses, or their URLs where they have none.

    Raises:
        ShardError: see `ExportJob.samples`.
        OSError: a file cannot be written.
        ValueError: the job asks to unpack the images.
    """
    if job.with_images:
        raise ValueError("the files of this format always contain the images")
    (job.output_folder / "data").mkdir()
    schema = dataset_schema(with_images=job.has_images())
    files = [file for split in job.splits for file in _export_split(job, split, schema)]
    card = dataset_card(job, dict(_split_counts(job, files)))
    (job.output_folder / "README.md").write_text(card, encoding="utf-8")
    return files


def _split_counts(job: ExportJob, files: list[ExportedFile]) -> Iterator[tuple[str, SplitCounts]]:
    """Yields the counts of each split that has files."""
    for split in job.splits:
        of_split = [file for file in files if file.path.name.startswith(f"{split}-")]
        if of_split:
            yield (
                split,
                SplitCounts(
                    files=len(of_split),
                    images=sum(pq.read_metadata(file.path).num_rows for file in of_split),
                    captions=sum(file.captions for file in of_split),
                    boxes=sum(file.boxes for file in of_split),
                ),
            )


def dataset_schema(*, with_images: bool) -> pa.Schema:
    """Returns the Parquet schema, with the features of `datasets` in its metadata."""
    fields = [
        ("key", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("file", pa.string()),
        ("licenses", pa.list_(pa.string())),
        ("url", pa.string()),
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


def _export_split(job: ExportJob, split: str, schema: pa.Schema) -> Iterator[ExportedFile]:
    for shard, samples in itertools.groupby(job.samples(split), lambda exported: exported.shard):
        name = job.shards.shards[shard].file.removesuffix(".tar")
        path = job.output_folder / "data" / f"{name}.parquet"
        captions = boxes = 0
        with pq.ParquetWriter(path, schema, compression="zstd") as parquet:
            origins = ImageOrigins(job.shards, shard)
            while group := list(itertools.islice(samples, ROW_GROUP_SIZE)):
                rows = [_row(exported, schema, origins) for exported in group]
                parquet.write_table(pa.Table.from_pylist(rows, schema))
                captions += sum(len(row["captions"]) for row in rows)
                boxes += sum(len(c["regions"]) for row in rows for c in row["captions"])
        yield ExportedFile(path, captions, boxes)


def _row(exported: ExportedSample, schema: pa.Schema, origins: ImageOrigins) -> dict[str, Any]:
    sample = exported.sample
    row: dict[str, Any] = {
        "key": sample.key,
        "width": sample.width,
        "height": sample.height,
        "file": sample.file,
        "licenses": origins.licenses(exported.row),
        "url": origins.url(exported.row),
        "captions": [_caption(caption) for caption in sample.captions],
    }
    if "image" in schema.names:
        image = exported.read_image()
        row["image"] = {"bytes": bytes(image.content), "path": image.name}
    return row


def _caption(caption: Caption) -> dict[str, Any]:
    return _fields(caption) | {
        "regions": [_fields(region) for region in caption.regions],
        "provenance": [_fields(sentence) for sentence in caption.provenance],
        "phrases": [_fields(phrase) for phrase in caption.phrases],
        "question": None if caption.question is None else _fields(caption.question),
        "absent": [_fields(phrase) for phrase in caption.absent],
    }


def _fields(record: msgspec.Struct) -> dict[str, Any]:
    """Returns the fields of a record, defaults included, by their names in a shard's JSON."""
    names = zip(record.__struct_encode_fields__, record.__struct_fields__, strict=True)
    return {name: getattr(record, field) for name, field in names}
