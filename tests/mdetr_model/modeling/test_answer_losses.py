"""Losses of answer heads, each on the questions of its type."""

import torch
import torch.nn.functional as F

from mdetr_model.modeling.answer_losses import IGNORE_INDEX, answer_losses


def test_unified_head_ignores_questions_without_answer() -> None:
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    answers = torch.tensor([3, IGNORE_INDEX, int(logits[2].argmax()), IGNORE_INDEX])
    losses = answer_losses({"total": logits}, {"total": answers})
    wanted = F.cross_entropy(logits[::2], answers[::2])
    torch.testing.assert_close(losses["loss_answer_total"], wanted)
    assert losses["accuracy_answer_total"] == 0.5


def test_each_head_is_trained_on_questions_of_its_type() -> None:
    """The second question has no answer at all."""
    logits = {
        "type": torch.tensor([[9.0, 0, 0], [1, 0, 2], [0, 3, 0]]),
        "binary": torch.tensor([2.0, torch.nan, 500.0]),
        "attr": torch.zeros(3, 15),
        "reg": torch.zeros(3, 20),
    }
    answers = {
        "type": torch.tensor([0, IGNORE_INDEX, 1]),
        "binary": torch.tensor([1, IGNORE_INDEX, IGNORE_INDEX]),
        "attr": torch.tensor([IGNORE_INDEX, IGNORE_INDEX, 4]),
        "reg": torch.full((3,), IGNORE_INDEX),
    }
    losses = answer_losses(logits, answers)
    wanted = F.cross_entropy(logits["type"][::2], answers["type"][::2])
    torch.testing.assert_close(losses["loss_answer_type"], wanted)
    yes = -torch.tensor(2.0).sigmoid().log()
    torch.testing.assert_close(losses["loss_answer_binary"], yes)
    accuracies = {"type": 1, "binary": 1, "attr": 0, "reg": 1, "total": 0.5}
    assert {head: losses[f"accuracy_answer_{head}"].item() for head in accuracies} == accuracies
    assert losses["loss_answer_reg"] == 0


def test_binary_head_without_label_has_no_loss() -> None:
    """Even if the question is of the binary type."""
    logits = {
        "type": torch.zeros(2, 3),
        "binary": torch.tensor([2.0, 2.0]),
        "attr": torch.zeros(2, 15),
        "reg": torch.zeros(2, 20),
    }
    answers = {head: torch.full((2,), IGNORE_INDEX) for head in logits}
    answers |= {"type": torch.tensor([0, 0]), "binary": torch.tensor([1, IGNORE_INDEX])}
    losses = answer_losses(logits, answers)
    yes = -torch.tensor(2.0).sigmoid().log()
    torch.testing.assert_close(losses["loss_answer_binary"], yes / 2)


def test_batch_without_questions_has_zero_loss() -> None:
    losses = answer_losses({"total": torch.randn(2, 5)}, {"total": torch.full((2,), IGNORE_INDEX)})
    assert losses["loss_answer_total"] == 0 and losses["accuracy_answer_total"] == 1
