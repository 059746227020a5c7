"""``mdetr evaluate grounding|referring`` of any detector, or of a file of predictions."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from mdetr_model.data.workers import worker_options
from mdetr_model.distributed import DistributedContext
from mdetr_model.evaluation.detectors import Detections, Detector, Prompt, read_detector
from mdetr_model.evaluation.loop import collect
from mdetr_model.evaluation.predictions import PhraseKey, PhrasePredictions
from schemas import Caption, Span
from shards.reading.reader import Pair, ShardReader
from shards.reading.shard_set import ShardSet
from shards.sampling.dataset import PairDataset, SampleIndex, evaluation_indices

MAX_PREDICTED_BOXES = 10  # of an entry of predictions.json


class DetectorTask(Protocol):
    """A task that asks for the boxes of phrases of a caption."""

    def phrases(self, caption: Caption) -> list[list[Span]]:
        """Returns the spans of each phrase that is to be detected."""

    def score_detections(self, caption: Caption, detections: Sequence[Detections]) -> list[Any]:
        """Returns the input of ``metrics`` for a caption; the best detections come first."""


class CaptionResult(NamedTuple):
    """The scores of a caption, and its entries of ``predictions.json``."""

    scores: list[Any]
    predictions: list[dict[str, Any]]


class LoadedPair(NamedTuple):
    """A pair whose image bytes can be sent between processes."""

    key: str
    caption_index: int
    image: bytes
    caption: Caption

    def open_image(self) -> Image.Image:
        """Returns the decoded image.

        Raises:
            ValueError: it is neither JPEG nor PNG, or damaged.
        """
        try:
            return Image.open(io.BytesIO(self.image), formats=("JPEG", "PNG")).convert("RGB")
        # Pillow's decoders raise any of these on damaged files.
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{self.key}: {error}") from error


def detect_captions(
    task: DetectorTask,
    source: str,
    shards: ShardSet,
    split: str,
    context: DistributedContext,
    *,
    batch_size: int,
    workers: int,
) -> list[CaptionResult]:
    """Returns the results of a detector of transformers for the captions of all ranks.

    Args:
        task: what to detect.
        source: folder of the detector, or its name in the hub.
        shards, split: images and captions.
        context: the ranks.
        batch_size: pairs of image and caption in one forward pass.
        workers: data loader processes.

    Raises:
        OSError: the detector cannot be read.
        ValueError: it is of another type, or an image is unusable.
    """
    detector = read_detector(source, context.device)
    indices = evaluation_indices(shards, split, rank=context.rank, world_size=context.world_size)
    loader = image_loader(shards, indices, batch_size=batch_size, workers=workers)
    return collect(loader, context, lambda pairs: _detect(task, detector, pairs))


def image_loader(
    shards: ShardSet, indices: Sequence[SampleIndex], *, batch_size: int, workers: int
) -> DataLoader[Any]:
    """Returns a loader of lists of `LoadedPair`."""
    return DataLoader(
        PairDataset([shards], _loaded),
        batch_size=batch_size,
        sampler=indices,
        num_workers=workers,
        collate_fn=list,
        **worker_options([shards] if workers else []),
    )


def _loaded(pair: Pair, rng: np.random.Generator) -> LoadedPair:
    return LoadedPair(pair.key, pair.caption_index, bytes(pair.image), pair.caption)


def _detect(
    task: DetectorTask, detector: Detector, pairs: Sequence[LoadedPair]
) -> list[CaptionResult]:
    pairs = [pair for pair in pairs if not pair.caption.is_absent()]
    if not pairs:
        return []
    images = [pair.open_image() for pair in pairs]
    prompts = [Prompt(pair.caption.text, task.phrases(pair.caption)) for pair in pairs]
    return [
        _result(task, pair.key, pair.caption_index, pair.caption, list(map(_best_first, phrases)))
        for pair, phrases in zip(pairs, detector.detect(images, prompts), strict=True)
    ]


def _best_first(detections: Detections) -> Detections:
    order = detections.scores.argsort(descending=True, stable=True)
    return Detections(detections.boxes[order], detections.scores[order])


def read_captions(
    task: DetectorTask, path: Path, shards: ShardSet, split: str
) -> tuple[list[CaptionResult], int]:
    """Returns the results of a file of predictions, and how many phrases it lacks.

    A phrase without an entry has no boxes.

    Raises:
        OSError: the file cannot be read.
        ValueError: an entry is invalid or of a phrase that the split does not have.
    """
    predictions = PhrasePredictions(path)
    phrases_of_caption = {
        (key, index): [PhraseKey(key, index, n) for n in range(len(task.phrases(caption)))]
        for key, index, caption in _captions(shards, split)
    }
    missing = predictions.check(
        phrase for phrases in phrases_of_caption.values() for phrase in phrases
    )
    results = []
    for key, index, caption in _captions(shards, split):
        detections = [predictions.detections(phrase) for phrase in phrases_of_caption[key, index]]
        results.append(_result(task, key, index, caption, detections))
    return results, missing


def _captions(shards: ShardSet, split: str) -> Iterator[tuple[str, int, Caption]]:
    for stored in ShardReader(shards).samples(split):
        for index, caption in enumerate(stored.sample.captions):
            if not caption.is_absent():
                yield stored.sample.key, index, caption


def _result(
    task: DetectorTask,
    key: str,
    caption_index: int,
    caption: Caption,
    detections: Sequence[Detections],
) -> CaptionResult:
    words = Prompt(caption.text, task.phrases(caption)).words()
    entries = []
    for number, (phrase, boxes, scores) in enumerate(
        (phrase, *of_phrase) for phrase, of_phrase in zip(words, detections, strict=True)
    ):
        best = slice(MAX_PREDICTED_BOXES)
        entries.append(
            {
                "key": key,
                "caption_index": caption_index,
                "caption": caption.text,
                "phrase_index": number,
                "phrase": phrase,
                "boxes": [[round(side, 2) for side in box] for box in boxes[best].tolist()],
                "scores": [round(score, 5) for score in scores[best].tolist()],
            }
        )
    return CaptionResult(task.score_detections(caption, detections), entries)
