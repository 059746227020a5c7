"""Converts pairs (image bytes with one caption) to training samples, and collates batches.

Data workers do all of this: a training step neither tokenizes nor loops over boxes. Images are
transferred as uint8 and normalized on the model's device.

Shapes: B captions, V distinct images of a batch, T tokens, N boxes, P phrases, 256 token positions.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from mdetr_model.data.answers import AnswerVocabulary
from mdetr_model.data.transforms import (
    CropResizeFlip,
    EvalTransform,
    TrainTransform,
    decode_transformed,
)
from mdetr_model.modeling.box_ops import xyxy_to_cxcywh
from mdetr_model.modeling.host_copy import to_device
from mdetr_model.modeling.positive_map import NUM_TOKEN_POSITIONS, positive_map
from schemas import Caption, Phrase, Question, Span
from shards.reading.reader import Pair

# Size of the cache of decoded images: pairs of other shard sets may be between captions of an
# image.
CACHED_IMAGES = 4


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """The ground truth of a pair, for evaluators.

    Attributes:
        size: height and width of the original image in pixels.
        caption: the text.
        phrases: the phrases to ground, with boxes as xyxy in those pixels.
        positive_map: (P, 256) boolean, the tokens of each phrase.
        absent: the phrases that name nothing in the image.
        absent_map: (A, 256) boolean, their tokens.
        is_absent: whether the caption is made of such phrases only.
    """

    size: tuple[int, int]
    caption: str
    phrases: list[Phrase]
    positive_map: Tensor
    absent: list[str] = field(default_factory=list)
    absent_map: Tensor = field(
        default_factory=lambda: torch.zeros(0, NUM_TOKEN_POSITIONS, dtype=torch.bool)
    )
    is_absent: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSample:
    """One caption with its image, as the model takes them.

    Attributes:
        key, caption_index: the key of the pair's image, and the index of its caption.
        pixels: (3, H, W) uint8 RGB.
        input_ids: (T,) int64, at most 256.
        boxes: (N, 4) float32 as cxcywh, 0 to 1.
        positive_map: (N, 256) boolean, the tokens of each box.
        dropped_spans: number of spans without a token, most of them after the 256th.
        answers: the index of the right answer by head, for a question answering model.
        unknown_answer: whether the right answer is missing from the model's vocabulary.
        question: the caption's, if it is a question.
        ground_truth: only for evaluation.
    """

    key: str
    caption_index: int
    pixels: Tensor
    input_ids: Tensor
    boxes: Tensor
    positive_map: Tensor
    dropped_spans: int
    answers: dict[str, int]
    unknown_answer: bool
    question: Question | None = None
    ground_truth: GroundTruth | None = None


@dataclass(slots=True)
class TrainingSampleBuilder:
    """Builds training samples from pairs.

    Nearby captions of one image that sample the same geometry share the pixel tensor.

    Crowd boxes are left out, as in published training, and so are boxes without area within the
    image; a pair that loses all its boxes becomes a sample without boxes.

    Attributes:
        tokenizer: a fast one.
        transform: the geometry of the image.
        answers: the vocabulary of a question answering model.
        evaluation: whether samples carry their ground truth.
    """

    tokenizer: PreTrainedTokenizerBase
    transform: TrainTransform | EvalTransform
    answers: AnswerVocabulary | None = None
    evaluation: bool = False
    _cache: OrderedDict[tuple[str, CropResizeFlip], Tensor] = field(
        default_factory=OrderedDict, init=False, repr=False
    )

    def __call__(self, pair: Pair, rng: np.random.Generator) -> TrainingSample:
        """Returns the sample of a pair, which depends on the generator's state alone.

        Raises:
            ValueError: the image is unusable, or the question does not fit the answer vocabulary.
        """
        caption, question = pair.caption, pair.caption.question
        regions = [region for region in caption.regions if not region.crowd]
        corners = np.array([region.box for region in regions], np.float64).reshape(-1, 4)
        # "On which side is the dog?" does not mention left or right, but its answer does.
        text = f"{caption.text} {question.answer or ''}" if question else caption.text
        geometry = self.transform.sample((pair.width, pair.height), corners, text, rng)
        boxes = geometry.transform_boxes(corners)
        with_area = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(-1))

        encoded = self.tokenizer(
            caption.text,
            truncation=True,
            max_length=NUM_TOKEN_POSITIONS,
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        offsets = np.array(encoded["offset_mapping"])
        tokens = positive_map(offsets, [regions[i].spans for i in with_area])
        return TrainingSample(
            key=pair.key,
            caption_index=pair.caption_index,
            pixels=self._pixels(pair, geometry),
            input_ids=torch.tensor(encoded["input_ids"], dtype=torch.int64),
            boxes=xyxy_to_cxcywh(torch.from_numpy(boxes[with_area])),
            positive_map=torch.from_numpy(tokens.rows),
            dropped_spans=tokens.dropped_spans,
            answers=self.answers.labels(question) if self.answers else {},
            unknown_answer=self._is_unknown(question),
            question=question,
            ground_truth=self._ground_truth(pair, offsets) if self.evaluation else None,
        )

    def collate(self, samples: Sequence[TrainingSample]) -> "Batch":
        """Collates at least one sample into a batch: the ``collate_fn`` of a ``DataLoader``."""
        return collate(samples, self.tokenizer.pad_token_id)

    def _is_unknown(self, question: Question | None) -> bool:
        if self.answers is None or question is None or question.answer is None:
            return False
        return not self.answers.knows(question)

    def _pixels(self, pair: Pair, geometry: CropResizeFlip) -> Tensor:
        cache_key = pair.key, geometry
        if cache_key not in self._cache:
            pixels = decode_transformed(pair.image, pair.key, (pair.width, pair.height), geometry)
            self._cache[cache_key] = torch.from_numpy(pixels).permute(2, 0, 1)
            if len(self._cache) > CACHED_IMAGES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(cache_key)
        return self._cache[cache_key]

    def _ground_truth(self, pair: Pair, offsets: npt.NDArray[np.int64]) -> GroundTruth:
        phrases = phrases_to_ground(pair.caption)
        rows = positive_map(offsets, [phrase.spans for phrase in phrases]).rows
        spans = [absent.span for absent in pair.caption.absent]
        absent_rows = positive_map(offsets, [[span] for span in spans]).rows
        return GroundTruth(
            size=(pair.height, pair.width),
            caption=pair.caption.text,
            phrases=phrases,
            positive_map=torch.from_numpy(rows),
            absent=[pair.caption.text[start:stop] for start, stop in spans],
            absent_map=torch.from_numpy(absent_rows),
            is_absent=pair.caption.is_absent(),
        )


def phrases_to_ground(caption: Caption) -> list[Phrase]:
    """Returns the phrases of a caption, each with all its boxes.

    They are those that the caption states; otherwise regions of equal spans form one phrase, and
    regions without spans belong to none.
    """
    if caption.phrases:
        return caption.phrases
    phrases: dict[tuple[Span, ...], Phrase] = {}
    for region in filter(lambda region: region.spans, caption.regions):
        spans = sorted((begin, end) for begin, end in region.spans)
        phrase = phrases.setdefault(tuple(spans), Phrase(spans, entity="", types=[], boxes=[]))
        phrase.boxes.append(region.box)
    return list(phrases.values())


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The samples of one forward pass.

    Attributes:
        pixels: (V, 3, H, W) uint8, zero-padded on the right and at the bottom, in channels_last
            memory layout. Samples that share their pixels have them here once.
        pixel_mask: (V, H, W) boolean, False on the padding.
        image_index: (B,) int64, the row of ``pixels`` for each sample.
        input_ids: (B, T) int64, padded.
        attention_mask: (B, T) int64, 0 on the padding.
        labels: what ``MdetrCriterion`` takes: ``boxes`` (B, N, 4) as cxcywh, 0 to 1;
            ``box_mask`` (B, N), False for padding; ``positive_map`` (B, N, 256) boolean.
        answers: its answer labels, (B,) int64 by head; empty for models without answer heads.
        keys, caption_indices, questions, ground_truths: one for each sample.
        dropped_spans, unknown_answers: totals over the samples.
        padding, caption_padding: the fractions of the pixels and of the tokens that are padding.
    """

    pixels: Tensor
    pixel_mask: Tensor
    image_index: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    labels: dict[str, Tensor]
    answers: dict[str, Tensor]
    keys: list[str]
    caption_indices: list[int]
    questions: list[Question | None]
    ground_truths: list[GroundTruth | None]
    dropped_spans: int
    unknown_answers: int
    padding: float
    caption_padding: float

    def inputs(self) -> dict[str, Any]:
        """Returns the arguments of the model's ``forward``, without labels.

        Masks are None where nothing is padded: attention without a mask is faster.
        """
        return {
            "pixel_values": normalize(self.pixels, self.pixel_mask),
            "pixel_mask": self.pixel_mask if self.padding else None,
            "image_index": self.image_index,
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask if self.caption_padding else None,
        }

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Returns the batch on a device; ground truths stay on the host for the evaluators."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Returns the batch in pinned memory; data loaders call this."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            pixels=function(self.pixels),
            pixel_mask=function(self.pixel_mask),
            image_index=function(self.image_index),
            input_ids=function(self.input_ids),
            attention_mask=function(self.attention_mask),
            labels={name: function(label) for name, label in self.labels.items()},
            answers={head: function(answer) for head, answer in self.answers.items()},
        )


