"""Croissant 1.1: metadata of the original tars, and of a Parquet file with a row per caption.

Layout: docs.mlcommons.org/croissant. ``croissant.json`` is made by mlcroissant, the library that
reads it. Images are read from the tars. Captions are not: mlcroissant does not read the nested
lists of their JSON, but those of Parquet, and Parquet from one file.
"""

import datetime
import hashlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mlcroissant as mlc
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.licenses import is_web_address
from shards.export.job import ExportedFile, ExportedSample, ExportJob, ImageOrigins, link_tar
from shards.format.licenses import UNKNOWN, UNKNOWN_ID
from shards.format.manifest import Manifest, Terms

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
NAME, CAPTIONS = "croissant.json", "captions.parquet"
ROWS_PER_GROUP = 5_000  # captions

_SPANS = pa.list_(pa.list_(pa.int32()))
_TEXT, _INTEGER, _FLOAT = mlc.DataType.TEXT, mlc.DataType.INTEGER, mlc.DataType.FLOAT
_BOOLEAN, _URL = mlc.DataType.BOOL, mlc.DataType.URL


class _Column(NamedTuple):
    """A column of the captions: Arrow type, Croissant type, shape of an array, and meaning."""

    type: pa.DataType
    data_type: Any
    shape: str
    description: str


_COLUMNS = {
    "split": _Column(pa.string(), _TEXT, "", "the split"),
    "image": _Column(pa.string(), _TEXT, "", "key of the image"),
    "width": _Column(pa.int32(), _INTEGER, "", "of the image in pixels"),
    "height": _Column(pa.int32(), _INTEGER, "", "of the image in pixels"),
    "licenses": _Column(
        pa.list_(pa.string()), _TEXT, "-1", 'licenses of the image; "unknown" if none is stated'
    ),
    "url": _Column(pa.string(), _URL, "", "address of the image on the web; empty if not stated"),
    "index": _Column(pa.int32(), _INTEGER, "", "number of the caption among those of its image"),
    "text": _Column(pa.string(), _TEXT, "", "the caption"),
    "boxes": _Column(
        pa.list_(pa.list_(pa.float32())),
        _FLOAT,
        "-1,4",
        "x0, y0, x1, y1 in pixels of the boxes that the caption names",
    ),
    "tokens_positive": _Column(
        pa.list_(_SPANS),
        _INTEGER,
        "-1,-1,2",
        "of each box, the spans of the text that name it: half-open offsets of characters",
    ),
    "areas": _Column(pa.list_(pa.float64()), _FLOAT, "-1", "of each box, in pixels; NaN: unknown"),
    "categories": _Column(pa.list_(pa.int32()), _INTEGER, "-1", "class of each box; 1: none"),
    "crowds": _Column(pa.list_(pa.bool_()), _BOOLEAN, "-1", "whether a box is of a group"),
    "tokens_negative": _Column(
        _SPANS, _INTEGER, "-1,2", "spans that match no box but those of regions that name them"
    ),
    "datasets": _Column(pa.list_(pa.string()), _TEXT, "-1", "dataset of each sentence"),
    "records": _Column(pa.list_(pa.string()), _TEXT, "-1", "raw record of each sentence"),
    "sentence_spans": _Column(_SPANS, _INTEGER, "-1,2", "the text of each sentence"),
    "absent_spans": _Column(_SPANS, _INTEGER, "-1,2", "the phrases that name nothing in the image"),
    "absent_strengths": _Column(
        pa.list_(pa.string()), _TEXT, "-1", "of each: proven by annotators, or unproven"
    ),
    "question_id": _Column(pa.string(), _TEXT, "", "of a question; else empty"),
    "answer": _Column(pa.string(), _TEXT, "", "of a question, if it is known; else empty"),
}
_SCHEMA = pa.schema([(name, column.type) for name, column in _COLUMNS.items()])


