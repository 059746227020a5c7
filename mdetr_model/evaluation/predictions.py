"""Files of predictions that other programs wrote: see docs/predictions.md."""

from collections.abc import Iterable, Iterator
from math import isfinite
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
import torch

from mdetr_model.evaluation.detectors import NOTHING, Detections
from mdetr_model.evaluation.metrics.class_detections import ClassDetections
from schemas.decodable import decodable

T = TypeVar("T", bound=msgspec.Struct)
Box = tuple[float, float, float, float]


class PhraseKey(NamedTuple):
    """A phrase of a caption of an image; of a referring expression, phrase 0."""

    key: str
    caption_index: int
    phrase_index: int


class _PhraseEntry(msgspec.Struct):
    """The boxes of a phrase, as xyxy in pixels."""

    key: str
    caption_index: int
    boxes: list[Box]
    scores: list[float]
    phrase_index: int = 0

    def __post_init__(self) -> None:
        if len(self.boxes) != len(self.scores):
            raise ValueError(f"{len(self.boxes)} boxes with {len(self.scores)} scores")
        for x0, y0, x1, y1 in self.boxes:
            if not (x0 <= x1 and y0 <= y1):
                raise ValueError(f"{[x0, y0, x1, y1]} is not a box x0, y0, x1, y1")
        if not all(map(isfinite, self.scores)):
            raise ValueError("a score is not finite")


class _ClassEntry(msgspec.Struct):
    """A detected object in LVIS's result format, with its box as xywh."""

    image_id: int
    category_id: int
    bbox: Box
    score: float

    def __post_init__(self) -> None:
        if not all(map(isfinite, (*self.bbox, self.score))):
            raise ValueError("a number is not finite")


class PhrasePredictions:
    """The predictions of a file for phrases of captions.

    Raises:
        ValueError: an entry is invalid, or a phrase has two; the message counts them.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._detections: dict[PhraseKey, Detections] = {}
        duplicates: list[PhraseKey] = []
        for entry in _entries(path, _PhraseEntry):
            key = PhraseKey(entry.key, entry.caption_index, entry.phrase_index)
            if key in self._detections:
                duplicates.append(key)
            order = np.argsort(-np.array(entry.scores), kind="stable")
            self._detections[key] = Detections(
                boxes=torch.tensor(entry.boxes, dtype=torch.float32).reshape(-1, 4)[order],
                scores=torch.tensor(entry.scores, dtype=torch.float32)[order],
            )
        if duplicates:
            raise ValueError(
                f"{path}: {len(duplicates)} phrases have two entries; the first is {duplicates[0]}"
            )

    def check(self, phrases: Iterable[PhraseKey]) -> int:
        """Returns how many of the phrases to evaluate are missing from the file.

        Raises:
            ValueError: the file has entries of other phrases, or none of these.
        """
        expected = set(phrases)
        unknown = sorted(self._detections.keys() - expected)
        if unknown:
            raise ValueError(
                f"{self._path}: {len(unknown)} entries are of phrases that are not in the split; "
                f"the first is {unknown[0]}"
            )
        missing = len(expected - self._detections.keys())
        if missing == len(expected):
            raise ValueError(f"{self._path} has no predictions for the split")
        return missing

    def detections(self, phrase: PhraseKey) -> Detections:
        """Returns the detections of a phrase, the best first; none if the file has no entry."""
        return self._detections.get(phrase, NOTHING)


def read_class_predictions(path: Path) -> ClassDetections:
    """Reads detections in LVIS's result format.

    Raises:
        ValueError: an entry is invalid; the message counts them.
        OSError: the file cannot be read.
    """
    entries = list(_entries(path, _ClassEntry))
    xywh = np.array([entry.bbox for entry in entries], np.float64).reshape(-1, 4)
    return ClassDetections(
        image_ids=np.array([entry.image_id for entry in entries], np.int64),
        category_ids=np.array([entry.category_id for entry in entries], np.int64),
        scores=np.array([entry.score for entry in entries], np.float64),
        boxes=np.column_stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]),
    )


def _entries(path: Path, kind: type[T]) -> Iterator[T]:
    """Yields the entries of JSON lines, or of an array in a ``.json`` file.

    Raises:
        ValueError: an entry is invalid; after the last one, so that the message counts all.
    """
    decoder = msgspec.json.Decoder(decodable(kind))
    count, first = 0, ""
    for number, line in enumerate(_lines(path), start=1):
        try:
            yield decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            count += 1
            first = first or f"entry {number}: {error}"
    if count:
        raise ValueError(f"{path}: {count} entries are invalid; the first, {first}")


def _lines(path: Path) -> Iterator[bytes]:
    if path.suffix != ".json":
        with path.open("rb") as file:
            yield from (line for line in file if line.strip())
        return
    try:
        yield from msgspec.json.decode(path.read_bytes(), type=list[msgspec.Raw])
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path} is no JSON array: {error}") from error
