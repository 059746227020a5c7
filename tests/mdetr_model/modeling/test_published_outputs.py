"""Converted checkpoints have the outputs and losses of the published code, for all its variants."""

import argparse
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mdetr_model import MdetrForGrounding, MdetrForQuestionAnswering, MdetrOutput
from mdetr_model.conversion.convert import convert
from mdetr_model.modeling.criterion import MdetrCriterion
from tests.mdetr_model import golden

# By variant: the kind of its captions, and the case whose losses are compared.
VARIANTS = {
    "r101": ("detection", "even"),
    "eb3": ("detection", "odd"),
    "r101_gqa": ("gqa", "odd"),
    "r18_clevr": ("clevr", "odd"),
}
# Parameters before the outputs: ours, and the published ones.
PARAMETERS = {
    "object_heads.tokens.weight": "class_embed.weight",
    "object_heads.box.first.weight": "bbox_embed.layers.0.weight",
    "object_heads.box.last.bias": "bbox_embed.layers.2.bias",
    "alignment_heads.queries.weight": "contrastive_align_projection_image.weight",
    "alignment_heads.tokens.bias": "contrastive_align_projection_text.bias",
    "mdetr.queries.weight": "query_embed.weight",
    "mdetr.image_projection.weight": "input_proj.weight",
    "answer_queries.weight": "qa_embed.weight",
}
# The text encoder's pooled output, which is not used.
POOLER = 768 * 768 + 768


@pytest.fixture(scope="module", params=VARIANTS)
def converted(
    request: pytest.FixtureRequest, reference: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, MdetrForGrounding]]:
    """A published variant by its name, written as a checkpoint, converted, and loaded again."""
    variant = request.param
    formulas = golden.formulas(reference)
    folder = tmp_path_factory.mktemp(variant)
    args = formulas.load_json(f"model/{variant}.state.json")["args"]
    state = formulas.state_dict(variant)
    # A few tensors of every kind, because numpy's random stream may change between versions.
    expected = formulas.spec(variant)
    for name in list(expected)[::50]:
        assert formulas.checksum(state[name])[0] == expected[name][2][0], name
    torch.save({"model": state, "args": argparse.Namespace(**args)}, folder / "published.pth")
    convert(folder / "published.pth", folder / "model")
    (folder / "published.pth").unlink()
    answers = variant in ("r101_gqa", "r18_clevr")
    model_class = MdetrForQuestionAnswering if answers else MdetrForGrounding
    yield variant, model_class.from_pretrained(folder / "model").eval()
    (folder / "model" / "model.safetensors").unlink()


def inputs(reference: Path, variant: str, case: str) -> dict[str, Tensor]:
    formulas = golden.formulas(reference)
    stored = formulas.outputs(variant, case)
    pixels, padding, _ = formulas.batch(case)
    return {
        "pixel_values": torch.from_numpy(pixels),
        "input_ids": torch.from_numpy(stored["input_ids"]).long(),
        "pixel_mask": torch.from_numpy(~padding),
        "attention_mask": torch.from_numpy(stored["attention_mask"]).long(),
    }


@pytest.mark.parametrize("case", ["even", "odd"])
def test_outputs_and_losses_equal_published_ones(
    converted: tuple[str, MdetrForGrounding], reference: Path, case: str
) -> None:
    """Gradients too, for the smallest variant."""
    variant, model = converted
    compares_losses = case == VARIANTS[variant][1]
    compares_gradients = variant == "r18_clevr" and compares_losses
    with nullcontext() if compares_gradients else torch.no_grad():
        outputs = model(**inputs(reference, variant, case))
        assert_outputs(reference, variant, case, outputs)
        if compares_losses:
            key, loss = assert_losses(reference, model, variant, outputs)
    if compares_gradients:
        loss.backward()
        results = golden.losses(reference, variant)["results"]
        for ours, theirs in PARAMETERS.items():
            gradient = model.get_parameter(ours).grad
            assert gradient is not None
            expected = results[key]["grad_norm_per_parameter"][theirs]
            assert gradient.norm().item() == pytest.approx(expected, rel=1e-4), ours
        model.zero_grad()


def assert_outputs(reference: Path, variant: str, case: str, outputs: MdetrOutput) -> None:
    formulas = golden.formulas(reference)
    stored = formulas.outputs(variant, case)
    ours = by_published_name(outputs)
    compared = {name for name in stored if name in ours}
    assert {"pred_boxes", "pred_logits_logsumexp", "aux_pred_boxes"} <= compared
    assert compared & {"pred_logits", "pred_logits_q0_20"}
    assert {name for name in stored if name.startswith(("pred_answer", "proj_"))} <= compared
    differences = {name: formulas.max_abs_diff(stored[name], ours[name]) for name in compared}
    print(variant, case, {name: f"{value:.1e}" for name, value in sorted(differences.items())})
    assert all(value <= 1e-4 for value in differences.values()), differences