def export(job: ExportJob) -> list[ExportedFile]:
    """Writes ``croissant.json``, ``captions.parquet``, and links to the tars.

    The tars of a remote set, or of one whose public address is stated, are not linked:
    ``croissant.json`` has their addresses.

    Raises:
        ShardError: see `ExportJob.samples`, or a tar is missing.
        OSError: a file cannot be written.
        ValueError: the job asks to unpack or leave out images, mlcroissant refuses a statement, or
            the tars are remote and have no public address.
    """
    if job.with_images or job.no_coco:
        raise ValueError("croissant describes the tars as they are: all images, packed")
    address = _public_address(job)
    if address is None and job.shards.is_remote and job.has_images():
        raise ValueError(
            f"readers of Croissant cannot download tars from {job.shards.location}: state the "
            'public address of their folder in --statements FILE, as contentUrl = "https://..."'
        )
    path = job.output_folder / CAPTIONS
    rows = (row for split in job.splits for row in _rows(job, split))
    captions = boxes = 0
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as parquet:
        while group := list(itertools.islice(rows, ROWS_PER_GROUP)):
            parquet.write_table(pa.Table.from_pylist(group, _SCHEMA))
            captions += len(group)
            boxes += sum(len(row["boxes"]) for row in group)
    if not captions:
        return []
    metadata = _metadata(job, path).to_json()
    content = msgspec.json.format(msgspec.json.encode(metadata), indent=1) + b"\n"
    (job.output_folder / NAME).write_bytes(content)
    return [ExportedFile(path, captions, boxes)]


def _rows(job: ExportJob, split: str) -> Iterator[dict[str, Any]]:
    """Yields the captions of a split."""
    samples = job.samples(split)
    for shard, of_shard in itertools.groupby(samples, lambda exported: exported.shard):
        origins = ImageOrigins(job.shards, shard)
        for exported in of_shard:
            yield from _rows_of_sample(exported, split, origins)


def _rows_of_sample(
    exported: ExportedSample, split: str, origins: ImageOrigins
) -> Iterator[dict[str, Any]]:
    sample = exported.sample
    for index, caption in enumerate(sample.captions):
        question = caption.question
        yield {
            "split": split,
            "image": sample.key,
            "width": sample.width,
            "height": sample.height,
            "licenses": origins.licenses(exported.row),
            "url": origins.url(exported.row),
            "index": index,
            "text": caption.text,
            "boxes": [region.box for region in caption.regions],
            "tokens_positive": [region.spans for region in caption.regions],
            "areas": [float("nan") if r.area is None else r.area for r in caption.regions],
            "categories": [region.category for region in caption.regions],
            "crowds": [region.crowd for region in caption.regions],
            "tokens_negative": caption.tokens_negative,
            "datasets": [sentence.dataset for sentence in caption.provenance],
            "records": [sentence.record for sentence in caption.provenance],
            "sentence_spans": [sentence.span for sentence in caption.provenance],
            "absent_spans": [phrase.span for phrase in caption.absent],
            "absent_strengths": [phrase.strength for phrase in caption.absent],
            "question_id": question.id if question else "",
            "answer": (question.answer or "") if question else "",
        }


# --- metadata -------------------------------------------------------------------------------------


def _metadata(job: ExportJob, captions: Path) -> Any:
    """Returns the metadata of a set, and of the file of its captions.

    Raises:
        ValueError: mlcroissant refuses it.
    """
    manifest, statements = job.shards.manifest, job.statements
    context = mlc.Context(conforms_to=CONFORMS_TO)
    tars = list(_tars(context, job))
    distribution = [*tars, _parquet(context, captions)]
    record_sets = [_splits(context, job), _captions(context)]
    if tars:
        distribution.append(
            mlc.FileSet(
                ctx=context,
                id="images-files",
                name="images-files",
                contained_in=[tar.id for tar in tars],
                includes=["*.jpg", "*.png"],
                encoding_formats=[mlc.EncodingFormat.JPG, mlc.EncodingFormat.PNG],
            )
        )
        record_sets.append(_images(context))
    published = statements.date_published
    free = statements.is_accessible_for_free
    try:
        return mlc.Metadata(
            ctx=context,
            name=re.sub(r"[^A-Za-z0-9_.-]+", "-", statements.name or manifest.name),
            description=statements.description or _description(job),
            url=statements.url or None,
            version=statements.version or f"0.0.0+{manifest.recipe_sha256[:16] or 'unknown'}",
            cite_as=statements.cite_as or " | ".join(_citations(manifest)) or None,
            date_published=published and datetime.datetime.combine(published, datetime.time()),
            keywords=statements.keywords or None,
            creators=[
                mlc.Person(ctx=context, name=person.name, url=person.url or None)
                for person in statements.creator
            ],
            license=list(_licenses(context, manifest)) or None,
            distribution=distribution,
            record_sets=record_sets,
            extra_properties={} if free is None else {"isAccessibleForFree": free},
            **_responsible_ai(job),
        )
    except mlc.ValidationError as error:
        raise ValueError(f"mlcroissant refuses the metadata: {error}") from error


