"""Phrase grounding: recall@k of the boxes of every phrase of a caption.

The two protocols of Flickr30k Entities (paper, section 4.2). ANY-BOX: a box is correct if its IoU
with any box of the phrase is at least 0.5. MERGED-BOXES: if its IoU with the smallest box around
all of them is.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mdetr_model.data.samples import GroundTruth
from mdetr_model.modeling.box_ops import iou
from mdetr_model.modeling.postprocess import boxes_in_pixels, phrase_scores

MIN_IOU = 0.5
# Boxes with a higher IoU count as the same object.
DUPLICATE_IOU = 0.9
NO_HIT = 10**6  # the hit rank of a phrase for which no query is correct
TOP_K = {"1": 1, "5": 5, "10": 10, "all": NO_HIT}
EvaluationProtocol = Literal["any-box", "merged-boxes"]
PROTOCOLS: tuple[EvaluationProtocol, ...] = ("any-box", "merged-boxes")
Boxes = npt.NDArray[np.float64]


class PhraseHitRanks(NamedTuple):
    """The rank of the first correct box for a phrase, counted from 0, by protocol.

    Attributes:
        types: the phrase's entity types ("people", "clothing", ...), if it has any.
        any_box, merged_boxes: ranks, or ``NO_HIT``.
    """

    types: tuple[str, ...]
    any_box: int
    merged_boxes: int


@torch.no_grad()
def batch_hit_ranks(outputs: Any, ground_truths: Sequence[GroundTruth]) -> list[PhraseHitRanks]:
    """Returns the hit ranks of every phrase of a batch that has a box.

    A phrase without a token gets ``NO_HIT``.

    Args:
        outputs: with ``logits`` (B, Q, 256) and ``pred_boxes`` (B, Q, 4).
        ground_truths: of the batch.
    """
    phrase_tokens = pad_sequence([truth.positive_map for truth in ground_truths], batch_first=True)
    logits = outputs.logits.float()
    scores = phrase_scores(logits, phrase_tokens.to(logits.device))
    order = scores.argsort(-1, descending=True).cpu()
    sizes = torch.tensor([truth.size for truth in ground_truths])
    boxes = boxes_in_pixels(outputs.pred_boxes.float().cpu(), sizes)
    ranks = []
    for item, truth in enumerate(ground_truths):
        for number, phrase in enumerate(truth.phrases):
            if phrase.boxes:
                has_tokens = truth.positive_map[number].any()
                ranked = boxes[item, order[item, number]][: None if has_tokens else 0]
                ranks.append(phrase_hit_ranks(ranked, torch.tensor(phrase.boxes), phrase.types))
    return ranks


def phrase_hit_ranks(ranked: Tensor, truth: Tensor, types: Sequence[str] = ()) -> PhraseHitRanks:
    """Returns the hit ranks of a phrase.

    Args:
        ranked: (Q, 4) boxes as xyxy, the best first.
        truth: (N, 4) boxes of the phrase as xyxy.
        types: of the phrase.
    """
    merged = torch.cat([truth[:, :2].amin(0), truth[:, 2:].amax(0)])[None]
    return PhraseHitRanks(
        types=tuple(types),
        any_box=box_hit_rank(ranked, truth),
        merged_boxes=box_hit_rank(ranked, merged),
    )


def box_hit_rank(ranked: Tensor, truth: Tensor) -> int:
    """Returns the rank of the first of the boxes (Q, 4) that overlaps one of (N, 4) enough."""
    return hit_rank((iou(ranked[:, None], truth[None]) >= MIN_IOU).any(-1))


def hit_rank(is_right: Tensor) -> int:
    """Returns the index of the first True of (Q,) booleans; ``NO_HIT`` without any."""
    return int(is_right.int().argmax()) if is_right.any() else NO_HIT


def recalls(
    ranks: Iterable[PhraseHitRanks], protocol: EvaluationProtocol
) -> dict[str, dict[str, float]]:
    """Returns recall@1, @5, @10 and over all queries, by entity type.

    "all" comes before the types; a phrase of several types counts in each. Empty without phrases.
    """
    ranks_of_type: dict[str, list[int]] = {}
    for phrase in ranks:
        rank = phrase.any_box if protocol == "any-box" else phrase.merged_boxes
        for entity_type in ("all", *phrase.types):
            ranks_of_type.setdefault(entity_type, []).append(rank)
    return {
        entity_type: {
            f"recall@{name}": float(np.mean(np.array(type_ranks) < k)) for name, k in TOP_K.items()
        }
        for entity_type, type_ranks in ranks_of_type.items()
    }


def baseline_recalls(
    phrases: Sequence[tuple[str, Boxes]], training_boxes: Boxes
) -> dict[str, float]:
    """Returns recall@1 of two baselines: one without the caption, one without the image.

    ``random object`` is the expected recall of a random object of the image, among those that any
    of its captions names. ``frequent box`` predicts the same box for every image: the training box
    that is correct for most training boxes.

    Args:
        phrases: the image's key and the boxes (N, 4) of each phrase, as xyxy relative to the
            image's sides.
        training_boxes: (N, 4) in the same format; up to a few thousand. If empty, there is no
        frequent box.
    """
    if not phrases:
        return {}
    boxes_of_image: dict[str, list[Boxes]] = {}
    for key, boxes in phrases:
        boxes_of_image.setdefault(key, []).append(boxes)
    objects = {key: _deduplicate(np.concatenate(boxes)) for key, boxes in boxes_of_image.items()}
    hit_rates = [_hits(objects[key], boxes).mean() for key, boxes in phrases]
    results = {"random object": float(np.mean(hit_rates))}
    if len(training_boxes):
        frequent = _most_frequent(training_boxes)
        hits = [_hits(frequent, boxes).any() for _, boxes in phrases]
        results["frequent box"] = float(np.mean(hits))
    return results


def _hits(guesses: Boxes, truth: Boxes) -> npt.NDArray[np.bool_]:
    """Returns which of the boxes (G, 4) overlap one of (N, 4) enough.

    The IoU of boxes relative to an image's sides equals that in pixels.
    """
    overlap = iou(torch.from_numpy(guesses)[:, None], torch.from_numpy(truth)[None])
    return np.asarray((overlap >= MIN_IOU).any(-1))


def _deduplicate(boxes: Boxes) -> Boxes:
    """Returns the boxes without those that nearly equal an earlier one."""
    overlap = iou(torch.from_numpy(boxes)[:, None], torch.from_numpy(boxes)[None]).numpy()
    return boxes[~np.triu(overlap > DUPLICATE_IOU, 1).any(0)]


def _most_frequent(boxes: Boxes) -> Boxes:
    """Returns the box (1, 4) that overlaps most of the others enough."""
    overlap = iou(torch.from_numpy(boxes)[:, None], torch.from_numpy(boxes)[None])
    return boxes[[int((overlap >= MIN_IOU).sum(0).argmax())]]
