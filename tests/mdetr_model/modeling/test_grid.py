"""Losses at the locations of the feature grid."""

import torch
import torch.nn.functional as F

from mdetr_model.modeling.losses import word_loss
from mdetr_model.modeling.matching import Matching
from tests.mdetr_model.small import tiny_model, two_inputs, two_labels


def test_padding_does_not_change_grid_losses() -> None:
    """For any amount of padding."""
    model = tiny_model(grid_loss_coef=1.0, mask_padding=True)
    inputs, labels = two_inputs(), two_labels()
    padded = {**inputs}
    padded["pixel_values"] = F.pad(inputs["pixel_values"], (0, 140, 0, 133))
    padded["pixel_mask"] = F.pad(inputs["pixel_mask"], (0, 140, 0, 133))
    with torch.no_grad():
        expected = model(**inputs, labels=labels).loss_dict
        losses = model(**padded, labels=labels).loss_dict
    assert any(name.endswith("_grid") for name in losses)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_word_loss_uses_image_features_only() -> None:
    """Independent of the input caption: its tokens are only targets."""
    model, inputs, labels = tiny_model(word_loss_coef=2.0), two_inputs(), two_labels()
    plain = tiny_model()
    with torch.no_grad():
        outputs = model(**inputs, labels=labels)
        other = model(**{**inputs, "input_ids": inputs["input_ids"].flip(1)}, labels=labels)
    assert torch.equal(outputs.grid_features, other.grid_features)
    assert model.word_head is not None
    assert model.word_head(outputs.grid_features).sigmoid().mean() < 0.05, "most name nothing"
    assert outputs.loss_dict["loss_word"] != other.loss_dict["loss_word"]
    assert "loss_ce_grid" not in outputs.loss_dict
    assert "loss_word" not in plain(**inputs, labels=labels).loss_dict
    losses = outputs.loss_dict
    added = sum(
        weight * losses[f"loss_{name}{layer}"]
        for name, weight in {"ce": 1, "bbox": 5, "giou": 2, "contrastive_align": 1}.items()
        for layer in ("", "_0", "_1")
    )
    torch.testing.assert_close(outputs.loss, added + 2 * outputs.loss_dict["loss_word"])


def test_word_loss_is_binary_cross_entropy_per_token() -> None:
    """Compares with a manual computation: two tokens for the first box, one, and none."""
    words = torch.randn(3, 6)
    matching = Matching(
        torch.tensor([0, 0, 0]), torch.tensor([[3, 1, 1]]), torch.tensor([[0, 1, 2]])
    )
    positive_map = torch.tensor([[[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]], dtype=torch.bool)
    loss = word_loss(words, torch.tensor([[5, 2, 4, 0]]), positive_map, matching)
    yes, no = -F.logsigmoid(words), -F.logsigmoid(-words)
    first = yes[0, [2, 4]].sum() + no[0, [0, 1, 3, 5]].sum()
    second = yes[1, 5] + no[1, :5].sum()
    torch.testing.assert_close(loss, first + second)


def test_grid_and_word_losses_decrease_in_training() -> None:
    """On one batch, in a few steps."""
    torch.manual_seed(0)
    model = tiny_model(grid_loss_coef=1.0, word_loss_coef=1.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    inputs, labels = two_inputs(), two_labels()
    losses = []
    for _ in range(40):
        outputs = model(**inputs, labels=labels)
        outputs.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append({k: v.item() for k, v in outputs.loss_dict.items()})
    for name in ("loss_ce_grid", "loss_bbox_grid", "loss_contrastive_align_grid", "loss_word"):
        assert losses[-1][name] < 0.7 * losses[0][name], name
