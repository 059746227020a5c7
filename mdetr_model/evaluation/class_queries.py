"""Detection of the objects of many classes in an image: one caption per class.

Shapes: C classes, T tokens, Q queries, D channels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mdetr_model.evaluation.metrics.class_detections import ClassDetections
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding
from mdetr_model.modeling.positive_map import NUM_TOKEN_POSITIONS
from mdetr_model.modeling.postprocess import boxes_in_pixels, object_scores


class ClassQueries:
    """A model that detects each of many classes.

    The captions are encoded once, and an image once for all of them; only the joint transformer
    runs for each pair of image and caption.

    Args:
        model: a grounding model.
        tokenizer: the model's.
        names: the captions, one per class; the end of one of more than 256 tokens is not read.
        batch_size: number of captions in one forward pass with an image.

    Raises:
        ValueError: there are no classes, one has no name, or ``batch_size`` is not positive.
    """

    def __init__(
        self,
        model: MdetrForGrounding,
        tokenizer: PreTrainedTokenizerBase,
        names: Sequence[str],
        batch_size: int,
    ) -> None:
        if not names or not all(name.strip() for name in names):
            raise ValueError("every class needs a name, and there must be one")
        if batch_size < 1:
            raise ValueError(f"a batch of {batch_size} classes")
        self._model = model
        tokens = tokenizer(
            list(names),
            padding=True,
            truncation=True,
            max_length=NUM_TOKEN_POSITIONS,
            return_tensors="pt",
        ).to(model.device)
        with torch.inference_mode():
            batches = zip(
                tokens["input_ids"].split(batch_size),
                tokens["attention_mask"].split(batch_size),
                strict=True,
            )
            self._captions = [
                (model.mdetr.encode_captions(ids, mask), mask) for ids, mask in batches
            ]

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Detects all classes in one image.

        Args:
            pixels: (1, 3, H, W), normalized, without padding.
            height, width: of the original image in pixels.

        Returns:
            Scores (C, Q), and boxes (C, Q, 4) as xyxy in those pixels; on the host.
        """
        image, image_mask = self._model.mdetr.encode_images(pixels)
        scores, boxes = [], []
        for text, text_mask in self._captions:
            count = len(text)
            decoded = self._model.mdetr.fuse_and_decode(
                image.expand(count, -1, -1), image_mask.expand(count, -1, -1), text, text_mask
            )
            logits, pred_boxes, _ = self._model.object_heads(decoded.last_hidden_state)
            scores.append(object_scores(logits.float()).cpu())
            sizes = torch.tensor([(height, width)]).expand(count, -1)
            boxes.append(boxes_in_pixels(pred_boxes.float().cpu(), sizes))
        return torch.cat(scores), torch.cat(boxes)


def detections_of_image(
    image_id: int, category_ids: Sequence[int], scores: Tensor, boxes: Tensor
) -> ClassDetections:
    """Returns all C x Q detections of an image as rows.

    Args:
        image_id: of the image.
        category_ids: of the C classes.
        scores: (C, Q)
        boxes: (C, Q, 4), as xyxy in pixels.
    """
    return ClassDetections(
        image_ids=np.full(scores.numel(), image_id),
        category_ids=np.repeat(np.array(category_ids), scores.shape[1]),
        scores=scores.flatten().numpy(),
        boxes=boxes.flatten(0, 1).numpy(),
    )
