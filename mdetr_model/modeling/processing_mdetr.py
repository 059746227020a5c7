"""Processor: creates inputs and labels, and converts outputs to boxes and phrases."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoProcessor, ProcessorMixin

from .box_ops import xyxy_to_cxcywh
from .configuration_mdetr import MdetrConfig
from .labels import PADDING
from .positive_map import NUM_TOKEN_POSITIONS, TokenRule, positive_map
from .postprocess import (
    as_floats,
    as_threshold,
    boxes_in_pixels,
    image_sizes,
    predicted_answers,
    query_scores,
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
        text: str | Sequence[str],
        spans: Sequence[Sequence[Sequence[Span]]],
        boxes: Sequence[Sequence[Box]],
        sizes: Sequence[tuple[int, int]],
        rule: TokenRule = "paper",
    ) -> dict[str, Tensor]:
        """Returns the labels that ``MdetrCriterion`` takes, for B captions of up to N boxes.

        Evaluation with transformers' ``Trainer`` may pad them further with -100: a box is where
        ``box_mask`` is 1.

        Args:
            text: the captions, or a single one.
            spans: by caption and box, half-open character spans.
            boxes: by caption, xyxy in pixels; clipped to the image.
            sizes: height and width of the image of each caption.
            rule: see ``positive_map``.

        Returns:
            ``boxes`` (B, N, 4) as cxcywh, 0 to 1, padded with -100; ``box_mask`` (B, N) int64, 1
            for a box and 0 for padding; ``positive_map`` (B, N, 256) int8, 1 for the tokens of a
            box; ``dropped_spans`` (B,), the number of spans of each caption that have no token.

        Raises:
            ValueError: the numbers of captions, or of a caption's boxes and spans, differ; spans
                are not pairs; an image has no height or width; a box ends before it begins, or has
                no area within the image.
        """
        captions = _as_list(text)
        if not len(captions) == len(spans) == len(boxes):
            raise ValueError(
                f"{len(captions)} captions, with spans of {len(spans)} and boxes of {len(boxes)}"
            )
        max_boxes = max((len(caption_boxes) for caption_boxes in boxes), default=0)
        labels = {
            "boxes": torch.full((len(captions), max_boxes, 4), float(PADDING)),
            "box_mask": torch.zeros(len(captions), max_boxes, dtype=torch.int64),
            "positive_map": torch.zeros(
                len(captions), max_boxes, NUM_TOKEN_POSITIONS, dtype=torch.int8
            ),
            "dropped_spans": torch.zeros(len(captions), dtype=torch.int64),
        }
        rows = zip(
            self._offsets(captions), spans, boxes, image_sizes(sizes, len(captions)), strict=True
        )
        for item, (offsets, box_spans, corners, size) in enumerate(rows):
            if len(box_spans) != len(corners):
                raise ValueError(f"caption {item}: {len(corners)} boxes, spans of {len(box_spans)}")
            tokens = positive_map(offsets, _span_pairs(item, box_spans), rule)
            labels["boxes"][item, : len(corners)] = _relative_boxes(item, corners, size)
            labels["box_mask"][item, : len(corners)] = 1
            labels["positive_map"][item, : len(corners)] = torch.from_numpy(tokens.rows)
            labels["dropped_spans"][item] = tokens.dropped_spans
        return labels

    def post_process_grounded_object_detection(
        self,
        outputs: Any,
        threshold: float = 0.7,
        target_sizes: Tensor | Sequence[tuple[int, int]] | None = None,
        text: str | Sequence[str] | None = None,
        text_threshold: float = 0.1,
    ) -> list[dict[str, Any]]:
        """Returns the objects of each image, with the parts of the caption that name them.

        The score is the probability of an object; if the model has ``is_final``, the probability
        that the whole caption refers to it.

        Args:
            outputs: with ``logits`` (B, Q, 256), ``pred_boxes`` (B, Q, 4), for some models
                ``is_final`` (B, Q) and, without ``text``, ``input_ids`` (B, T).
            threshold: objects of a higher score are returned.
            target_sizes: height and width of each image, as a tensor, or a list of pairs or
                tensors; default: boxes stay 0 to 1.
            text: the captions, or that of a single image; default: decoded from ``input_ids``,
                which is exact for byte-level tokenizers such as RoBERTa's. Others may lose case or
                whitespace: pass the captions to get the original phrases and spans.
            text_threshold: an object is named by the tokens with a higher probability.

        Returns:
            For each image ``scores`` (K,) and ``boxes`` (K, 4) as xyxy, best first, and K
            ``text_labels`` with the half-open character ``spans`` of each: its parts, joined by a
            space in the label. Both may be empty for an object.

        Raises:
            ValueError: there are not as many captions or sizes as images, a threshold is no number,
                or the captions cannot be decoded from ``input_ids``.
        """
        threshold = as_threshold("threshold", threshold)
        text_threshold = as_threshold("text_threshold", text_threshold)
        logits, boxes = (as_floats(values) for values in (outputs.logits, outputs.pred_boxes))
        captions = self._decoded_captions(outputs.input_ids) if text is None else _as_list(text)
        if len(captions) != len(logits):
            raise ValueError(f"{len(logits)} images, {len(captions)} captions")
        boxes = boxes_in_pixels(boxes, image_sizes(target_sizes, len(boxes))).cpu()
        scores, order = query_scores(outputs).cpu().sort(descending=True, stable=True)
        probabilities = logits.softmax(-1).cpu()
        results = []
        for item, (caption, offsets) in enumerate(
            zip(captions, self._offsets(captions), strict=True)
        ):
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

    def post_process_object_detection(
        self, outputs: Any, threshold: float = 0.5, target_sizes: Any = None
    ) -> list[dict[str, Any]]:
        """Returns scores and boxes as ``MdetrImageProcessor.post_process_object_detection``."""
        return self.image_processor.post_process_object_detection(outputs, threshold, target_sizes)

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
        """Returns the captions of token ids (B, T), checked by tokenizing them again.

        Negative ids are padding, as transformers' ``Trainer`` adds it.
        """
        input_ids = torch.as_tensor(input_ids)
        input_ids = input_ids.masked_fill(input_ids < 0, self.tokenizer.pad_token_id)
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


def _as_list(text: str | Sequence[str]) -> list[str]:
    """Returns captions as a list; a single one may be a ``str``, whose characters are none."""
    captions = [text] if isinstance(text, str) else list(text)
    for caption in captions:
        if not isinstance(caption, str):
            raise ValueError(f"a caption is a str, not {type(caption).__name__}: {caption!r}")
    return captions


def _span_pairs(item: int, spans: Sequence[Sequence[Span]]) -> list[list[Span]]:
    try:
        return [[(int(begin), int(end)) for begin, end in box_spans] for box_spans in spans]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"caption {item}: spans {spans!r}; expected a list of (begin, end) for each box"
        ) from error


def _relative_boxes(item: int, corners: Sequence[Box], size: Tensor) -> Tensor:
    """Converts the boxes of a caption to cxcywh (N, 4), 0 to 1, clipped to the image.

    Args:
        item: number of the caption, for errors.
        corners: xyxy in pixels.
        size: height and width of the image.
    """
    try:
        rows = [torch.as_tensor(box, dtype=torch.float32, device="cpu") for box in corners]
        boxes = torch.stack(rows).reshape(-1, 4) if rows else torch.zeros(0, 4)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"caption {item}: boxes {corners!r}; expected left, top, right, bottom of each"
        ) from error
    scale = size.flip(0).repeat(2)
    clipped = torch.minimum(boxes.clamp(min=0), scale)
    has_area = (clipped[:, 2:] > clipped[:, :2]).all(-1)
    for box, ordered, is_valid in zip(
        boxes, (boxes[:, 2:] >= boxes[:, :2]).all(-1), has_area, strict=True
    ):
        if not ordered:
            raise ValueError(f"caption {item}: a box ends before it begins: {_text(box)}")
        if not is_valid:
            height, width = size.tolist()
            raise ValueError(
                f"caption {item}: a box without area in an image of {width:g} x {height:g} "
                f"pixels: {_text(box)}"
            )
    return xyxy_to_cxcywh(clipped / scale)


def _text(box: Tensor) -> str:
    return f"({', '.join(f'{side:g}' for side in box.tolist())})"


AutoProcessor.register(MdetrConfig, MdetrProcessor)
