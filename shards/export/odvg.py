"""ODVG: JSON lines, as MM-Grounding-DINO (mmdetection) and Open-GroundingDino read them.

A file holds either captions whose boxes have phrases, or boxes with class labels. A region is one
box with one phrase, which both projects can read: mmdetection's converter writes lists of boxes and
phrases, which Open-GroundingDino cannot read.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from schemas import Caption, Sample
from schemas.class_names import is_class_dataset
from shards.export.job import ExportedFile, ExportJob
from shards.export.regions import groundable_regions


def export(job: ExportJob) -> list[ExportedFile]:
    """Writes ``SPLIT_vg.jsonl``; for classes ``SPLIT_od.jsonl`` and ``label_map.json``.

    Captions without boxes are left out. Absent phrases stay in the text of the others, where
    no region has their words, so readers train on them as negatives. If a split has no others,
    ``SPLIT_vg.jsonl`` is empty. Boxes of classes, whose names may be joined to captions, have
    labels. Labels count from 0 and are the same in all files.

    Raises:
        ShardError: see `ExportJob.samples`.
        OSError: a file cannot be written.
    """
    labels: dict[str, int] = {}
    files = [file for split in job.splits for file in _export_split(job, split, labels)]
    if labels:
        names = {str(label): name for name, label in labels.items()}
        content = orjson.dumps(names, option=orjson.OPT_INDENT_2) + b"\n"
        (job.output_folder / "label_map.json").write_bytes(content)
    return files


def _export_split(job: ExportJob, split: str, labels: dict[str, int]) -> Iterator[ExportedFile]:
    left_out = 0
    with contextlib.ExitStack() as stack:
        files: dict[str, _JsonLines] = {}

        def lines(kind: str) -> _JsonLines:
            if kind not in files:
                path = job.output_folder / f"{split}_{kind}.jsonl"
                files[kind] = _JsonLines(stack.enter_context(path.open("wb")))
            return files[kind]

        for exported in job.samples(split):
            sample = exported.sample
            captions = [caption for caption in sample.captions if not _is_class_name(caption)]
            record = {
                "filename": exported.file_name(),
                "height": sample.height,
                "width": sample.width,
            }
            for caption in captions:
                if regions := _regions(caption, sample):
                    grounding = {"caption": _strip(caption.text)[0], "regions": regions}
                    lines("vg").write({**record, "grounding": grounding}, 1, len(regions))
                else:
                    left_out += len(caption.absent)
            left_out += sum(len(c.absent) for c in sample.captions if _is_class_name(c))
            if len(captions) < len(sample.captions):
                boxes = list(_instances(sample, labels))
                lines("od").write({**record, "detection": {"instances": boxes}}, 1, len(boxes))
    for kind, file in files.items():
        path = job.output_folder / f"{split}_{kind}.jsonl"
        yield ExportedFile(path, file.caption_count, file.box_count, left_out)
        left_out = 0  # counted with the first file
    if left_out:  # no caption of the split has a box
        path = job.output_folder / f"{split}_vg.jsonl"
        path.write_bytes(b"")
        yield ExportedFile(path, 0, 0, left_out)


class _JsonLines:
    """A file of JSON lines that counts its captions and boxes."""

    def __init__(self, file: BinaryIO) -> None:
        self.caption_count = self.box_count = 0
        self._file = file

    def write(self, record: dict[str, Any], captions: int, boxes: int) -> None:
        self._file.write(orjson.dumps(record) + b"\n")
        self.caption_count += captions
        self.box_count += boxes


def _is_class_name(caption: Caption) -> bool:
    datasets = {record.dataset for record in caption.provenance}
    return bool(datasets) and all(map(is_class_dataset, datasets))


def _strip(text: str) -> tuple[str, int]:
    """Returns the caption as mmdetection sees it, and the number of leading characters removed.

    mmdetection strips and lowercases a caption; "İ" is the only character that becomes two.
    """
    return text.replace("İ", "I").strip(), len(text) - len(text.lstrip())


def _regions(caption: Caption, sample: Sample) -> list[dict[str, Any]]:
    text, offset = _strip(caption.text)
    regions = []
    for region in groundable_regions(caption, sample.width, sample.height):
        shifted = (
            (max(start - offset, 0), min(stop - offset, len(text))) for start, stop in region.spans
        )
        regions.append(
            {
                "bbox": region.box,
                "phrase": region.phrase,
                "tokens_positive": [(start, stop) for start, stop in shifted if start < stop],
            }
        )
    return regions


def _instances(sample: Sample, labels: dict[str, int]) -> Iterator[dict[str, Any]]:
    for caption in filter(_is_class_name, sample.captions):
        for region in groundable_regions(caption, sample.width, sample.height):
            label = labels.setdefault(region.phrase, len(labels))
            yield {"bbox": region.box, "label": label, "category": region.phrase}
