"""GRIT, the pairs that Kosmos-2 is trained with: captions with noun chunks and their boxes.

A chunk is start and end in the caption, x0, y0, x1, y1 as shares of the image's width and height,
and a score. ``ref_exps`` repeats the chunks: the words of a box in a shard are not longer than what
the sentence calls it.
"""

import contextlib
import io
import tarfile
from pathlib import Path
from typing import Any

import orjson

from schemas import Caption, Sample
from shards.export.phrases import named
from shards.export.request import Exported, Request, Written

PAIRS_PER_TAR = 10_000  # which the key's last four digits count
SCORE = 1.0  # GRIT's scores are a detector's; here people drew the boxes


def export(of: Request) -> list[Written]:
    """Writes ``SPLIT.jsonl``: a line a caption that has a box.

    With the images also ``SPLIT/00000.tar`` and so on, as img2dataset fetches GRIT: ``KEY.jpg``,
    ``KEY.txt`` and ``KEY.json`` of each line, of whose key the first digits name the tar.

    Raises:
        ShardError: see `Request.samples`.
        OSError: a file cannot be written.
    """
    return [_export_split(of, split) for split in of.splits]


def _export_split(of: Request, split: str) -> Written:
    path = of.out / f"{split}.jsonl"
    captions = boxes = 0
    with path.open("wb") as file, Tars(of.out / split) as tars:
        for exported in of.samples(split):
            sample = exported.sample
            for caption in sample.captions:
                chunks = _chunks(caption, sample)
                if not chunks:
                    continue
                tar, place = divmod(captions, PAIRS_PER_TAR)
                record = {
                    "key": f"{tar:05d}{place:04d}",
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
                if of.unpack:
                    tars.add(tar, record, line, exported)
                captions += 1
                boxes += len(chunks)
    return Written(path, captions, boxes)


def _chunks(caption: Caption, sample: Sample) -> list[list[float]]:
    """A row for each of a box's spans: a chunk has but one."""
    width, height = sample.width, sample.height
    return [
        [start, stop, x0 / width, y0 / height, x1 / width, y1 / height, SCORE]
        for region in named(caption, width, height)
        for x0, y0, x1, y1 in [region.box]
        for start, stop in region.spans
    ]


class Tars:
    """Tars in a folder, one after another; the next is begun with its first pair."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = contextlib.ExitStack()
        self._number = -1

    def add(self, number: int, record: dict[str, Any], line: bytes, of: Exported) -> None:
        if number != self._number:
            self._open.close()
            self._folder.mkdir(exist_ok=True)
            path = self._folder / f"{number:05d}.tar"
            tar = tarfile.TarFile(path, "w", format=tarfile.USTAR_FORMAT)
            self._tar = self._open.enter_context(tar)
            self._number = number
        image = of.image()
        extension = image.name.rpartition(".")[2]
        members = {extension: bytes(image.content), "txt": record["caption"].encode()}
        for suffix, content in {**members, "json": line}.items():
            member = tarfile.TarInfo(f"{record['key']}.{suffix}")
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))

    def __enter__(self) -> "Tars":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._open.__exit__(*exception)
