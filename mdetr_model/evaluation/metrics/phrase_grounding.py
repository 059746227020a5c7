"""Phrase grounding: for every phrase of a caption, is the box that answers best to it right?

The two protocols of Flickr30k Entities (paper, section 4.2). ANY-BOX: a box is right if it overlaps
any box of the phrase with an IoU of at least 0.5. MERGED-BOXES: if it overlaps the smallest box
around all of them.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mdetr_model.data.samples import Reference
from mdetr_model.modeling.box_ops import iou
from mdetr_model.modeling.postprocess import boxes_in_pixels, phrase_scores

LEAST_IOU = 0.5
NEVER = 10**6  # the rank of a phrase that no query has found
BEST = {"1": 1, "5": 5, "10": 10, "all": NEVER}
Protocol = Literal["any-box", "merged-boxes"]
PROTOCOLS: tuple[Protocol, ...] = ("any-box", "merged-boxes")
Boxes = npt.NDArray[np.float64]


class Ranks(NamedTuple):
    """How many wrong boxes answer better to a phrase than the first right one, by protocol.

    ``types`` are the phrase's kinds of object ("people", "clothing", ...), where it has any.
    """

    types: tuple[str, ...]
    any_box: int
    merged_boxes: int


@torch.no_grad()
def ranks_of_phrases(outputs: Any, references: Sequence[Reference]) -> list[Ranks]:
    """The ranks of every phrase of a batch.

    Args:
        outputs: with ``logits`` (B, Q, 256) and ``pred_boxes`` (B, Q, 4).
        references: of the batch; phrases without a box are left out, and found by no query those
            without a token.
    """
    phrases = pad_sequence([r.positive_map for r in references], batch_first=True)
    logits = outputs.logits.float()
    order = phrase_scores(logits, phrases.to(logits.device)).argsort(-1, descending=True).cpu()
    sizes = torch.tensor([r.size for r in references])
    boxes = boxes_in_pixels(outputs.pred_boxes.float().cpu(), sizes)
    ranks = []
    for item, reference in enumerate(references):
        for number, phrase in enumerate(reference.phrases):
            if phrase.boxes:
                named = reference.positive_map[number].any()
                ranked = boxes[item, order[item, number]][: None if named else 0]
                ranks.append(ranks_of(ranked, torch.tensor(phrase.boxes), phrase.types))
    return ranks


def ranks_of(ranked: Tensor, truth: Tensor, types: Sequence[str] = ()) -> Ranks:
    """The ranks of a phrase with boxes (N, 4), for boxes (Q, 4), the best first; all as xyxy."""
    merged = torch.cat([truth[:, :2].amin(0), truth[:, 2:].amax(0)])[None]
    return Ranks(tuple(types), first_right(ranked, truth), first_right(ranked, merged))


def first_right(ranked: Tensor, truth: Tensor) -> int:
    """The place of the first of the boxes (Q, 4) that is right, for boxes (N, 4) of a phrase."""
    return place_of_first((iou(ranked[:, None], truth[None]) >= LEAST_IOU).any(-1))


def place_of_first(right: Tensor) -> int:
    """The place of the first True of (Q,) booleans; ``NEVER`` without any."""
    return int(right.int().argmax()) if right.any() else NEVER


def recalls(ranks: Iterable[Ranks], protocol: Protocol) -> dict[str, dict[str, float]]:
    """The share of phrases whose first right box is among the 1, 5, 10 best, or among all.

    By kind of phrase, "all" before the kinds; a phrase of several kinds counts in each. Empty
    without phrases.
    """
    of_kind: dict[str, list[int]] = {}
    for of in ranks:
        rank = of.any_box if protocol == "any-box" else of.merged_boxes
        for kind in ("all", *of.types):
            of_kind.setdefault(kind, []).append(rank)
    return {
        kind: {f"recall@{name}": float(np.mean(np.array(found) < k)) for name, k in BEST.items()}
        for kind, found in of_kind.items()
    }


def blind_recalls(phrases: Sequence[tuple[str, Boxes]], training_boxes: Boxes) -> dict[str, float]:
    """Recall@1 of those who see no image, or read no caption: what a model has to be above.

    ``random object`` takes any object of the image, each as likely: those that any caption of it
    names. ``frequent box`` is the same for every image: that of the training boxes which is
    right for most of them.

    Args:
        phrases: the image's key and the boxes (N, 4) of each phrase, as xyxy in shares of the
            image's sides.
        training_boxes: (N, 4) likewise; up to a few thousand. Without any there is no frequent one.
    """
    if not phrases:
        return {}
    by_image: dict[str, list[Boxes]] = {}
    for key, boxes in phrases:
        by_image.setdefault(key, []).append(boxes)
    objects = {key: _distinct(np.concatenate(found)) for key, found in by_image.items()}
    chances = [_right(objects[key], boxes).mean() for key, boxes in phrases]
    found = {"random object": float(np.mean(chances))}
    if len(training_boxes):
        habit = _most_frequent(training_boxes)
        found["frequent box"] = float(np.mean([_right(habit, of).any() for _, of in phrases]))
    return found


def _right(guesses: Boxes, truth: Boxes) -> npt.NDArray[np.bool_]:
    """Which of the boxes (G, 4) overlap any of the boxes (N, 4) well enough; an IoU of boxes in
    shares of an image's sides is that in pixels.
    """
    overlap = iou(torch.from_numpy(guesses)[:, None], torch.from_numpy(truth)[None])
    return (overlap >= LEAST_IOU).any(-1).numpy()


def _distinct(boxes: Boxes) -> Boxes:
    """Boxes without those that nearly are an earlier one."""
    overlap = iou(torch.from_numpy(boxes)[:, None], torch.from_numpy(boxes)[None]).numpy()
    return boxes[~np.triu(overlap > 0.9, 1).any(0)]


def _most_frequent(boxes: Boxes) -> Boxes:
    """The box (1, 4) that overlaps most of the others well enough."""
    found = torch.from_numpy(boxes)
    return boxes[[int((iou(found[:, None], found[None]) >= LEAST_IOU).sum(0).argmax())]]
