"""Images and captions in, grounded phrases out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoProcessor, ProcessorMixin

from mdetr_model.modeling.answer_losses import given_answers
from mdetr_model.modeling.box_ops import xyxy_to_cxcywh
from mdetr_model.modeling.configuration_mdetr import MdetrConfig
from mdetr_model.modeling.positive_map import COLUMNS, Rules, positive_map
from mdetr_model.modeling.postprocess import (
    boxes_in_pixels,
    final_scores,
    object_scores,
    spans_of_tokens,
)

Span = tuple[int, int]
Box = tuple[float, float, float, float]


class MdetrProcessor(ProcessorMixin):
    """An image processor and a fast tokenizer.

    Captions of more than 256 tokens are cut, for there are no more token positions to predict; the
    spans behind the cut are dropped and counted by ``labels``.
    """

    text_kwargs = {"padding": True, "truncation": True, "max_length": COLUMNS}

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        super().__init__(image_processor, tokenizer)

    def labels(
        self,
        text: Sequence[str],
        spans: Sequence[Sequence[Sequence[Span]]],
        boxes: Sequence[Sequence[Box]],
        sizes: Sequence[tuple[int, int]],
        rules: Rules = "paper",
    ) -> dict[str, Tensor]:
        """What ``MdetrCriterion`` compares the outputs with, for B captions of up to N boxes.

        Args:
            text: the captions.
            spans: by caption and box, half-open character spans.
            boxes: by caption, xyxy in pixels.
            sizes: height and width of each image, to which the boxes belong.
            rules: see ``positive_map``.

        Returns:
            ``boxes`` (B, N, 4) as cxcywh, 0 to 1, padded with zeros; ``box_mask`` (B, N), False
            for padding; ``positive_map`` (B, N, 256) boolean; ``dropped_spans`` (B,), how many spans
            of a caption name no token.

        Raises:
            ValueError: a caption has not as many boxes as it has spans of boxes, an image has no
                height or no width, or a box ends before it begins.
        """
        number = max((len(of_caption) for of_caption in boxes), default=0)
        labels = {
            "boxes": torch.zeros(len(text), number, 4),
            "box_mask": torch.zeros(len(text), number, dtype=torch.bool),
            "positive_map": torch.zeros(len(text), number, COLUMNS, dtype=torch.bool),
            "dropped_spans": torch.zeros(len(text), dtype=torch.int64),
        }
        captions = zip(self._offsets(text), spans, boxes, sizes, strict=True)
        for item, (offsets, of_boxes, corners, (height, width)) in enumerate(captions):
            if len(of_boxes) != len(corners):
                raise ValueError(f"caption {item}: {len(corners)} boxes, spans of {len(of_boxes)}")
            if height <= 0 or width <= 0:
                raise ValueError(f"caption {item}: an image of height {height}, width {width}")
            pixels = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
            if not (pixels[:, 2:] >= pixels[:, :2]).all():
                raise ValueError(f"caption {item}: a box ends before it begins: {list(corners)}")
            scale = torch.tensor([width, height, width, height])
            tokens = positive_map(offsets, of_boxes, rules)
            real = slice(0, len(corners))
            labels["boxes"][item, real] = xyxy_to_cxcywh(pixels / scale)
            labels["box_mask"][item, real] = True
            labels["positive_map"][item, real] = torch.from_numpy(tokens.rows)
            labels["dropped_spans"][item] = tokens.dropped
        return labels

    def post_process_grounding(
        self,
        outputs: Any,
        threshold: float = 0.7,
        target_sizes: Tensor | Sequence[tuple[int, int]] | None = None,
        text: Sequence[str] | None = None,
        token_threshold: float = 0.1,
    ) -> list[dict[str, Any]]:
        """The objects found in each image, and the words of the caption that name them.

        A score is how probable an object is; where the model tells what the whole caption refers to
        (``is_final``) from what it only mentions, how probable it is that this is referred to.

        Args:
            outputs: with ``logits`` (B, Q, 256), ``pred_boxes`` (B, Q, 4), of some models
                ``is_final`` (B, Q) and, without ``text``, ``input_ids`` (B, T).
            threshold: objects of a higher score are kept.
            target_sizes: height and width of each image; default: boxes stay 0 to 1.
            text: the captions; default: as ``input_ids`` have them, which byte-level tokenizers
                such as RoBERTa's give back character for character. Others lose capitals or
                spaces: to have phrases and spans of the caption as it was, give it.
            token_threshold: an object is named by the tokens more probable than this.

        Returns:
            For each image ``scores`` (K,) and ``boxes`` (K, 4) as xyxy, best first, and as many
            ``phrases`` with the half-open character ``spans`` of each: its parts, joined by a
            space in the phrase. An object may have none.

        Raises:
            ValueError: there are not as many captions or sizes as images, or ``input_ids`` do
                not tell what the caption was.
        """
        logits, boxes = outputs.logits.detach().float(), outputs.pred_boxes.detach().float()
        if target_sizes is None:
            target_sizes = torch.ones(len(logits), 2)
        if text is None:
            text = self._captions(outputs.input_ids)
        if not len(text) == len(target_sizes) == len(logits):
            raise ValueError(
                f"{len(logits)} images, {len(text)} captions, {len(target_sizes)} target sizes"
            )
        boxes = boxes_in_pixels(boxes, torch.as_tensor(target_sizes, device=boxes.device)).cpu()
        scores = object_scores(logits)
        if getattr(outputs, "is_final", None) is not None:
            scores = final_scores(logits, outputs.is_final.detach().float())
        scores, order = scores.cpu().sort(descending=True, stable=True)
        probabilities = logits.softmax(-1).cpu()
        results = []
        for item, (caption, offsets) in enumerate(zip(text, self._offsets(text), strict=True)):
            kept = order[item, scores[item] > threshold]
            chosen = probabilities[item, kept, : len(offsets)] > token_threshold
            spans = spans_of_tokens(chosen.numpy(), offsets)
            results.append(
                {
                    "scores": scores[item, : len(kept)],
                    "boxes": boxes[item, kept],
                    "phrases": [" ".join(caption[a:b] for a, b in parts) for parts in spans],
                    "spans": spans,
                }
            )
        return results

    def post_process_answers(self, outputs: Any) -> list[dict[str, Any]]:
        """The answer to each question.

        Args:
            outputs: of ``MdetrForQuestionAnswering``, with ``answers``: logits by head.

        Returns:
            For each question ``type``, the name of the head that answers it (``total`` where there
            is one for all), and ``answer``, the index of its answer; of ``binary``, 1 is yes.

        Raises:
            ValueError: the outputs have no answers.
        """
        logits = getattr(outputs, "answers", None)
        if not logits:
            raise ValueError("outputs without answers; MdetrForQuestionAnswering has them")
        return [{"type": head, "answer": index} for head, index in given_answers(logits)]

    def _captions(self, input_ids: Tensor) -> list[str]:
        """The captions that these tokens (B, T) are of."""
        decoded = self.tokenizer.batch_decode(
            input_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        # Where a caption was cut, the last character may lack bytes.
        captions = [caption.rstrip("\ufffd") for caption in decoded]
        again = self.tokenizer(captions, truncation=True, max_length=COLUMNS)["input_ids"]
        for item, (given, tokens) in enumerate(zip(input_ids.tolist(), again, strict=True)):
            # The last one is the end, which comes later where the caption was cut.
            if given[: len(tokens) - 1] != tokens[:-1]:
                raise ValueError(
                    f"the tokens of image {item} read {captions[item]!r}, which has other "
                    "tokens; give the captions as text"
                )
        return captions

    def _offsets(self, text: Sequence[str]) -> list[np.ndarray]:
        """The characters (T, 2) of each token of each caption."""
        encoded = self.tokenizer(
            list(text),
            truncation=True,
            max_length=COLUMNS,
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        return [np.array(offsets).reshape(-1, 2) for offsets in encoded["offset_mapping"]]


AutoProcessor.register(MdetrConfig, MdetrProcessor)
