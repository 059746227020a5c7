"""All objects of every class in an image: one caption a class.

Shapes: C classes, T tokens, Q queries, D channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding
from mdetr_model.modeling.postprocess import boxes_in_pixels, object_scores


class ClassQueries:
    """A model that is asked for each of many classes.

    The captions are encoded once, and an image once for all of them; only the joint transformer
    runs for each pair of the two.

    Args:
        names: what the classes are called in captions.
        together: captions that are in memory with an image at a time.

    Raises:
        ValueError: there are no classes, one without a name, or not one at a time.
    """

    def __init__(
        self,
        model: MdetrForGrounding,
        tokenizer: PreTrainedTokenizerBase,
        names: Sequence[str],
        together: int,
    ) -> None:
        if not names or not all(name.strip() for name in names):
            raise ValueError("every class needs a name, and there must be one")
        if together < 1:
            raise ValueError(f"{together} classes at a time")
        self._model = model
        tokens = tokenizer(list(names), padding=True, return_tensors="pt").to(model.device)
        with torch.inference_mode():
            chunks = zip(
                *(tokens[of].split(together) for of in ("input_ids", "attention_mask")), strict=True
            )
            self._captions = [
                (model.mdetr.encode_captions(ids, mask), mask) for ids, mask in chunks
            ]

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """What is found of each class in one image.

        Args:
            pixels: (1, 3, H, W), normalized, without padding.
            height, width: of the image, in its own pixels.

        Returns:
            Scores (C, Q), and boxes (C, Q, 4) as xyxy in those pixels; on the host.
        """
        image, on_image = self._model.mdetr.encode_images(pixels)
        scores, boxes = [], []
        for text, mask in self._captions:
            number = len(text)
            decoded = self._model.mdetr.join(
                image.expand(number, -1, -1), on_image.expand(number, -1, -1), text, mask
            )
            logits, found, _ = self._model.object_heads(decoded.last_hidden_state)
            scores.append(object_scores(logits.float()).cpu())
            sizes = torch.tensor([(height, width)]).expand(number, -1)
            boxes.append(boxes_in_pixels(found.float().cpu(), sizes))
        return torch.cat(scores), torch.cat(boxes)


def best_of_all(scores: Tensor, boxes: Tensor, most: int) -> list[tuple[int, float, list[float]]]:
    """The best boxes of an image over all classes, from the best on: class, score and box.

    Args:
        scores: (C, Q)
        boxes: (C, Q, 4)
    """
    values, places = scores.flatten().topk(min(most, scores.numel()))
    classes = (places // scores.shape[1]).tolist()
    chosen = boxes.flatten(0, 1)[places].tolist()
    return list(zip(classes, values.tolist(), chosen, strict=True))
