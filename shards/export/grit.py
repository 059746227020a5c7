"""GRIT, the training data of Kosmos-2: captions with noun chunks and their boxes.

A chunk is [start, end, x0, y0, x1, y1, score]: characters of the caption, and the box relative to
the image's width and height. ``ref_exps`` repeats the chunks, because boxes in shards have no
referring expressions besides their phrases.
"""

import contextlib
import io
import tarfile
from pathlib import Path
from typing import Any

import orjson

from schemas import Caption, Sample
from shards.export.job import ExportedFile, ExportedSample, ExportJob
from shards.export.regions import groundable_regions

PAIRS_PER_TAR = 10_000  # the last four digits of a key count them
SCORE = 1.0  # GRIT's scores are those of a detector; these boxes are human annotations


def export(job: ExportJob) -> list[ExportedFile]:
    """Writes ``SPLIT.jsonl``: one line per caption that has a box, with its absent phrases.

    With images also ``SPLIT/00000.tar`` and so on, as img2dataset downloads GRIT: ``KEY.jpg``,
    ``KEY.txt`` and ``KEY.json`` for each line; the first digits of the key are the tar's number.

    Raises:
        ShardError: see `ExportJob.samples`.
        OSError: a file cannot be written.
    """
    return [_export_split(job, split) for split in job.splits]


def _export_split(job: ExportJob, split: str) -> ExportedFile:
    path = job.output_folder / f"{split}.jsonl"
    captions = boxes = left_out = 0
    with path.open("wb") as file, _TarSeries(job.output_folder / split) as tars:
        for exported in job.samples(split):
            sample = exported.sample
            for caption in sample.captions:
                chunks = _noun_chunks(caption, sample)
                if not chunks:
                    left_out += len(caption.absent)
                    continue
                tar_number, pair_number = divmod(captions, PAIRS_PER_TAR)
                record = {
                    "key": f"{tar_number:05d}{pair_number:04d}",
                    "id": captions,
                    "file_name": sample.file,
                    "caption": caption.text,
                    "width": sample.width,
                    "height": sample.height,
                    "noun_chunks": chunks,
                    "ref_exps": chunks,
                }
                line = orjson.dumps(record)
                file.write(line + b"\n")
                if job.with_images:
                    tars.add(tar_number, record, line, exported)
                captions += 1
                boxes += len(chunks)
    return ExportedFile(path, captions, boxes, left_out)


def _noun_chunks(caption: Caption, sample: Sample) -> list[list[float]]:
    """Returns one chunk per span of each box, because a chunk has a single span."""
    width, height = sample.width, sample.height
    chunks: list[list[float]] = []
    for region in groundable_regions(caption, width, height):
        x0, y0, x1, y1 = region.box
        box = [x0 / width, y0 / height, x1 / width, y1 / height]
        chunks += [[start, stop, *box, SCORE] for start, stop in region.spans]
    return chunks


class _TarSeries:
    """Numbered tars of a folder, written one after another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open_tar = contextlib.ExitStack()
        self._number = -1

    def add(
        self, number: int, record: dict[str, Any], line: bytes, exported: ExportedSample
    ) -> None:
        """Writes the three files of a pair to the tar of that number."""
        if number != self._number:
            self._open_tar.close()
            self._folder.mkdir(exist_ok=True)
            path = self._folder / f"{number:05d}.tar"
            tar = tarfile.TarFile(path, "w", format=tarfile.USTAR_FORMAT)
            self._tar = self._open_tar.enter_context(tar)
            self._number = number
        image = exported.read_image()
        extension = image.name.rpartition(".")[2]
        members = {
            extension: bytes(image.content),
            "txt": record["caption"].encode(),
            "json": line,
        }
        for suffix, content in members.items():
            member = tarfile.TarInfo(f"{record['key']}.{suffix}")
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))

    def __enter__(self) -> "_TarSeries":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._open_tar.__exit__(*exception)
