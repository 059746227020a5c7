"""MDETR as a transformers model: shapes, batches, saving, compiling, losses."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVisualQuestionAnswering,
    AutoModelForZeroShotObjectDetection,
)

import mdetr_model
from mdetr_model import (
    MdetrConfig,
    MdetrForGrounding,
    MdetrForQuestionAnswering,
    MdetrModel,
    MdetrOutput,
)
from mdetr_model.backbone import FrozenBatchNorm2d
from mdetr_model.configuration import CLEVR_ANSWERS, UNIFIED_GQA_ANSWERS

RESNET = {
    "model_type": "resnet",
    "layer_type": "basic",
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
}
EFFICIENTNET = {
    "model_type": "efficientnet",
    "width_coefficient": 0.25,
    "depth_coefficient": 0.1,
    "hidden_dim": 320,
    "drop_connect_rate": 0.0,
}
TEXT = {
    "model_type": "roberta",
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
QUERIES = 5
LAYERS = 3


def _config(**fields: Any) -> MdetrConfig:
    tiny: dict[str, Any] = {
        "image_config": RESNET,
        "text_config": TEXT,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "encoder_layers": 2,
        "decoder_layers": LAYERS,
        "feedforward_size": 48,
        "num_queries": QUERIES,
    }
    return MdetrConfig(**(tiny | fields))


def _model(kind: type = MdetrForGrounding, **fields: Any) -> Any:
    torch.manual_seed(0)
    model = kind(_config(**fields))
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.bias.normal_(std=0.3)
    return model.eval()


def _inputs() -> dict[str, Tensor]:
    """Two pictures, 75 x 100 and 61 x 70, with 9 and 6 tokens."""
    torch.manual_seed(1)
    pixel_mask = torch.zeros(2, 75, 100, dtype=torch.long)
    pixel_mask[0] = 1
    pixel_mask[1, :61, :70] = 1
    attention_mask = torch.ones(2, 9, dtype=torch.long)
    attention_mask[1, 6:] = 0
    input_ids = torch.randint(3, 50, (2, 9)).masked_fill(attention_mask == 0, 1)
    return {
        "pixel_values": torch.randn(2, 3, 75, 100) * pixel_mask[:, None],
        "input_ids": input_ids,
        "pixel_mask": pixel_mask,
        "attention_mask": attention_mask,
    }


def _labels() -> dict[str, Any]:
    token_map = torch.zeros(2, 3, 256, dtype=torch.bool)
    token_map[0, 0, 1:3] = token_map[0, 1, 4] = token_map[0, 2, 2:6] = token_map[1, 0, 3] = True
    box_mask = torch.tensor([[True, True, True], [True, False, False]])
    boxes = torch.rand(2, 3, 4) * 0.4 + 0.3
    return {"boxes": boxes * box_mask[..., None], "box_mask": box_mask, "token_map": token_map}


@torch.no_grad()
def _run(model: torch.nn.Module, inputs: dict[str, Tensor]) -> MdetrOutput:
    return model(**inputs)


def _difference(first: Any, second: Any) -> float:
    """The largest over all outputs that both have."""
    assert first.keys() == second.keys()
    pairs = []
    for name in first:
        if isinstance(first[name], dict):
            pairs += [(first[name][head], second[name][head]) for head in first[name]]
        else:
            pairs.append((first[name], second[name]))
    return max((a.float() - b.float()).abs().max().item() for a, b in pairs)


def test_shapes() -> None:
    outputs = _run(_model(predict_final=True), _inputs())
    assert outputs.logits.shape == (2, QUERIES, 256)
    assert outputs.pred_boxes.shape == (2, QUERIES, 4)
    assert outputs.proj_queries.shape == (2, QUERIES, 64)
    assert outputs.proj_tokens.shape == (2, 9, 64)
    assert outputs.is_final.shape == (2, QUERIES)
    assert ((outputs.pred_boxes >= 0) & (outputs.pred_boxes <= 1)).all()
    assert torch.allclose(outputs.proj_queries.norm(dim=-1), torch.ones(2, QUERIES))
    for name in ("logits", "pred_boxes", "proj_queries", "is_final"):
        layers = outputs[f"layer_{name}"]
        assert layers.shape == (LAYERS, *outputs[name].shape)
        assert torch.equal(layers[-1], outputs[name])
        assert not torch.allclose(layers[0], layers[-1])


def test_what_a_configuration_leaves_out() -> None:
    model = _model(contrastive_alignment=False, auxiliary_outputs=False)
    outputs = _run(model, _inputs())
    assert set(outputs.keys()) == {"logits", "pred_boxes"}
    whole = _model(contrastive_alignment=False)
    whole.load_state_dict(model.state_dict())
    assert torch.allclose(_run(whole, _inputs()).logits, outputs.logits, atol=1e-5)


def test_answers() -> None:
    outputs = _run(_model(MdetrForQuestionAnswering, answer_heads=CLEVR_ANSWERS), _inputs())
    shapes = {head: tuple(logits.shape) for head, logits in outputs.answers.items()}
    assert shapes == {"type": (2, 3), "binary": (2,), "reg": (2, 20), "attr": (2, 15)}
    assert outputs.logits.shape == (2, QUERIES, 256)
    unified = _run(_model(MdetrForQuestionAnswering, answer_heads=UNIFIED_GQA_ANSWERS), _inputs())
    assert unified.answers["total"].shape == (2, 1853)
    with pytest.raises(ValueError, match="answer_heads"):
        MdetrForQuestionAnswering(_config())


@pytest.mark.parametrize("image_config", [RESNET, EFFICIENTNET])
@pytest.mark.parametrize("item", [0, 1])
def test_a_sample_is_the_same_alone_and_in_a_batch(image_config: Any, item: int) -> None:
    model = _model(image_config=image_config, mask_padding=True)
    inputs = _inputs()
    whole = _run(model, inputs)
    height = int(inputs["pixel_mask"][item].any(1).sum())
    width = int(inputs["pixel_mask"][item].any(0).sum())
    tokens = int(inputs["attention_mask"][item].sum())
    one = slice(item, item + 1)
    alone = _run(
        model,
        {
            "pixel_values": inputs["pixel_values"][one, :, :height, :width],
            "input_ids": inputs["input_ids"][one, :tokens],
        },
    )
    for name in ("logits", "pred_boxes", "proj_queries"):
        assert (alone[name] - whole[name][one]).abs().max() <= 1e-4, name
    assert (alone.proj_tokens - whole.proj_tokens[one, :tokens]).abs().max() <= 1e-4


@pytest.mark.parametrize("item", [0, 1])
def test_padding_of_captions_has_no_influence(item: int) -> None:
    """As published, padding of pictures has one on the image encoder; captions never do."""
    model, inputs = _model(), _inputs()
    whole = _run(model, inputs)
    one, tokens = slice(item, item + 1), int(inputs["attention_mask"][item].sum())
    alone = {name: value[one] for name, value in inputs.items()}
    alone["input_ids"], alone["attention_mask"] = (
        alone[name][:, :tokens] for name in ("input_ids", "attention_mask")
    )
    outputs = _run(model, alone)
    assert (outputs.logits - whole.logits[one]).abs().max() <= 1e-4
    assert (outputs.pred_boxes - whole.pred_boxes[one]).abs().max() <= 1e-4


def test_padding_behind_everything_has_no_influence() -> None:
    model, inputs = _model(mask_padding=True), _inputs()
    more = {name: F.pad(inputs[name], (0, 33, 0, 40)) for name in ("pixel_values", "pixel_mask")}
    more |= {name: F.pad(inputs[name], (0, 4)) for name in ("input_ids", "attention_mask")}
    first, second = _run(model, inputs), _run(model, more)
    assert (first.logits - second.logits).abs().max() <= 1e-4
    assert (first.pred_boxes - second.pred_boxes).abs().max() <= 1e-4


@pytest.mark.parametrize(
    "kind, auto, fields",
    [
        (MdetrForGrounding, AutoModelForZeroShotObjectDetection, {"predict_final": True}),
        (
            MdetrForQuestionAnswering,
            AutoModelForVisualQuestionAnswering,
            {"answer_heads": CLEVR_ANSWERS, "image_config": EFFICIENTNET},
        ),
    ],
)
def test_saved_and_loaded(tmp_path: Path, kind: type, auto: Any, fields: dict[str, Any]) -> None:
    model = _model(kind, **fields)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    assert AutoConfig.from_pretrained(tmp_path).to_diff_dict() == model.config.to_diff_dict()
    loaded = auto.from_pretrained(tmp_path)
    assert type(loaded) is kind
    # Not always to the bit: where a tensor lies in memory decides how it is summed.
    assert _difference(_run(loaded, _inputs()), _run(model, _inputs())) <= 1e-6
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert {name for name, p in loaded.named_parameters() if not p.requires_grad} == frozen


def test_a_grounding_model_becomes_one_for_questions(tmp_path: Path) -> None:
    _model().save_pretrained(tmp_path)
    model, info = MdetrForQuestionAnswering.from_pretrained(
        tmp_path, answer_heads=CLEVR_ANSWERS, output_loading_info=True
    )
    assert not info["unexpected_keys"]
    assert all(name.startswith("answer_") for name in info["missing_keys"])
    base = AutoModel.from_pretrained(tmp_path)
    assert isinstance(base, MdetrModel)
    assert torch.equal(base.queries.weight, model.mdetr.queries.weight)


@pytest.mark.parametrize("image_config", [RESNET, EFFICIENTNET])
def test_compiles_as_one_graph(image_config: Any) -> None:
    model = _model(MdetrForQuestionAnswering, image_config=image_config, answer_heads=CLEVR_ANSWERS)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert _difference(_run(compiled, _inputs()), _run(model, _inputs())) <= 1e-5


@pytest.mark.parametrize("mask_padding", [False, True])
def test_exports_for_any_size(mask_padding: bool) -> None:
    model, inputs = _model(mask_padding=mask_padding), _inputs()
    any_size = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        model,
        (),
        inputs,
        dynamic_shapes={
            "pixel_values": {0: any_size, 2: any_size, 3: any_size},
            "input_ids": {0: any_size, 1: any_size},
            "pixel_mask": {0: any_size, 1: any_size, 2: any_size},
            "attention_mask": {0: any_size, 1: any_size},
        },
        strict=False,
    )
    other = {
        "pixel_values": torch.randn(3, 3, 101, 64),
        "input_ids": torch.randint(3, 50, (3, 12)),
        "pixel_mask": torch.ones(3, 101, 64, dtype=torch.long),
        "attention_mask": torch.ones(3, 12, dtype=torch.long),
    }
    assert _difference(_run(program.module(), other), _run(model, other)) <= 1e-5


def test_bfloat16_autocast() -> None:
    model, inputs = _model(), _inputs()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(**inputs, labels=_labels())
    assert torch.isfinite(outputs.loss)
    outputs.loss.backward()
    exact = _run(model, inputs)
    assert (outputs.pred_boxes.float() - exact.pred_boxes).abs().max() < 0.05
    assert (outputs.logits.float() - exact.logits).abs().max() < 0.2


def test_losses_reach_every_trained_parameter() -> None:
    model = _model(predict_final=True).train()
    labels = _labels() | {"is_final": torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])}
    outputs = model(**_inputs(), labels=labels)
    assert {"loss_ce", "loss_bbox_0", "loss_contrastive_align", "loss_isfinal"} <= set(
        outputs.loss_dict
    )
    outputs.loss.backward()
    without = {
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    }
    assert not without
    assert model.mdetr.queries.weight.grad.abs().sum() > 0


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = mdetr_model.Nothing
    with pytest.raises(ValueError, match="'gpt'"):
        MdetrConfig(text_config="gpt")
