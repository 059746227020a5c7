"""A whole shard set as plain data: read, damaged as a bug of the writer would, and written again.

What is written is consistent: tars, index, stats, manifest, counts and checksums agree with the
samples, as they would if the writer had believed its own mistake. The code is separate from the
writer's, so that a mistake of both is not hidden; it shares the schemas, and the statistics.
"""

import hashlib
import io
import json
import tarfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas import arrow
from schemas.sample import decode_sample
from shards.format.stats import Stats, as_json


@dataclass
class Image:
    """An image of a shard: its sample as JSON, its bytes, and facts that only the index has."""

    sample: dict[str, Any]
    content: bytes | None
    extension: str = "jpg"
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key of the image."""
        return str(self.sample["key"])

    @property
    def captions(self) -> list[dict[str, Any]]:
        """The captions of the sample."""
        captions: list[dict[str, Any]] = self.sample["captions"]
        return captions


#: The columns of the index that follow from the samples and the tars.
_DERIVED = {
    *("shard", "key", "image_name", "image_offset", "image_size", "image_crc32"),
    *("json_offset", "json_size", "json_crc32", "width", "height", "captions", "regions"),
    "datasets",
}


class SetData:
    """A shard set in memory; every part of it may be edited before `write`."""

    def __init__(self, folder: Path) -> None:
        self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        self.rejected = pq.read_table(folder / "rejected.parquet").to_pylist()
        self.excluded = pq.read_table(folder / "excluded.parquet").to_pylist()
        self.shards: dict[str, list[Image]] = {e["file"]: [] for e in self.manifest["shards"]}
        for entry in self.manifest["shards"]:
            tar = (folder / entry["file"]).read_bytes()
            for row in pq.read_table(folder / entry["index"]["file"]).to_pylist():
                self.shards[row["shard"]].append(_image(tar, row, entry["licenses"]))
        #: the counts of the sentences and boxes of each dataset, as the build found them
        self.built = self.counts()

    # --- what damages look for ------------------------------------------------------------------

    def split_of(self, file: str) -> str:
        """Returns the split of a shard."""
        return file.rpartition("-of-")[0].rpartition("-")[0]

    def images(self, split: str | None = None) -> list[Image]:
        """Returns all images, or those of a split, in the order of the index."""
        return [
            image
            for file, images in self.shards.items()
            if split in (None, self.split_of(file))
            for image in images
        ]

    def captions(self, split: str, dataset: str = "") -> list[dict[str, Any]]:
        """Returns the captions of a split that have a sentence of a dataset."""
        return [
            caption
            for image in self.images(split)
            for caption in image.captions
            if not dataset or any(s["dataset"] == dataset for s in caption["provenance"])
        ]

    def find(self, key: str) -> tuple[str, Image]:
        """Returns the first shard with an image of that key, and the image."""
        return next((f, i) for f, images in self.shards.items() for i in images if i.key == key)

    # --- counts ---------------------------------------------------------------------------------

    def counts(self) -> dict[str, tuple[int, int]]:
        """Returns the numbers of sentences and boxes of each dataset in the samples."""
        counts: dict[str, tuple[int, int]] = {}
        for image in self.images():
            for caption in image.captions:
                for sentence in caption["provenance"]:
                    begin, end = sentence["span"]
                    boxes = sum(
                        bool(region["tokens_positive"])
                        and begin <= region["tokens_positive"][0][0] < end
                        for region in caption["regions"]
                    )
                    known = counts.get(sentence["dataset"], (0, 0))
                    counts[sentence["dataset"]] = (known[0] + 1, known[1] + boxes)
        return counts

    # --- writing --------------------------------------------------------------------------------

    def write(self, folder: Path) -> None:
        """Writes the set to a folder, whose files it replaces; all counts follow the samples."""
        tars: dict[str, bytes] = {}
        rows: list[list[dict[str, Any]]] = []
        entries = {entry["file"]: entry for entry in self.manifest["shards"]}
        splits = dict.fromkeys([*self.manifest["totals"], *map(self.split_of, self.shards)])
        stats = {split: Stats() for split in splits}
        for file, images in self.shards.items():
            content, shard_rows = _tar(file, images)
            tars[file] = content
            rows.append(shard_rows)
            split_stats = stats[self.split_of(file)]
            for image in images:
                _count(split_stats, image)
            index = {"file": file.replace(".tar", ".index.parquet")}
            entries.setdefault(file, {"file": file, "split": self.split_of(file), "index": index})
            ids = [id_ for row in shard_rows for id_ in row["licenses"]]
            entries[file]["licenses"] = list(range(1 + max(ids, default=0)))
            entries[file]["images"] = len(images)
            entries[file]["captions"] = sum(row["captions"] for row in shard_rows)
        self.manifest["shards"] = [entries[file] for file in self.shards]
        for split, totals in self.manifest["totals"].items():
            self.manifest["totals"][split] = {name: getattr(stats[split], name) for name in totals}
        images_of = Counter(id_ for of_shard in rows for row in of_shard for id_ in row["licenses"])
        for entry in self.manifest["licenses"]:
            entry["images"] = images_of[entry["id"]]
        for path in folder.glob("*"):
            path.unlink()
        for (file, content), of_shard in zip(tars.items(), rows, strict=True):
            (folder / file).write_bytes(content)
            (folder / entries[file]["index"]["file"]).write_bytes(index_bytes(of_shard))
        (folder / "stats.json").write_bytes(as_json(stats))
        _write_table(folder / "rejected.parquet", self.rejected, arrow.REJECTED)
        _write_table(folder / "excluded.parquet", self.excluded, arrow.EXCLUDED)
        self.write_manifest(folder)

    def write_manifest(self, folder: Path) -> None:
        """Writes the manifest, with the sizes and checksums of the files that are there."""
        shards = self.manifest["shards"]
        for entry in (*shards, *(shard["index"] for shard in shards), *self.manifest["files"]):
            content = (folder / entry["file"]).read_bytes()
            entry["bytes"] = len(content)
            entry["sha256"] = hashlib.sha256(content).hexdigest()
        (folder / "manifest.json").write_text(json.dumps(self.manifest))


def _image(tar: bytes, row: dict[str, Any], licenses: list[int]) -> Image:
    """Returns the image of a row of a shard's index, with the ids of the manifest's licenses."""
    begin, size = row["json_offset"], row["json_size"]
    sample = json.loads(tar[begin : begin + size])
    content = None
    if row["image_name"]:
        begin, size = row["image_offset"], row["image_size"]
        content = tar[begin : begin + size]
    facts = {name: value for name, value in row.items() if name not in _DERIVED}
    facts["licenses"] = [licenses[id_] for id_ in facts["licenses"]]
    return Image(sample, content, row["image_name"].rpartition(".")[2], facts)


def _tar(file: str, images: list[Image]) -> tuple[bytes, list[dict[str, Any]]]:
    """Returns a shard and its index rows."""
    buffer, rows = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for image in images:
            members = {"json": json.dumps(image.sample, ensure_ascii=False).encode()}
            if image.content is not None:
                members[image.extension] = image.content
            row: dict[str, Any] = {"image_name": "", "image_offset": -1, "image_size": 0}
            row |= {"image_crc32": 0, "shard": file, **image.facts}
            for extension in sorted(members):
                info = tarfile.TarInfo(f"{image.key}.{extension}")
                info.size = len(members[extension])
                kind = "json" if extension == "json" else "image"
                row[f"{kind}_offset"] = archive.offset + 512
                row[f"{kind}_size"] = info.size
                row[f"{kind}_crc32"] = zlib.crc32(members[extension])
                if kind == "image":
                    row["image_name"] = info.name
                archive.addfile(info, io.BytesIO(members[extension]))
            row |= {name: image.sample[name] for name in ("key", "width", "height")}
            row["captions"] = len(image.captions)
            row["regions"] = sum(len(caption["regions"]) for caption in image.captions)
            row["datasets"] = sorted(
                {s["dataset"] for caption in image.captions for s in caption["provenance"]}
            )
            rows.append(row)
    return buffer.getvalue(), rows


def _count(stats: Stats, image: Image) -> None:
    """Counts a sample, as the writer does."""
    stats.add(decode_sample(json.dumps(image.sample).encode()))


def index_bytes(rows: list[dict[str, Any]]) -> bytes:
    """Returns the index of a shard."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, arrow.INDEX, write_page_checksum=True) as writer:
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, arrow.INDEX), len(rows))
    return buffer.getvalue()


def _write_table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
