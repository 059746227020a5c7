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


def answer_types(logits: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The heads that a question may belong to, in the order of the type head's classes."""
    return CLEVR_TYPES if "binary" in logits else GQA_TYPES


def answer_losses(logits: Mapping[str, Tensor], answers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses and accuracies, by the names that the published training logs them under.

    A head is trained on the questions of its own type only, and its loss and accuracy are means
    over these: 0 and 1 where the batch has none.

    Args:
        logits: by head, (B, answers); (B,) for ``binary``.
        answers: by head, (B,) the index of the right answer, -100 where the head is not asked;
            0 or 1 for ``binary``.

    Returns:
        Scalars ``loss_answer_HEAD`` and ``accuracy_answer_HEAD`` of every head, and
        ``accuracy_answer_total``: the share of questions whose type and answer are both right.
    """
    if "total" in logits:
        loss, correct = _judged(logits["total"], answers["total"])
        return {"loss_answer_total": loss.mean(), "accuracy_answer_total": _share(correct)}

    kind = answers["type"]
    loss, kind_correct = _judged(logits["type"], kind)
    losses = {"loss_answer_type": loss.mean(), "accuracy_answer_type": _share(kind_correct)}
    answer_correct = torch.zeros_like(kind_correct)
    for index, head in enumerate(answer_types(logits)):
        asked = kind == index
        number = asked.sum()
        loss, correct = _judged(logits[head], answers[head])
        correct = correct & asked
        losses[f"loss_answer_{head}"] = loss.masked_fill(~asked, 0).sum() / number.clamp(min=1)
        share = correct.sum() / number.clamp(min=1)
        losses[f"accuracy_answer_{head}"] = torch.where(number > 0, share, 1.0)
        answer_correct = answer_correct | correct
    losses["accuracy_answer_total"] = _share(answer_correct & kind_correct)
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
        loss = F.cross_entropy(logits, answer, reduction="none")
    else:
        loss = F.binary_cross_entropy_with_logits(logits, answer.float(), reduction="none")
    return loss, _best(logits) == answer


def _share(correct: Tensor) -> Tensor:
    return correct.float().mean()
