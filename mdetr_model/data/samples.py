"""From a pair, an image with one caption, to what a training step and the evaluators take.

Data workers do all of it: a step neither tokenizes nor loops over boxes. Images travel as bytes
and are normalized where the model is.

Shapes: B images with their captions, V different views of images, T tokens, N boxes,
P phrases, 256 token positions.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from mdetr_model.data.answers import AnswerVocabulary
from mdetr_model.data.transforms import Augmentation, View, pixels_of_view
from mdetr_model.modeling.box_ops import xyxy_to_cxcywh
from mdetr_model.modeling.positive_map import COLUMNS, Rules, positive_map
from schemas import Caption, Phrase, Question, Span
from shards.sampling.dataset import Pair

# Images whose pixels are kept: the captions of an image stand among those of other shard sets.
RECENT = 4


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What an evaluator compares the predictions for a pair with.

    Attributes:
        size: height and width of the whole image, in pixels.
        caption: its text.
        phrases: of the caption, with boxes as xyxy in those pixels.
        positive_map: (P, 256) boolean, the tokens of each phrase.
    """

    size: tuple[int, int]
    caption: str
    phrases: list[Phrase]
    positive_map: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSample:
    """A pair as the model takes it.

    Attributes:
        key, number: the pair's: of its image, and which of its captions it is.
        pixels: (3, H, W) uint8 RGB.
        input_ids: (T,) int64, at most 256.
        boxes: (N, 4) float32 as cxcywh, 0 to 1.
        positive_map: (N, 256) boolean, the tokens of each box.
        dropped_spans: how many spans name no token, most of them for lying behind the 256th.
        answers: the number of the right answer by head, where the model answers questions.
        unknown_answer: whether it is none of those that the model can give.
        question: the caption's, if it is one.
        reference: where evaluation was asked for.
    """

    key: str
    number: int
    pixels: Tensor
    input_ids: Tensor
    boxes: Tensor
    positive_map: Tensor
    dropped_spans: int
    answers: dict[str, int]
    unknown_answer: bool
    question: Question | None = None
    reference: Reference | None = None


@dataclass(slots=True)
class TrainingSampleBuilder:
    """Makes examples of pairs.

    Captions of one image that come soon after one another and see it alike share their pixels.

    Boxes of crowds are left out, as in published training, and so are those that have no area
    within the image; a pair of which no box remains is an example without boxes.

    Attributes:
        tokenizer: a fast one.
        augmentation: how the image is seen.
        answers: those of a model that answers questions.
        evaluation: whether examples have a reference.
        rules: see ``positive_map``.
    """

    tokenizer: PreTrainedTokenizerBase
    augmentation: Augmentation
    answers: AnswerVocabulary | None = None
    evaluation: bool = False
    rules: Rules = "paper"
    _recent: OrderedDict[tuple[str, View], Tensor] = field(
        default_factory=OrderedDict, init=False, repr=False
    )

    def __call__(self, pair: Pair, rng: np.random.Generator) -> TrainingSample:
        """The example of a pair: the same for the same state of the generator.

        Raises:
            ValueError: the image cannot be used, or the question is none of those that the
                answers are for.
        """
        caption, size = pair.caption, (pair.width, pair.height)
        regions = [region for region in caption.regions if not region.crowd]
        corners = np.array([region.box for region in regions], np.float64).reshape(-1, 4)
        question = caption.question
        # "On which side is the dog?" names none, its answer does.
        said = f"{caption.text} {question.answer or ''}" if question else caption.text
        view = self.augmentation.view(*size, corners, said, rng)
        boxes = view.of_boxes(corners)
        kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(-1))

        encoded = self.tokenizer(
            caption.text,
            truncation=True,
            max_length=COLUMNS,
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        offsets = np.array(encoded["offset_mapping"])
        tokens = positive_map(offsets, [regions[i].spans for i in kept], self.rules)
        return TrainingSample(
            key=pair.key,
            number=pair.number,
            pixels=self._pixels(pair, view),
            input_ids=torch.tensor(encoded["input_ids"], dtype=torch.int64),
            boxes=xyxy_to_cxcywh(torch.from_numpy(boxes[kept])),
            positive_map=torch.from_numpy(tokens.rows),
            dropped_spans=tokens.dropped,
            answers=self.answers.labels(question) if self.answers else {},
            unknown_answer=self._cannot_answer(question),
            question=question,
            reference=self._reference(pair, offsets) if self.evaluation else None,
        )

    def _cannot_answer(self, question: Question | None) -> bool:
        if self.answers is None or question is None or question.answer is None:
            return False
        return not self.answers.knows(question)

    def _pixels(self, pair: Pair, view: View) -> Tensor:
        seen = pair.key, view
        if seen not in self._recent:
            pixels = pixels_of_view(pair.image, pair.key, pair.width, pair.height, view)
            self._recent[seen] = torch.from_numpy(pixels).permute(2, 0, 1)
            if len(self._recent) > RECENT:
                self._recent.popitem(last=False)
        self._recent.move_to_end(seen)
        return self._recent[seen]

    def _reference(self, pair: Pair, offsets: np.ndarray) -> Reference:
        phrases = phrases_of(pair.caption)
        rows = positive_map(offsets, [phrase.spans for phrase in phrases], self.rules).rows
        size = pair.height, pair.width
        return Reference(size, pair.caption.text, phrases, torch.from_numpy(rows))


def phrases_of(caption: Caption) -> list[Phrase]:
    """The phrases to be grounded, with all boxes of each.

    They are those that the caption states; otherwise the regions of the same spans are one phrase,
    and a region without spans is of none.
    """
    if caption.phrases:
        return caption.phrases
    phrases: dict[tuple[Span, ...], Phrase] = {}
    for region in filter(lambda region: region.spans, caption.regions):
        assert region.box is not None  # those of a shard have one
        spans = sorted((begin, end) for begin, end in region.spans)
        phrase = phrases.setdefault(tuple(spans), Phrase(spans, entity="", types=[], boxes=[]))
        phrase.boxes.append(region.box)
    return list(phrases.values())


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Examples of one step.

    Attributes:
        pixels: (V, 3, H, W) uint8, padded with zeros on the right and at the bottom; a pixel's
            channels lie together in memory, as images have them and convolutions like them.
            Examples that share their pixels have them once.
        pixel_mask: (V, H, W) boolean, False on the padding.
        image_index: (B,) int64, which of the V views an example has.
        input_ids: (B, T) int64, padded.
        attention_mask: (B, T) int64, 0 on the padding.
        labels: what ``MdetrCriterion`` takes: ``boxes`` (B, N, 4) as cxcywh, 0 to 1;
            ``box_mask`` (B, N), False for padding; ``positive_map`` (B, N, 256) boolean.
        answers: the rest of what it takes, (B,) int64 by head; empty of a model that does not
            answer questions.
        keys, numbers, questions, references: of each example.
        dropped_spans, unknown_answers: how many, of all examples.
        padding: the share of the pixels that is padding.
    """

    pixels: Tensor
    pixel_mask: Tensor
    image_index: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    labels: dict[str, Tensor]
    answers: dict[str, Tensor]
    keys: list[str]
    numbers: list[int]
    questions: list[Question | None]
    references: list[Reference | None]
    dropped_spans: int
    unknown_answers: int
    padding: float

    def inputs(self) -> dict[str, Tensor]:
        """What models take, by the names of their arguments."""
        return {
            "pixel_values": normalized(self.pixels, self.pixel_mask),
            "pixel_mask": self.pixel_mask,
            "image_index": self.image_index,
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
        }

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """On a device, but for the references: evaluators work on the host."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """In memory that devices copy from on their own; data loaders call this."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            pixels=change(self.pixels),
            pixel_mask=change(self.pixel_mask),
            image_index=change(self.image_index),
            input_ids=change(self.input_ids),
            attention_mask=change(self.attention_mask),
            labels={name: change(label) for name, label in self.labels.items()},
            answers={head: change(answer) for head, answer in self.answers.items()},
        )