def collate(samples: Sequence[TrainingSample], pad_id: int) -> Batch:
    """Collates at least one sample into a batch.

    Args:
        samples: of the batch, in order.
        pad_id: the tokenizer's ``pad_token_id``.
    """
    images = list({id(sample.pixels): sample.pixels for sample in samples}.values())
    row_of_image = {id(image): row for row, image in enumerate(images)}
    pixels, pixel_mask = _pad_images(images)
    attention_mask = _pad([torch.ones_like(sample.input_ids) for sample in samples])
    return Batch(
        pixels=pixels,
        pixel_mask=pixel_mask,
        image_index=torch.tensor([row_of_image[id(sample.pixels)] for sample in samples]),
        input_ids=_pad([sample.input_ids for sample in samples], pad_id),
        attention_mask=attention_mask,
        labels={
            "boxes": _pad([sample.boxes for sample in samples]),
            "box_mask": _pad([torch.ones(len(s.boxes), dtype=torch.bool) for s in samples]),
            "positive_map": _pad([sample.positive_map for sample in samples]),
        },
        answers={
            head: torch.tensor([sample.answers[head] for sample in samples])
            for head in samples[0].answers
        },
        keys=[sample.key for sample in samples],
        caption_indices=[sample.caption_index for sample in samples],
        questions=[sample.question for sample in samples],
        ground_truths=[sample.ground_truth for sample in samples],
        dropped_spans=sum(sample.dropped_spans for sample in samples),
        unknown_answers=sum(sample.unknown_answer for sample in samples),
        padding=1 - pixel_mask.sum().item() / pixel_mask.numel(),
        caption_padding=1 - attention_mask.sum().item() / attention_mask.numel(),
    )


