"""The forward pass as an ONNX graph, exported once, for images and captions of any size."""

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from mdetr_model.modeling.answer_types import CLEVR_ANSWER_HEADS
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding, MdetrForQuestionAnswering
from tests.mdetr_model.small import run, tiny_model, two_inputs

NAMES = ("pixel_values", "input_ids", "pixel_mask", "attention_mask")


class _Logits(nn.Module):
    """The outputs that an application needs, as a tuple."""

    def __init__(self, model: MdetrForGrounding) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, pixel_values: Tensor, input_ids: Any, pixel_mask: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, ...]:
        outputs = self.model(pixel_values, input_ids, pixel_mask, attention_mask)
        answers = outputs.answers.values() if outputs.answers else []
        return (outputs.logits, outputs.pred_boxes, *answers)


def inputs_of_shape(batch: int, height: int, width: int, tokens: int) -> dict[str, Tensor]:
    """Returns random inputs; all but the first image and caption are padded."""
    torch.manual_seed(batch)
    pixel_mask, attention_mask = torch.ones(batch, height, width), torch.ones(batch, tokens)
    pixel_mask[1:, :, width // 2 :] = 0
    attention_mask[1:, tokens // 2 :] = 0
    pixels = torch.randn(batch, 3, height, width) * pixel_mask[:, None]
    words = torch.randint(3, 50, (batch, tokens)).masked_fill(attention_mask == 0, 1)
    return dict(zip(NAMES, (pixels, words, pixel_mask.long(), attention_mask.long()), strict=True))


@pytest.mark.parametrize(
    "kind, fields",
    [
        (MdetrForGrounding, {}),
        (MdetrForQuestionAnswering, {"answer_heads": CLEVR_ANSWER_HEADS}),
    ],
)
def test_onnx_graph_gives_the_same_outputs_for_three_shapes(
    kind: type[MdetrForGrounding], fields: dict[str, Any], tmp_path: Path
) -> None:
    model = tiny_model(kind, **fields)
    wrapped = _Logits(model).eval()
    batch, height, width, tokens = (
        torch.export.Dim(name, max=512) for name in ("batch", "height", "width", "tokens")
    )
    image, text = {0: batch, 2: height, 3: width}, {0: batch, 1: tokens}
    torch.onnx.export(
        wrapped,
        kwargs=two_inputs(),
        f=tmp_path / "model.onnx",
        dynamo=True,
        dynamic_shapes={
            "pixel_values": image,
            "input_ids": text,
            "pixel_mask": {0: batch, 1: height, 2: width},
            "attention_mask": text,
        },
        verbose=False,
    )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    names = [each.name for each in session.get_inputs()]
    for shape in ((2, 75, 100, 9), (1, 64, 96, 5), (3, 97, 50, 14)):
        inputs = inputs_of_shape(*shape)
        values = session.run(None, {name: inputs[name].numpy() for name in names})
        outputs = run(model, inputs)
        expected = [outputs.logits, outputs.pred_boxes, *(outputs.answers or {}).values()]
        assert len(values) == len(expected)
        for value, tensor in zip(values, expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(value), tensor, rtol=0, atol=1e-4)
