"""The evaluation loop: the precision of the forward pass."""

from typing import Any

import pytest
import torch

from mdetr_model.data.samples import Batch, TrainingSample, collate
from mdetr_model.distributed import DistributedContext
from mdetr_model.evaluation.loop import collect_outputs
from mdetr_model.precision import Precision
from tests.mdetr_model.small import tiny_model


def one_batch() -> Batch:
    sample = TrainingSample(
        key="vg/1",
        caption_index=0,
        pixels=torch.arange(3 * 64 * 96, dtype=torch.int64).remainder(256).byte().view(3, 64, 96),
        input_ids=torch.tensor([3, 5, 6, 4]),
        boxes=torch.zeros(0, 4),
        positive_map=torch.zeros(0, 256, dtype=torch.bool),
        dropped_spans=0,
        answers={},
        unknown_answer=False,
    )
    return collate([sample], pad_id=1)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("tf32", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_forward_pass_has_the_precision_and_its_boxes_are_float32(
    precision: Precision, dtype: torch.dtype
) -> None:
    def score(outputs: Any, batch: Batch) -> list[Any]:
        assert not torch.is_autocast_enabled("cpu")
        return [outputs]

    context = DistributedContext(0, 1, torch.device("cpu"))
    model = tiny_model()
    [outputs] = collect_outputs(model, [one_batch()], context, score, precision)
    [expected] = collect_outputs(model, [one_batch()], context, score)
    assert outputs.logits.dtype == dtype
    assert outputs.pred_boxes.dtype == torch.float32
    torch.testing.assert_close(outputs.pred_boxes, expected.pred_boxes, rtol=0, atol=0.02)