def _tars(context: Any, job: ExportJob) -> Iterator[Any]:
    """Yields the tars, and links those without address into a folder named by their content.

    mlcroissant unpacks an archive into a cache by its relative address alone, so that two sets need
    two addresses.
    """
    if not job.has_images():
        return
    indices = [i for split in job.splits for i in job.shards.shards_of(split)]
    entries = [job.shards.shards[i] for i in indices]
    digest = hashlib.sha256(" ".join(entry.sha256 for entry in entries).encode()).hexdigest()
    folder = f"shards-{digest[:16]}"
    address = _public_address(job)
    if address is None:
        (job.output_folder / folder).mkdir()
    for entry in entries:
        if address is None:
            link_tar(job, job.output_folder / folder / entry.file)
        yield mlc.FileObject(
            ctx=context,
            id=entry.file,
            name=entry.file,
            description=f"{entry.images} images of {entry.split}, with their captions as JSON",
            content_url=f"{address or folder}/{entry.file}",
            content_size=f"{entry.bytes} B",
            encoding_formats=[mlc.EncodingFormat.TAR],
            sha256=entry.sha256,
        )


def _public_address(job: ExportJob) -> str | None:
    """Returns the address of the tars' folder that is stated, or from which they were read."""
    address = job.statements.content_url or job.shards.location
    return address.rstrip("/") if address.startswith("https://") else None


def _parquet(context: Any, path: Path) -> Any:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return mlc.FileObject(
        ctx=context,
        id=path.name,
        name=path.name,
        description="the captions of all splits, a row for each",
        content_url=path.name,
        content_size=f"{path.stat().st_size} B",
        encoding_formats=[mlc.EncodingFormat.PARQUET],
        sha256=digest,
    )


def _splits(context: Any, job: ExportJob) -> Any:
    def kind(split: str) -> str:
        if job.shards.manifest.roles[split] == "train":
            return "cr:TrainingSplit"
        return "cr:ValidationSplit" if split == "val" else "cr:TestSplit"

    return mlc.RecordSet(
        ctx=context,
        id="splits",
        name="splits",
        key=["splits/name"],
        data_types=[mlc.DataType.SPLIT],
        fields=[
            mlc.Field(ctx=context, id="splits/name", name="name", data_types=[_TEXT]),
            mlc.Field(ctx=context, id="splits/url", name="url", data_types=[_URL]),
        ],
        data=[{"splits/name": split, "splits/url": kind(split)} for split in job.splits],
    )


def _captions(context: Any) -> Any:
    fields = []
    for name, column in _COLUMNS.items():
        more: dict[str, Any] = {}
        if column.shape:
            more = {"is_array": True, "array_shape": column.shape}
        if name == "split":
            more = {"references": mlc.Source(ctx=context, field="splits/name")}
        source = mlc.Source(
            ctx=context, file_object=CAPTIONS, extract=mlc.Extract(ctx=context, column=name)
        )
        fields.append(
            mlc.Field(
                ctx=context,
                id=f"captions/{name}",
                name=name,
                description=column.description,
                data_types=[column.data_type],
                source=source,
                **more,
            )
        )
    return mlc.RecordSet(
        ctx=context,
        id="captions",
        name="captions",
        description="a record for each caption of an image, with its boxes",
        key=["captions/split", "captions/image", "captions/index"],
        fields=fields,
    )


