"""The results of ``mdetr evaluate grounding``, beside the annotations of the shard set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

import msgspec

from mdetr_model.data.samples import phrases_to_ground
from mdetr_model.evaluation.evaluate import METRICS, PREDICTIONS
from mdetr_model.evaluation.metrics.phrase_grounding import MIN_IOU
from schemas import Box, Caption, Phrase, Span
from schemas.decodable import decodable
from shards.box_overlap import as_array, iou
from shards.reading.reader import ShardReader, StoredSample
from shards.reading.shard_set import ShardSet

T = TypeVar("T")


class Metrics(msgspec.Struct):
    """``metrics.json``: recall by protocol and type of phrase, "all" first."""

    any_box: dict[str, dict[str, float]] = msgspec.field(name="any-box")
    merged_boxes: dict[str, dict[str, float]] = msgspec.field(name="merged-boxes")
    phrases: int
    baselines: dict[str, dict[str, float]]

    @property
    def recall(self) -> float:
        """Recall@1 of all phrases, ANY-BOX."""
        return self.any_box["all"]["recall@1"]


class Prediction(msgspec.Struct):
    """An entry of ``predictions.json``: the boxes of a phrase, the best one first."""

    key: str
    caption_index: int
    caption: str
    phrase: str
    boxes: Annotated[list[Box], msgspec.Meta(min_length=1)]


class GroundedPhrase(NamedTuple):
    """A phrase with its annotated boxes and the model's best one, as xyxy in pixels.

    ``is_right``: whether the best box is correct for recall@1, ANY-BOX.
    """

    spans: list[Span]
    boxes: list[Box]
    predicted: Box
    is_right: bool


class GroundedCaption(NamedTuple):
    """A caption of a shard's ``row``-th image, and its phrases that have boxes, by their spans."""

    shard: int
    row: int
    key: str
    width: int
    height: int
    caption: Caption
    phrases: list[GroundedPhrase]


class EvaluationResults(NamedTuple):
    """The results of an evaluation: all figures, and the boxes of all phrases."""

    metrics: Metrics
    captions: list[GroundedCaption]

    @property
    def images(self) -> int:
        """The number of images with phrases."""
        return len({caption.key for caption in self.captions})


def overlap(boxes: list[Box], others: list[Box]) -> bool:
    """Returns whether one of the boxes is correct where one of the others is the truth."""
    return bool((iou(as_array(boxes), as_array(others)) >= MIN_IOU).any())


def read_results(evaluation: Path, shards: ShardSet, split: str) -> EvaluationResults:
    """Reads the results in a folder, and the split of the shard set that was evaluated.

    Raises:
        OSError: a file is missing.
        ValueError: a file is not of phrase grounding, no phrase has a box, or the predictions are
            not of this split.
        ShardError: a shard cannot be read.
    """
    metrics = _read(evaluation / METRICS, Metrics)
    predictions: dict[tuple[str, int], list[Prediction]] = {}
    for entry in _read(evaluation / PREDICTIONS, list[Prediction]):
        predictions.setdefault((entry.key, entry.caption_index), []).append(entry)
    if "all" not in metrics.any_box:
        raise ValueError(f"{evaluation / METRICS}: no phrase with a box was evaluated")
    captions: list[GroundedCaption] = []
    for stored in ShardReader(shards).samples(split):
        for index, caption in enumerate(stored.sample.captions):
            phrases = phrases_to_ground(caption)
            boxes = predictions.pop((stored.sample.key, index), [])
            if [(caption.text, _words(caption, phrase)) for phrase in phrases] != [
                (prediction.caption, prediction.phrase) for prediction in boxes
            ]:
                raise ValueError(
                    f"{evaluation / PREDICTIONS} is not of split {split} of {shards.location}: "
                    f"it has other phrases in caption {index} of {stored.sample.key}"
                )
            captions += _grounded_captions(stored, caption, phrases, boxes)
    if predictions:
        key, _ = next(iter(predictions))
        raise ValueError(
            f"{evaluation / PREDICTIONS} is not of split {split} of {shards.location}, "
            f"which has no such caption of {key}"
        )
    return EvaluationResults(metrics, captions)


def _read(path: Path, content: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=decodable(content))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not of 'mdetr evaluate grounding': {error}") from error


def _words(caption: Caption, phrase: Phrase) -> str:
    return " ".join(caption.text[begin:end] for begin, end in phrase.spans)


def _grounded_captions(
    stored: StoredSample, caption: Caption, phrases: list[Phrase], predictions: list[Prediction]
) -> Iterator[GroundedCaption]:
    """Yields the caption with its phrases; nothing if none has a box."""
    grounded = [
        GroundedPhrase(
            spans=phrase.spans,
            boxes=phrase.boxes,
            predicted=prediction.boxes[0],
            is_right=overlap([prediction.boxes[0]], phrase.boxes),
        )
        for phrase, prediction in zip(phrases, predictions, strict=True)
        if phrase.boxes
    ]
    grounded.sort(key=lambda phrase: phrase.spans)
    sample = stored.sample
    if grounded:
        yield GroundedCaption(
            stored.shard, stored.row, sample.key, sample.width, sample.height, caption, grounded
        )
