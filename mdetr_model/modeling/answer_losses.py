"""Losses of the answer heads (paper, sections 4.1 and 4.4).

Logits and labels come in dictionaries by the name of their head, see ``answer_types``.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from .answer_types import question_types
from .postprocess import predicted_index

# The label of a question for the heads that do not answer it.
IGNORE_INDEX = -100


def answer_losses(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns losses and accuracies with the names of the published training logs.

    Every head is trained only on the questions of its type; ``type`` and ``total`` on all
    questions that have an answer. Its loss and accuracy are means over these questions: 0 and 1 if
    the batch has none.

    Args:
        logits: by head, (B, answers), or (B,) for ``binary``.
        labels: by head, (B,) the index of the right answer, or ``IGNORE_INDEX``; for ``binary``,
            0 or 1.

    Returns:
        Scalars ``loss_answer_HEAD`` and ``accuracy_answer_HEAD`` of every head, and
        ``accuracy_answer_total``: the share of questions whose type and answer are both right.
    """
    if "total" in logits:
        has_label = labels["total"] != IGNORE_INDEX
        loss, correct = _loss_and_correct(logits["total"], labels["total"])
        return {
            "loss_answer_total": _masked_mean(loss, has_label),
            "accuracy_answer_total": _accuracy(correct, has_label),
        }

    question_type = labels["type"]
    has_type = question_type != IGNORE_INDEX
    loss, type_correct = _loss_and_correct(logits["type"], question_type)
    losses = {
        "loss_answer_type": _masked_mean(loss, has_type),
        "accuracy_answer_type": _accuracy(type_correct, has_type),
    }
    answer_correct = torch.zeros_like(type_correct)
    for index, head in enumerate(question_types(logits)):
        is_of_type = question_type == index
        loss, correct = _loss_and_correct(logits[head], labels[head])
        losses[f"loss_answer_{head}"] = _masked_mean(loss, is_of_type)
        losses[f"accuracy_answer_{head}"] = _accuracy(correct, is_of_type)
        answer_correct = answer_correct | (correct & is_of_type)
    losses["accuracy_answer_total"] = _accuracy(answer_correct & type_correct, has_type)
    return losses


def _loss_and_correct(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Returns loss and correctness (B,) of one head; the loss is 0 for ``IGNORE_INDEX``."""
    if logits.ndim > 1:
        loss = F.cross_entropy(logits, label, ignore_index=IGNORE_INDEX, reduction="none")
    else:
        loss = F.binary_cross_entropy_with_logits(logits, label.float(), reduction="none")
        loss = loss.masked_fill(label == IGNORE_INDEX, 0)
    return loss, predicted_index(logits) == label


def _masked_mean(loss: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean of the losses (B,) in the mask (B,); 0 where it is empty."""
    return loss.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


def _accuracy(correct: Tensor, mask: Tensor) -> Tensor:
    """Returns the share of correct answers (B,) in the mask (B,); 1 where it is empty."""
    count = mask.sum()
    return torch.where(count > 0, (correct & mask).sum() / count.clamp(min=1), 1.0)
