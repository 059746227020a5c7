"""Question answering (arXiv 2104.12763, sections 4.1 and 4.4): losses and the answer given.

Logits and right answers come by the name of their head. ``total`` alone is GQA's unified head.
Otherwise ``type`` says which of the others answers the question, and its classes are the entries
of ``GQA_TYPES`` or ``CLEVR_TYPES``.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

GQA_TYPES = ("obj", "attr", "rel", "global", "cat")
CLEVR_TYPES = ("binary", "attr", "reg")
# In place of a right answer, where a head is not asked.
NOT_ASKED = -100


def answer_types(logits: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The heads that a question may belong to, in the order of the type head's classes."""
    return CLEVR_TYPES if "binary" in logits else GQA_TYPES


def answer_losses(logits: Mapping[str, Tensor], answers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses and accuracies, by the names that the published training logs them under.

    A head is trained on the questions that it is asked only, those of its own type or, for
    ``type`` and ``total``, all that have an answer; its loss and accuracy are means over these:
    0 and 1 where the batch has none.

    Args:
        logits: by head, (B, answers); (B,) for ``binary``.
        answers: by head, (B,) the index of the right answer, -100 where the head is not asked;
            0 or 1 for ``binary``.

    Returns:
        Scalars ``loss_answer_HEAD`` and ``accuracy_answer_HEAD`` of every head, and
        ``accuracy_answer_total``: the share of questions whose type and answer are both right.
    """
    if "total" in logits:
        asked = answers["total"] != NOT_ASKED
        loss, correct = _judged(logits["total"], answers["total"])
        return {
            "loss_answer_total": _mean(loss, asked),
            "accuracy_answer_total": _share(correct, asked),
        }

    kind = answers["type"]
    has_type = kind != NOT_ASKED
    loss, kind_correct = _judged(logits["type"], kind)
    losses = {
        "loss_answer_type": _mean(loss, has_type),
        "accuracy_answer_type": _share(kind_correct, has_type),
    }
    answer_correct = torch.zeros_like(kind_correct)
    for index, head in enumerate(answer_types(logits)):
        asked = kind == index
        loss, correct = _judged(logits[head], answers[head])
        losses[f"loss_answer_{head}"] = _mean(loss, asked)
        losses[f"accuracy_answer_{head}"] = _share(correct, asked)
        answer_correct = answer_correct | (correct & asked)
    losses["accuracy_answer_total"] = _share(answer_correct & kind_correct, has_type)
    return losses


def given_answers(logits: Mapping[str, Tensor]) -> list[tuple[str, int]]:
    """The head that answers each question, and the index of its answer.

    Of ``binary`` 1 is yes. The logits have the shapes of ``answer_losses``.
    """
    if "total" in logits:
        return [("total", index) for index in logits["total"].argmax(-1).tolist()]
    types = answer_types(logits)
    kind = logits["type"].argmax(-1)
    best = torch.stack([_best(logits[head]) for head in types]).gather(0, kind[None])[0]
    return [(types[k], index) for k, index in zip(kind.tolist(), best.tolist(), strict=True)]


def _best(logits: Tensor) -> Tensor:
    return logits.argmax(-1) if logits.ndim > 1 else (logits > 0).long()


def _judged(logits: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and the correctness (B,) of one head's answers; a loss of 0 where that is -100."""
    if logits.ndim > 1:
        loss = F.cross_entropy(logits, answer, ignore_index=NOT_ASKED, reduction="none")
    else:
        loss = F.binary_cross_entropy_with_logits(logits, answer.float(), reduction="none")
        loss = loss.masked_fill(answer == NOT_ASKED, 0)
    return loss, _best(logits) == answer


def _mean(loss: Tensor, asked: Tensor) -> Tensor:
    """That of the questions asked; 0 where there are none. Both are (B,)."""
    return loss.masked_fill(~asked, 0).sum() / asked.sum().clamp(min=1)


def _share(correct: Tensor, asked: Tensor) -> Tensor:
    """Of the questions asked, those answered rightly; 1 where there are none. Both are (B,)."""
    number = asked.sum()
    return torch.where(number > 0, (correct & asked).sum() / number.clamp(min=1), 1.0)
