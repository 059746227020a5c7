"""Losses of converted models: the published figures of every variant, end to end."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mdetr_model.conversion.configuration import config_from_checkpoint
from mdetr_model.conversion.key_mapping import convert_state_dict
from mdetr_model.modeling.configuration_mdetr import MdetrConfig
from mdetr_model.modeling.criterion import MdetrCriterion
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding, MdetrForQuestionAnswering
from tests.mdetr_model import golden

TOKEN_TARGETS = {"collated": "binary", "normalised": "normalized"}  # keys of the golden files
# Parameters behind the outputs: ours, and the published ones.
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


@pytest.mark.parametrize(
    ("variant", "kind", "case"),
    [("r101", "detection", "even"), ("eb3", "detection", "odd"), ("r101_gqa", "gqa", "odd")],
)
def test_losses_are_the_published_ones(reference: Path, variant: str, kind: str, case: str) -> None:
    with torch.no_grad():
        _compare_losses(reference, _model(reference, variant), variant, kind, case)


def test_losses_and_gradients_are_the_published_ones(reference: Path) -> None:
    model = _model(reference, "r18_clevr")
    key, loss = _compare_losses(reference, model, "r18_clevr", "clevr", "odd")
    loss.backward()
    norms = golden.losses(reference, "r18_clevr")["results"][key]["grad_norm_per_parameter"]
    for ours, theirs in PARAMETERS.items():
        gradient = model.get_parameter(ours).grad
        assert gradient is not None
        assert gradient.norm().item() == pytest.approx(norms[theirs], rel=1e-4), ours


def _compare_losses(
    reference: Path, model: nn.Module, variant: str, kind: str, case: str
) -> tuple[str, Tensor]:
    """Every result of the case; gives the name of the last one and its loss."""
    published = golden.losses(reference, variant)
    results, weights = published["results"], published["weight_dict"]
    texts = golden.captions(reference, kind, case)
    outputs = _outputs(reference, model, variant, case)
    keys = [key for key in results if key.startswith(f"{case}/")]
    for key in keys:
        config = MdetrConfig(
            token_targets=TOKEN_TARGETS[key.split("/")[2]],
            qa_loss_coef=weights.get("loss_answer_type", 1.0),
        )
        labels = golden.labels(reference, results, texts, key)
        losses = MdetrCriterion(config)(outputs, labels)
        wanted = {**results[key]["losses"], "loss": results[key]["total"]}
        assert set(losses) == set(wanted)
        for name, value in wanted.items():
            assert losses[name].item() == pytest.approx(value, rel=1e-5, abs=1e-12), (key, name)
    return key, losses["loss"]


def _model(reference: Path, variant: str) -> nn.Module:
    """A published variant with weights by formula."""
    formulas = golden.formulas(reference)
    options = formulas.load_json(f"model/{variant}.state.json")["args"]
    published = formulas.state_dict(variant)
    config = config_from_checkpoint(published, options)
    kind = MdetrForQuestionAnswering if config.answer_heads else MdetrForGrounding
    state = convert_state_dict(published, [head for head, _ in config.answer_heads])
    return kind.from_pretrained(None, config=config, state_dict=state).eval()


def _outputs(reference: Path, model: nn.Module, variant: str, case: str) -> object:
    formulas = golden.formulas(reference)
    stored = formulas.outputs(variant, case)
    pixels, padding, _ = formulas.batch(case)
    return model(
        pixel_values=torch.from_numpy(pixels),
        input_ids=torch.from_numpy(stored["input_ids"]).long(),
        pixel_mask=torch.from_numpy(~padding),
        attention_mask=torch.from_numpy(stored["attention_mask"]).long(),
    )