def collate(examples: Sequence[TrainingSample], pad_id: int) -> Batch:
    """One batch of at least one example.

    Args:
        pad_id: the tokenizer's ``pad_token_id``.
    """
    images = list({id(example.pixels): example.pixels for example in examples}.values())
    number = {id(image): item for item, image in enumerate(images)}
    height, width = (max(image.shape[side] for image in images) for side in (1, 2))
    pixels = torch.zeros(len(images), height, width, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    pixel_mask = torch.zeros(len(images), height, width, dtype=torch.bool)
    for item, image in enumerate(images):
        _, bottom, right = image.shape
        pixels[item, :, :bottom, :right] = image
        pixel_mask[item, :bottom, :right] = True
    seen = sum(image[0].numel() for image in images)
    return Batch(
        pixels=pixels,
        pixel_mask=pixel_mask,
        image_index=torch.tensor([number[id(example.pixels)] for example in examples]),
        input_ids=_padded([example.input_ids for example in examples], pad_id),
        attention_mask=_padded([torch.ones_like(example.input_ids) for example in examples]),
        labels={
            "boxes": _padded([example.boxes for example in examples]),
            "box_mask": _padded([torch.ones(len(e.boxes), dtype=torch.bool) for e in examples]),
            "positive_map": _padded([example.positive_map for example in examples]),
        },
        answers={
            head: torch.tensor([example.answers[head] for example in examples])
            for head in examples[0].answers
        },
        keys=[example.key for example in examples],
        numbers=[example.number for example in examples],
        questions=[example.question for example in examples],
        references=[example.reference for example in examples],
        dropped_spans=sum(example.dropped_spans for example in examples),
        unknown_answers=sum(example.unknown_answer for example in examples),
        padding=1 - seen / pixel_mask.numel(),
    )


def _padded(rows: list[Tensor], value: int = 0) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)


def normalized(
    pixels: Tensor,
    pixel_mask: Tensor,
    mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
    std: Sequence[float] = IMAGENET_DEFAULT_STD,
) -> Tensor:
    """Pixels (B, 3, H, W) as the model takes them: float32, and 0 on the padding.

    Args:
        pixels: uint8.
        pixel_mask: (B, H, W), False on the padding.
        mean, std: of each channel, of pixels from 0 to 1.
    """
    center, scale = pixels.new_tensor([mean, std], dtype=torch.float32)[..., None, None] * 255
    return pixels.float().sub_(center).div_(scale).mul_(pixel_mask[:, None])
