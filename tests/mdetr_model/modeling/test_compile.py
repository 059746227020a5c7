"""Models as graphs: torch.compile and torch.export."""

from typing import Any

import pytest
import torch

from mdetr_model import MdetrForQuestionAnswering
from mdetr_model.modeling.answer_types import CLEVR_ANSWER_HEADS
from tests.mdetr_model.small import (
    EFFICIENTNET,
    RESNET,
    TEXT,
    difference,
    run,
    tiny_model,
    two_inputs,
    two_labels,
)

# Compile time grows with the number of layers.
ONE_LAYER = {
    "backbone_config": RESNET | {"hidden_sizes": [8, 8], "depths": [1, 1]},
    "encoder_layers": 1,
    "decoder_layers": 1,
    "text_config": TEXT | {"num_hidden_layers": 1},
}


@pytest.mark.parametrize("fields", [{"mask_padding": True}, {"backbone_config": EFFICIENTNET}])
def test_forward_compiles_as_one_graph(fields: dict[str, Any]) -> None:
    """Without inductor, which calls a C++ compiler."""
    fields = ONE_LAYER | {"answer_heads": CLEVR_ANSWER_HEADS} | fields
    model = tiny_model(MdetrForQuestionAnswering, **fields)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert difference(run(compiled, two_inputs()), run(model, two_inputs())) <= 1e-5


def test_training_step_of_a_compiled_encoder_has_the_gradients_of_an_eager_one() -> None:
    """As ``mdetr train`` compiles it, with inductor."""
    torch._dynamo.reset()
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    fields = ONE_LAYER | {
        "text_config": ONE_LAYER["text_config"] | no_dropout,
        "dropout": 0.0,
        "resizer_dropout": 0.0,
    }
    eager, compiled = (tiny_model(**fields).train() for _ in range(2))
    compiled.mdetr.encoder.compile(dynamic=True)
    inputs = two_inputs()
    labels = two_labels()
    losses = []
    for model in (eager, compiled):
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    expected = dict(eager.named_parameters())
    trained = 0
    for name, parameter in compiled.named_parameters():
        if parameter.requires_grad:
            trained += 1
            assert (parameter.grad - expected[name].grad).abs().max() <= 1e-4, name
    assert trained > 50


# Strict: traced like a compiled graph, which with ``mask_padding`` is tested above.
@pytest.mark.parametrize(("mask_padding", "strict"), [(False, True), (True, False)])
def test_forward_exports_with_dynamic_shapes(mask_padding: bool, strict: bool) -> None:
    model, inputs = tiny_model(mask_padding=mask_padding, **ONE_LAYER), two_inputs()
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
        strict=strict,
    )
    other = {
        "pixel_values": torch.randn(3, 3, 101, 64),
        "input_ids": torch.randint(3, 50, (3, 12)),
        "pixel_mask": torch.ones(3, 101, 64, dtype=torch.long),
        "attention_mask": torch.ones(3, 12, dtype=torch.long),
    }
    assert difference(run(program.module(), other), run(model, other)) <= 1e-5
