"""Losses of the encoder's cells."""

import torch
import torch.nn.functional as F

from tests.mdetr_model.small import tiny_model, two_inputs, two_labels


def test_padding_is_no_cell() -> None:
    """However much of it there is."""
    model = tiny_model(cell_weight=1.0, mask_padding=True)
    inputs, labels = two_inputs(), two_labels()
    padded = {**inputs}
    padded["pixel_values"] = F.pad(inputs["pixel_values"], (0, 140, 0, 133))
    padded["pixel_mask"] = F.pad(inputs["pixel_mask"], (0, 140, 0, 133))
    with torch.no_grad():
        expected = model(**inputs, labels=labels).loss_dict
        found = model(**padded, labels=labels).loss_dict
    assert any(name.endswith("_cells") for name in found)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_cells_learn_what_queries_learn() -> None:
    """On one batch, in a few steps."""
    torch.manual_seed(0)
    model = tiny_model(cell_weight=1.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    inputs, labels = two_inputs(), two_labels()
    losses = []
    for _ in range(40):
        found = model(**inputs, labels=labels)
        found.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append({k: v.item() for k, v in found.loss_dict.items() if k.endswith("_cells")})
    for name in ("loss_ce_cells", "loss_bbox_cells", "loss_contrastive_align_cells"):
        assert losses[-1][name] < 0.7 * losses[0][name], name
