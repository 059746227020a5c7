"""Processor: creates inputs and labels, and converts outputs to boxes and phrases."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoProcessor, ProcessorMixin

from .box_ops import xyxy_to_cxcywh
from .configuration_mdetr import MdetrConfig
from .positive_map import NUM_TOKEN_POSITIONS, TokenRule, positive_map
from .postprocess import (
    boxes_in_pixels,
    final_scores,
    object_scores,
    predicted_answers,
    spans_of_tokens,
)

Span = tuple[int, int]
Box = tuple[float, float, float, float]


class MdetrProcessor(ProcessorMixin):
    """An image processor and a fast tokenizer.

    Captions are truncated to 256 tokens, the number of token positions that can be predicted; spans
    after the truncation are dropped and counted by ``make_labels``.
    """

    text_kwargs = {"padding": True, "truncation": True, "max_length": NUM_TOKEN_POSITIONS}

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        super().__init__(image_processor, tokenizer)

    def make_labels(
        self,
        text: Sequence[str],
        spans: Sequence[Sequence[Sequence[Span]]],
        boxes: Sequence[Sequence[Box]],
        sizes: Sequence[tuple[int, int]],
        rule: TokenRule = "paper",
    ) -> dict[str, Tensor]:
        """Returns the labels that ``MdetrCriterion`` takes, for B captions of up to N boxes.

        Args:
            text: the captions.
            spans: by caption and box, half-open character spans.
            boxes: by caption, xyxy in pixels.
            sizes: height and width of the image of each caption.
            rule: see ``positive_map``.

        Returns:
            ``boxes`` (B, N, 4) as cxcywh, 0 to 1, padded with zeros; ``box_mask`` (B, N), False
            for padding; ``positive_map`` (B, N, 256) boolean; ``dropped_spans`` (B,), the number of
            spans of each caption that have no token.

        Raises:
            ValueError: the numbers of a caption's boxes and spans differ, an image has no height or
                width, or a box ends before it begins.
        """
        max_boxes = max((len(caption_boxes) for caption_boxes in boxes), default=0)
        labels = {
            "boxes": torch.zeros(len(text), max_boxes, 4),
            "box_mask": torch.zeros(len(text), max_boxes, dtype=torch.bool),
            "positive_map": torch.zeros(
                len(text), max_boxes, NUM_TOKEN_POSITIONS, dtype=torch.bool
            ),
            "dropped_spans": torch.zeros(len(text), dtype=torch.int64),
        }
        captions = zip(self._offsets(text), spans, boxes, sizes, strict=True)
        for item, (offsets, box_spans, corners, (height, width)) in enumerate(captions):
            if len(box_spans) != len(corners):
                raise ValueError(f"caption {item}: {len(corners)} boxes, spans of {len(box_spans)}")
            if height <= 0 or width <= 0:
                raise ValueError(f"caption {item}: an image of height {height}, width {width}")
            pixels = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
            if not (pixels[:, 2:] >= pixels[:, :2]).all():
                raise ValueError(f"caption {item}: a box ends before it begins: {list(corners)}")
            scale = torch.tensor([width, height, width, height])
            tokens = positive_map(offsets, box_spans, rule)
            rows = slice(0, len(corners))
            labels["boxes"][item, rows] = xyxy_to_cxcywh(pixels / scale)
            labels["box_mask"][item, rows] = True
            labels["positive_map"][item, rows] = torch.from_numpy(tokens.rows)
            labels["dropped_spans"][item] = tokens.dropped_spans
        return labels

    def post_process_grounded_object_detection(
        self,
        outputs: Any,
        threshold: float = 0.7,
        target_sizes: Tensor | Sequence[tuple[int, int]] | None = None,
        text: Sequence[str] | None = None,
        text_threshold: float = 0.1,
    ) -> list[dict[str, Any]]:
        """Returns the objects of each image, with the parts of the caption that name them.

        The score is the probability of an object; if the model has ``is_final``, the probability
        that the whole caption refers to it.

        Args:
            outputs: with ``logits`` (B, Q, 256), ``pred_boxes`` (B, Q, 4), for some models
                ``is_final`` (B, Q) and, without ``text``, ``input_ids`` (B, T).
            threshold: objects of a higher score are returned.
            target_sizes: height and width of each image; default: boxes stay 0 to 1.
            text: the captions; default: decoded from ``input_ids``, which is exact for byte-level
                tokenizers such as RoBERTa's. Others may lose case or whitespace: pass the captions
                to get the original phrases and spans.
            text_threshold: an object is named by the tokens with a higher probability.

        Returns:
            For each image ``scores`` (K,) and ``boxes`` (K, 4) as xyxy, best first, and K
            ``text_labels`` with the half-open character ``spans`` of each: its parts, joined by a
            space in the label. Both may be empty for an object.

        Raises:
            ValueError: there are not as many captions or sizes as images, or the captions cannot be
                decoded from ``input_ids``.
        """
        logits, boxes = outputs.logits.detach().float(), outputs.pred_boxes.detach().float()
        if target_sizes is None:
            target_sizes = torch.ones(len(logits), 2)
        if text is None:
            text = self._decoded_captions(outputs.input_ids)
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
            queries = order[item, scores[item] > threshold]
            is_named_by = probabilities[item, queries, : len(offsets)] > text_threshold
            spans = spans_of_tokens(is_named_by.numpy(), offsets)
            results.append(
                {
                    "scores": scores[item, : len(queries)],
                    "boxes": boxes[item, queries],
                    "text_labels": [" ".join(caption[a:b] for a, b in parts) for parts in spans],
                    "spans": spans,
                }
            )
        return results

    def post_process_answers(self, outputs: Any) -> list[dict[str, Any]]:
        """Returns the answer to each question.

        Args:
            outputs: of ``MdetrForQuestionAnswering``, with ``answers``: logits by head.

        Returns:
            For each question ``type``, the name of the head that answers it (``total`` if there is
            one for all), and ``answer``, the index of its answer; for ``binary``, 1 is yes.

        Raises:
            ValueError: the outputs have no answers.
        """
        logits = getattr(outputs, "answers", None)
        if not logits:
            raise ValueError("outputs without answers; MdetrForQuestionAnswering has them")
        return [{"type": head, "answer": index} for head, index in predicted_answers(logits)]

    def _decoded_captions(self, input_ids: Tensor) -> list[str]:
        """Returns the captions of token ids (B, T), checked by tokenizing them again."""
        decoded = self.tokenizer.batch_decode(
            input_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        # After truncation, the last character may lack bytes.
        captions = [caption.rstrip("\ufffd") for caption in decoded]
        encoded = self.tokenizer(captions, truncation=True, max_length=NUM_TOKEN_POSITIONS)
        tokenized = zip(input_ids.tolist(), encoded["input_ids"], strict=True)
        for item, (original, again) in enumerate(tokenized):
            # The last token is the end of the text, which comes later in a truncated caption.
            if original[: len(again) - 1] != again[:-1]:
                raise ValueError(
                    f"the tokens of image {item} read {captions[item]!r}, which has other "
                    "tokens; give the captions as text"
                )
        return captions

    def _offsets(self, text: Sequence[str]) -> list[np.ndarray]:
        """Returns the characters (T, 2) of each token of each caption."""
        encoded = self.tokenizer(
            list(text),
            truncation=True,
            max_length=NUM_TOKEN_POSITIONS,
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        return [np.array(offsets).reshape(-1, 2) for offsets in encoded["offset_mapping"]]


AutoProcessor.register(MdetrConfig, MdetrProcessor)