def by_published_name(outputs: MdetrOutput) -> dict[str, np.ndarray]:
    logits, layers = outputs.logits, outputs.layer_logits
    named: dict[str, Any] = {
        "pred_logits": logits,
        "pred_logits_q0_20": logits[:, :20],
        "pred_logits_logsumexp": logits.logsumexp(-1),
        "pred_logits_noobj": logits[..., -1],
        "pred_boxes": outputs.pred_boxes,
        "aux_pred_boxes": outputs.layer_pred_boxes[:-1],
        "aux0_pred_logits_q0_20": layers[0, :, :20],
        "aux_pred_logits_logsumexp": layers[:-1].logsumexp(-1),
    }
    if outputs.proj_tokens is not None:
        named["proj_queries"] = outputs.proj_queries
        named["proj_tokens"] = outputs.proj_tokens
        named["aux0_proj_queries_q0_20"] = outputs.layer_proj_queries[0, :, :20]
    for head, answers in (outputs.answers or {}).items():
        named["pred_answer" if head == "total" else f"pred_answer_{head}"] = answers
    return {name: value.detach().numpy() for name, value in named.items()}


def assert_losses(
    reference: Path, model: MdetrForGrounding, variant: str, outputs: MdetrOutput
) -> tuple[str, Tensor]:
    """Compares every golden result of the case; returns the key of the last one and its loss."""
    kind, case = VARIANTS[variant]
    published = golden.losses(reference, variant)
    results, coefs = published["results"], published["weight_dict"]
    texts = golden.captions(reference, kind, case)
    keys = [key for key in results if key.startswith(f"{case}/")]
    config = model.config.from_dict(model.config.to_dict())
    config.qa_loss_coef = coefs.get("loss_answer_type", 1.0)
    for key in keys:
        config.token_targets = golden.TOKEN_TARGETS[key.split("/")[2]]
        losses = MdetrCriterion(config)(outputs, golden.labels(reference, results, texts, key))
        expected = {**results[key]["losses"], "loss": results[key]["total"]}
        assert set(losses) == set(expected)
        for name, value in expected.items():
            assert losses[name].item() == pytest.approx(value, rel=1e-5, abs=1e-12), (key, name)
    return key, losses["loss"]


def test_sample_has_same_outputs_in_any_batch(
    converted: tuple[str, MdetrForGrounding], reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the sizes of the published models, but padding masked in the image encoder."""
    variant, model = converted
    monkeypatch.setattr(model.config, "mask_padding", True)
    batch = inputs(reference, variant, "odd")
    batch["pixel_mask"] = batch["pixel_mask"].long()
    differences: dict[str, float] = {}
    with torch.no_grad():
        whole = model(**batch)
        for item in range(len(batch["pixel_values"])):
            one = slice(item, item + 1)
            height = int(batch["pixel_mask"][item].any(1).sum())
            width = int(batch["pixel_mask"][item].any(0).sum())
            tokens = int(batch["attention_mask"][item].sum())
            single = model(
                batch["pixel_values"][one, :, :height, :width], batch["input_ids"][one, :tokens]
            )
            pairs = {
                name: (single[name], whole[name][one])
                for name in ("logits", "pred_boxes", "proj_queries")
                if name in whole
            }
            if "proj_tokens" in whole:
                pairs["proj_tokens"] = (single.proj_tokens, whole.proj_tokens[one, :tokens])
            for head, answers in (whole.answers or {}).items():
                pairs[head] = (single.answers[head], answers[one])
            for name, (first, second) in pairs.items():
                difference = (first - second).abs().max().item()
                # Unlike Python's max, this keeps NaN.
                differences[name] = float(np.maximum(difference, differences.get(name, 0.0)))
    print(variant, {name: f"{value:.1e}" for name, value in sorted(differences.items())})
    assert all(value <= 1e-4 for value in differences.values()), differences


def test_parameter_counts_equal_published_ones(
    converted: tuple[str, MdetrForGrounding], reference: Path
) -> None:
    variant, model = converted
    published = golden.formulas(reference).load_json(f"model/{variant}.state.json")
    assert model.num_parameters() == published["parameters"] - POOLER
    trainable = model.num_parameters(only_trainable=True)
    assert trainable == published["trainable_parameters"] - POOLER
