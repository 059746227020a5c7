"""Modules are called: hooks fire, adapters are trained, and offloaded weights are brought back."""

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

from mdetr_model.modeling.answer_types import UNIFIED_GQA_ANSWER_HEADS
from mdetr_model.modeling.backbone import FrozenBatchNorm2d
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding, MdetrForQuestionAnswering
from tests.mdetr_model.small import (
    EFFICIENTNET,
    RESNET,
    difference,
    run,
    tiny_model,
    two_inputs,
    two_labels,
)

BOTTLENECKS = {**RESNET, "layer_type": "bottleneck", "depths": [1, 2, 1, 1]}


@pytest.mark.parametrize("backbone_config", [RESNET, BOTTLENECKS, EFFICIENTNET])
@pytest.mark.parametrize("fields", [{}, {"mask_padding": True}, {"frozen_batch_norm": False}])
def test_hooks_of_every_module_with_weights_fire(
    backbone_config: Any, fields: dict[str, Any]
) -> None:
    model = tiny_model(backbone_config=backbone_config, grid_loss_coef=1.0, **fields)
    called: set[str] = set()
    expected = {
        name
        for name, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
        or next(module.buffers(recurse=False), None) is not None
    }
    for name in expected:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name))
    model(**two_inputs(), labels=two_labels())
    assert called == expected
    assert sum(isinstance(model.get_submodule(name), nn.Conv2d) for name in called) >= 9


@pytest.mark.parametrize("backbone_config", [RESNET, BOTTLENECKS, EFFICIENTNET])
def test_hook_sees_and_changes_the_output_of_a_convolution(backbone_config: Any) -> None:
    """As in Grad-CAM: the output with its gradient, and an output that replaces it."""
    model, inputs = tiny_model(backbone_config=backbone_config), two_inputs()
    *_, convolution = [m for m in model.mdetr.image_encoder.modules() if isinstance(m, nn.Conv2d)]
    outputs: list[Tensor] = []
    hook = convolution.register_forward_hook(lambda _module, _inputs, y: outputs.append(y))
    score = model(**inputs).logits[..., 0].sum()
    hook.remove()
    [gradient] = torch.autograd.grad(score, outputs)
    assert gradient.shape == (2, convolution.out_channels, 3, 4)
    assert gradient.abs().sum() > 0
    before = run(model, inputs).logits
    convolution.register_forward_hook(lambda _module, _inputs, y: torch.zeros_like(y))
    assert not torch.allclose(run(model, inputs).logits, before)


@pytest.mark.parametrize("backbone_config", [RESNET, EFFICIENTNET])
def test_changed_weights_and_norms_change_outputs_at_once(backbone_config: Any) -> None:
    model, inputs = tiny_model(backbone_config=backbone_config), two_inputs()
    outputs = [run(model, inputs).logits]
    for module in model.mdetr.image_encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.mul_(1.5)
    outputs.append(run(model, inputs).logits)
    for name, buffer in model.mdetr.image_encoder.named_buffers():
        if name.endswith("bias"):
            buffer.add_(1.0)
    outputs.append(run(model, inputs).logits)
    assert not torch.allclose(outputs[0], outputs[1])
    assert not torch.allclose(outputs[1], outputs[2])
    reloaded = tiny_model(backbone_config=backbone_config)
    reloaded.load_state_dict(model.state_dict())
    assert torch.allclose(run(reloaded, inputs).logits, outputs[2], atol=1e-6)
    model.train()
    assert torch.allclose(run(model.eval(), inputs).logits, outputs[2], atol=1e-6)


@pytest.mark.parametrize("backbone_config", [RESNET, BOTTLENECKS, EFFICIENTNET])
@pytest.mark.parametrize("mask_padding", [False, True])
def test_folded_batch_norms_give_the_same_outputs(
    backbone_config: Any, mask_padding: bool, tmp_path: Path
) -> None:
    model = tiny_model(backbone_config=backbone_config, mask_padding=mask_padding).train()
    inputs = two_inputs()
    expected = run(copy.deepcopy(model).eval(), inputs)
    model.fold_frozen_batch_norms()
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in model.modules())
    assert difference(run(model, inputs), expected) <= 1e-5
    model.eval()
    with pytest.raises(ValueError, match="cannot be trained"):
        model.train()
    with pytest.raises(ValueError, match="cannot be saved"):
        model.save_pretrained(tmp_path)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backbone_config", [RESNET, EFFICIENTNET])
def test_frozen_norms_keep_half_precision_under_autocast(
    backbone_config: Any, precision: torch.dtype
) -> None:
    """Features of float32 would take twice the memory, and a conversion in each convolution."""
    model, types = tiny_model(backbone_config=backbone_config), set()
    expected = run(model, two_inputs())
    for module in model.mdetr.image_encoder.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.register_forward_hook(lambda _module, _inputs, y: types.add(y.dtype))
    with torch.autocast("cpu", precision):
        outputs = run(model, two_inputs())
    assert types == {precision}
    torch.testing.assert_close(outputs.pred_boxes, expected.pred_boxes, rtol=0, atol=0.02)


@pytest.mark.parametrize("backbone_config", [RESNET, EFFICIENTNET])
def test_lora_adapters_of_convolutions_and_attention_are_trained(
    backbone_config: Any, tmp_path: Path
) -> None:
    model, inputs = tiny_model(backbone_config=backbone_config), two_inputs()
    before = run(model, inputs)
    names = r".*\.(convolution|expand_conv|project_conv|query|value)"
    config = peft.LoraConfig(r=2, target_modules=names, modules_to_save=["object_heads"])
    adapted = peft.get_peft_model(copy.deepcopy(model), config)
    assert difference(run(adapted, inputs), before) <= 1e-5  # adapters start with zeros
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # the first step makes the second matrices nonzero
        adapted(**inputs, labels=two_labels()).loss.backward()
        optimizer.step()
    adapters = {n: p for n, p in adapted.named_parameters() if "lora_A" in n}
    assert any("image_encoder" in name for name in adapters)
    without = [name for name, p in adapters.items() if not p.grad.abs().sum() > 0]
    # The first layer decodes zeros, so its self attention has no effect.
    assert all("decoder.layers.0.self_attention" in name for name in without)
    after = run(adapted, inputs)
    assert difference(after, before) > 1e-3
    adapted.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path)
    assert difference(run(loaded.eval(), inputs), after) <= 1e-5
    assert difference(run(loaded.merge_and_unload(), inputs), after) <= 1e-4


@pytest.mark.parametrize(
    "kind, fields",
    [
        (MdetrForGrounding, {}),
        (MdetrForGrounding, {"backbone_config": EFFICIENTNET, "mask_padding": True}),
        (MdetrForQuestionAnswering, {"answer_heads": UNIFIED_GQA_ANSWER_HEADS}),
    ],
)
def test_offloaded_weights_give_the_same_outputs(
    kind: type[MdetrForGrounding], fields: dict[str, Any], tmp_path: Path
) -> None:
    model, inputs = tiny_model(kind, **fields), two_inputs()
    model.save_pretrained(tmp_path / "model")
    half = sum(value.nbytes for value in model.state_dict().values()) // 2
    offloaded = kind.from_pretrained(
        tmp_path / "model",
        device_map="auto",
        max_memory={"cpu": half},
        offload_folder=tmp_path / "offloaded",
    )
    assert {"cpu", "disk"} <= set(offloaded.hf_device_map.values())
    assert difference(run(offloaded, inputs), run(model, inputs)) <= 1e-5