def _images(context: Any) -> Any:
    def source(file_property: str, *transforms: Any) -> Any:
        return mlc.Source(
            ctx=context,
            file_set="images-files",
            extract=mlc.Extract(ctx=context, file_property=file_property),
            transforms=list(transforms),
        )

    key = mlc.Transform(ctx=context, regex=r"^(?:.*/)?([^/]+/[^/]+)\.[a-z]+$")
    return mlc.RecordSet(
        ctx=context,
        id="images",
        name="images",
        description="the images of the captions, in each split that has them",
        fields=[
            mlc.Field(
                ctx=context,
                id="images/key",
                name="key",
                description="as in captions/image",
                data_types=[_TEXT],
                source=source("fullpath", key),
            ),
            mlc.Field(
                ctx=context,
                id="images/content",
                name="content",
                data_types=[mlc.DataType.IMAGE_OBJECT],
                source=source("content"),
            ),
        ],
    )


def _licenses(context: Any, manifest: Manifest) -> Iterator[Any]:
    """Yields the licenses of images, and what is stated of whole datasets."""
    for entry in manifest.licenses:
        if entry.images and entry.id:
            url = entry.url if is_web_address(entry.url) else None
            yield mlc.CreativeWork(
                ctx=context, name=entry.name, url=url, description=f"of {entry.images} images"
            )
    for terms in _terms(manifest):
        url = terms.homepage if is_web_address(terms.homepage) else None
        yield mlc.CreativeWork(ctx=context, name=terms.license, url=url, description=terms.title)


def _terms(manifest: Manifest) -> list[Terms]:
    """Returns the terms of all datasets, each once."""
    terms = (each for datasets in manifest.terms.values() for each in datasets.values())
    return list({msgspec.structs.astuple(each): each for each in terms}.values())


def _citations(manifest: Manifest) -> list[str]:
    return [each.citation for each in _terms(manifest) if each.citation != UNKNOWN]


def _description(job: ExportJob) -> str:
    manifest = job.shards.manifest
    splits = ", ".join(f"{split} ({manifest.roles[split]})" for split in job.splits)
    return (
        "Images with captions, boxes, and the character spans that name each box, in splits to be "
        f"trained on (train) and to evaluate models (eval): {splits}. Recipe "
        f"{manifest.recipe_sha256}, code {manifest.code_version}."
    )


def _responsible_ai(job: ExportJob) -> dict[str, Any]:
    """Returns the properties for responsible AI: what is stated, and what the manifest counts."""
    manifest, statements = job.shards.manifest, job.statements
    stated = {
        name: value
        for name, value in msgspec.structs.asdict(statements.rai).items()
        if value not in ("", [])
    }
    titles = ", ".join(each.title for each in _terms(manifest))
    collected = f"Made by mdetr-build from: {titles}." if titles else None
    return {
        "data_collection": collected,
        "data_preprocessing_protocol": list(_protocol(job)) or None,
        **stated,
        "data_limitations": [*statements.rai.data_limitations, *_limitations(manifest)] or None,
    }


def _protocol(job: ExportJob) -> Iterator[str]:
    """Yields what became of the captions of each source, and what each exclusion left out."""
    manifest = job.shards.manifest
    if len(job.splits) < len(manifest.roles):
        splits = ", ".join(job.splits)
        yield f"These counts are of all splits, those of the limitations, too; here are {splits}."
    for source, counts in manifest.sources.items():
        yield (
            f"{source}: of {counts.read} captions, {counts.in_shards} are in the set, "
            f"{counts.merged} were merged into others, {counts.rejected} rejected, "
            f"{counts.excluded} excluded with images of evaluation sets, and "
            f"{counts.not_asked_for} not asked for."
        )
    for name, exclusion in manifest.exclusions.items():
        images = sum(of_join.images for of_join in exclusion.excluded.values())
        captions = sum(of_join.captions for of_join in exclusion.excluded.values())
        yield (
            f"Evaluation set {name} names {exclusion.named} images; {images} images with "
            f"{captions} captions were excluded from training splits (an image counts for each "
            "join that found it)."
        )


def _limitations(manifest: Manifest) -> Iterator[str]:
    for entry in manifest.licenses:
        if entry.id == UNKNOWN_ID and entry.images:
            yield f"No raw file states the license of {entry.images} images."
    yield from manifest.warnings