def _pad_images(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pads images (3, H, W) to a common size; returns pixels (V, 3, H, W) and mask (V, H, W)."""
    height, width = (max(image.shape[side] for image in images) for side in (1, 2))
    pixels = torch.zeros(len(images), height, width, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    pixel_mask = torch.zeros(len(images), height, width, dtype=torch.bool)
    for row, image in enumerate(images):
        _, bottom, right = image.shape
        pixels[row, :, :bottom, :right] = image
        pixel_mask[row, :bottom, :right] = True
    return pixels, pixel_mask


def _pad(rows: list[Tensor], value: int = 0) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)


def normalize(
    pixels: Tensor,
    pixel_mask: Tensor,
    mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
    std: Sequence[float] = IMAGENET_DEFAULT_STD,
) -> Tensor:
    """Returns the model's ``pixel_values`` (B, 3, H, W): float32, and 0 on the padding.

    Args:
        pixels: (B, 3, H, W) uint8.
        pixel_mask: (B, H, W), False on the padding.
        mean, std: of each channel, for pixels from 0 to 1.
    """
    statistics = to_device(np.array([mean, std], np.float32), pixels.device)
    center, scale = statistics[..., None, None] * 255
    return pixels.float().sub_(center).div_(scale).mul_(pixel_mask[:, None])
