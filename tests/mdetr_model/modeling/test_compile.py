"""Models as graphs: torch.compile and torch.export."""

from typing import Any

import pytest
import torch

from mdetr_model import MdetrForQuestionAnswering
from mdetr_model.modeling.answer_types import CLEVR_ANSWER_HEADS
from tests.mdetr_model.small import EFFICIENTNET, TEXT, difference, run, tiny_model, two_inputs

# Compile time grows with the number of layers.
ONE_LAYER = {
    "encoder_layers": 1,
    "decoder_layers": 1,
    "text_config": TEXT | {"num_hidden_layers": 1},
}


# Inductor once: it calls a C++ compiler.
@pytest.mark.parametrize(
    ("backend", "fields"),
    [
        ("inductor", {}),
        ("aot_eager", {"mask_padding": True}),
        ("aot_eager", {"backbone_config": EFFICIENTNET}),
    ],
)
def test_forward_compiles_as_one_graph(backend: str, fields: dict[str, Any]) -> None:
    model = tiny_model(
        MdetrForQuestionAnswering, answer_heads=CLEVR_ANSWER_HEADS, **ONE_LAYER, **fields
    )
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    assert difference(run(compiled, two_inputs()), run(model, two_inputs())) <= 1e-5


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("mask_padding", [False, True])
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
