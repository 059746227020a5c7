"""Attention weights, hidden states, attention functions, and gradient checkpointing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mdetr_model.modeling.answer_types import CLEVR_ANSWER_HEADS
from mdetr_model.modeling.modeling_mdetr import (
    MdetrForGrounding,
    MdetrForQuestionAnswering,
    MdetrModel,
)
from mdetr_model.modeling.outputs import LAYER_STATES
from mdetr_model.modeling.transformer import MdetrAttention
from tests.mdetr_model.small import (
    EFFICIENTNET,
    LAYERS,
    QUERIES,
    difference,
    run,
    tiny_model,
    two_inputs,
    two_labels,
)

KINDS = [(MdetrModel, 0), (MdetrForGrounding, 0), (MdetrForQuestionAnswering, 4)]
LOCATIONS, TOKENS = 3 * 4, 9  # of `two_inputs`


@pytest.mark.parametrize("kind, answer_queries", KINDS)
def test_attentions_and_hidden_states_of_every_layer(kind: type, answer_queries: int) -> None:
    model = tiny_model(kind, answer_heads=CLEVR_ANSWER_HEADS)
    inputs: Any = two_inputs()
    plain = run(model, inputs)
    outputs = run(model, {**inputs, "output_attentions": True, "output_hidden_states": True})
    keys, queries = LOCATIONS + TOKENS, QUERIES + answer_queries
    shapes = {name: [tuple(each.shape) for each in outputs[name]] for name in LAYER_STATES}
    assert shapes == {
        "encoder_hidden_states": [(2, keys, 32)] * 3,
        "encoder_attentions": [(2, 4, keys, keys)] * 2,
        "decoder_hidden_states": [(2, queries, 32)] * (LAYERS + 1),
        "decoder_attentions": [(2, 4, queries, queries)] * LAYERS,
        "cross_attentions": [(2, 4, queries, keys)] * LAYERS,
    }
    for name in ("encoder_attentions", "decoder_attentions", "cross_attentions"):
        for weights in outputs[name]:
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    # The second caption has 6 tokens.
    for weights in outputs.encoder_attentions + outputs.cross_attentions:
        padding = weights[..., LOCATIONS + 6 :]
        assert padding[0].any() and not padding[1].any()
    assert not plain.keys() & set(LAYER_STATES)
    assert difference({name: outputs[name] for name in plain}, plain) <= 1e-5


@pytest.mark.parametrize("name", ["output_attentions", "output_hidden_states"])
def test_configuration_may_ask_for_layer_states(name: str) -> None:
    model = tiny_model(MdetrForGrounding)
    model.set_attn_implementation("eager")
    setattr(model.config, name, True)
    expected = {each for each in LAYER_STATES if each.endswith(name.removeprefix("output_"))}
    assert run(model, two_inputs()).keys() & set(LAYER_STATES) == expected
    inputs: Any = two_inputs() | {name: False}
    assert not run(model, inputs).keys() & set(LAYER_STATES)


def test_last_hidden_states_are_what_heads_read() -> None:
    model = tiny_model(MdetrModel)
    inputs: Any = two_inputs() | {"output_hidden_states": True}
    outputs = run(model, inputs)
    memory = torch.cat([outputs.image_memory, outputs.text_memory], dim=1)
    assert torch.equal(outputs.encoder_hidden_states[-1], memory)
    last = model.decoder.norm(outputs.decoder_hidden_states[-1])
    torch.testing.assert_close(last, outputs.last_hidden_state)


@pytest.mark.parametrize("backbone_config", ["resnet", "efficientnet"])
def test_attention_function_is_the_one_that_is_asked_for(
    backbone_config: str, tmp_path: Path
) -> None:
    calls: list[str] = []

    def recorded(module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        calls.append(type(module).__name__)
        return sdpa_attention_forward(module, *args, **kwargs)

    AttentionInterface.register("recorded", recorded)
    AttentionMaskInterface.register("recorded", sdpa_mask)  # for the text encoder
    fields = {"backbone_config": EFFICIENTNET} if backbone_config == "efficientnet" else {}
    model = tiny_model(**fields)
    expected = run(model, two_inputs())
    model.save_pretrained(tmp_path)
    for name in ("sdpa", "eager", "recorded", None):
        loaded = MdetrForGrounding.from_pretrained(tmp_path, attn_implementation=name)
        assert loaded.config._attn_implementation == (name or "sdpa")
        assert difference(run(loaded, two_inputs()), expected) <= 1e-5
        assert calls.count("MdetrAttention") == (2 + 2 * LAYERS if name == "recorded" else 0)
        calls.clear()
        loaded.set_attn_implementation("recorded")
        run(loaded, two_inputs())
        assert calls.count("MdetrAttention") == 2 + 2 * LAYERS
        calls.clear()
    with pytest.raises(ValueError, match="flex"):
        MdetrForGrounding.from_pretrained(tmp_path, attn_implementation="flex_attention")


def test_eager_attention_has_the_dropout_of_training() -> None:
    attention = MdetrAttention(tiny_model(dropout=0.5).config)
    x = torch.randn(1, 3, 32)
    attention.eval()
    first, second = (attention(x, x, x, None, output_attentions=True) for _ in range(2))
    assert torch.equal(first[0], second[0])
    attention.train()
    first, second = (attention(x, x, x, None, output_attentions=True) for _ in range(2))
    assert not torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(use_reentrant: bool) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(dropout=0.0, resizer_dropout=0.0).train()
        for dropout in (m for m in model.modules() if isinstance(m, torch.nn.Dropout)):
            dropout.p = 0.0
        calls = 0

        def count(*_: Any) -> None:
            nonlocal calls
            calls += 1

        for layer in model.mdetr.encoder.layers[0], model.mdetr.decoder.layers[0]:
            layer.feedforward.register_forward_hook(count)
        model.mdetr.text_encoder.encoder.layer[0].attention.register_forward_hook(count)
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
        inputs, labels = two_inputs(), two_labels()
        model(**inputs, labels=labels).loss.backward()
        assert calls == (6 if checkpointing else 3)
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-4)
