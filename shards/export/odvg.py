"""ODVG: lines of JSON, as MM-Grounding-DINO (mmdetection) and Open-GroundingDino read them.

A file is either of captions with the phrases that their boxes have, or of boxes with the numbers of
their classes. A region is one box and one phrase, which both can read: mmdetection's own converter
lists boxes and phrases, at which Open-GroundingDino fails.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from schemas import Caption, Sample
from shards.export.phrases import named
from shards.export.request import Request, Written

#: Data sets whose captions are names of classes; a box of them has a label instead of a phrase.
OF_CLASSES = frozenset({"lvis"})


def export(of: Request) -> list[Written]:
    """Writes ``SPLIT_vg.jsonl``, and of classes ``SPLIT_od.jsonl`` and ``label_map.json``.

    Captions without boxes are left out. Labels count from 0, for all its files alike.

    Raises:
        ShardError: see `Request.samples`.
        OSError: a file cannot be written.
    """
    labels: dict[str, int] = {}
    found = [written for split in of.splits for written in _export_split(of, split, labels)]
    if labels:
        names = {str(label): name for name, label in labels.items()}
        content = orjson.dumps(names, option=orjson.OPT_INDENT_2) + b"\n"
        (of.out / "label_map.json").write_bytes(content)
    return found


def _export_split(of: Request, split: str, labels: dict[str, int]) -> Iterator[Written]:
    with contextlib.ExitStack() as stack:
        files: dict[str, _Lines] = {}

        def lines(kind: str) -> _Lines:
            if kind not in files:
                path = of.out / f"{split}_{kind}.jsonl"
                files[kind] = _Lines(stack.enter_context(path.open("wb")))
            return files[kind]

        for exported in of.samples(split):
            sample = exported.sample
            captions = [caption for caption in sample.captions if not _is_class(caption)]
            record = {
                "filename": exported.file_name(),
                "height": sample.height,
                "width": sample.width,
            }
            for caption in captions:
                if regions := _regions(caption, sample):
                    grounding = {"caption": _stripped(caption.text)[0], "regions": regions}
                    lines("vg").write({**record, "grounding": grounding}, 1, len(regions))
            if len(captions) < len(sample.captions):
                boxes = list(_instances(sample, labels))
                lines("od").write({**record, "detection": {"instances": boxes}}, 1, len(boxes))
    for kind, found in files.items():
        yield Written(of.out / f"{split}_{kind}.jsonl", found.captions, found.boxes)


class _Lines:
    """A file of JSON lines, and what is in it."""

    def __init__(self, file: BinaryIO) -> None:
        self.captions = self.boxes = 0
        self._file = file

    def write(self, record: dict[str, Any], captions: int, boxes: int) -> None:
        self._file.write(orjson.dumps(record) + b"\n")
        self.captions += captions
        self.boxes += boxes


def _is_class(caption: Caption) -> bool:
    return {part.dataset for part in caption.provenance}.issubset(OF_CLASSES) and bool(
        caption.provenance
    )


def _stripped(text: str) -> tuple[str, int]:
    """A caption as mmdetection counts its characters, and how many were before it.

    It makes small letters of a caption, and takes spaces from its ends. Of all characters one alone
    becomes two then.
    """
    stripped = text.replace("İ", "I").strip()
    return stripped, len(text) - len(text.lstrip())


def _regions(caption: Caption, sample: Sample) -> list[dict[str, Any]]:
    text, before = _stripped(caption.text)
    found = []
    for region in named(caption, sample.width, sample.height):
        spans = [
            (max(start - before, 0), min(stop - before, len(text))) for start, stop in region.spans
        ]
        spans = [(start, stop) for start, stop in spans if start < stop]
        found.append({"bbox": region.box, "phrase": region.phrase, "tokens_positive": spans})
    return found


def _instances(sample: Sample, labels: dict[str, int]) -> Iterator[dict[str, Any]]:
    for caption in filter(_is_class, sample.captions):
        for region in named(caption, sample.width, sample.height):
            label = labels.setdefault(caption.text, len(labels))
            yield {"bbox": region.box, "label": label, "category": caption.text}
