from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding
from mdetr_model.training.config import OptimizerConfig
from mdetr_model.training.dry_run import ForwardCost, _state_bytes, forward_cost
from mdetr_model.training.optimization import EMA, parameter_groups
from tests.mdetr_model import small

SIZE = (64, 96)


def cost(**changes: Any) -> ForwardCost:
    arguments = {"precision": "float32", "captions": 4, "captions_per_image": 1, "size": SIZE}
    model = MdetrForGrounding(small.tiny_config()).train()
    return forward_cost(model, **{**arguments, **changes})


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_estimate_without_computation_equals_the_computed_one(precision: str) -> None:
    computed = cost(precision=precision)
    with FakeTensorMode():
        estimate = cost(precision=precision)
    assert estimate.flops == computed.flops
    # In half precision, the kernel of attention that is computed saves a little more.
    assert estimate.saved_bytes == pytest.approx(computed.saved_bytes, rel=0.01)
    assert computed.saved_bytes > 100_000


def test_cost_is_proportional_to_the_images() -> None:
    """All but a few constants of the model."""
    small_batch, large_batch = cost(captions=2), cost(captions=8)
    assert large_batch.flops == pytest.approx(4 * small_batch.flops, rel=0.01)
    assert large_batch.saved_bytes == pytest.approx(4 * small_batch.saved_bytes, rel=0.05)
    assert cost(captions=8, captions_per_image=4).flops < large_batch.flops


def test_half_precision_saves_less() -> None:
    half, full = cost(precision="bfloat16", captions=32), cost(captions=32)
    assert half.saved_bytes < 0.9 * full.saved_bytes


def test_state_has_the_size_of_the_tensors_of_training() -> None:
    model = MdetrForGrounding(small.tiny_config()).train()
    config = OptimizerConfig(epochs=1, global_batch_size=1)
    groups = parameter_groups(model, config)
    optimizer = torch.optim.AdamW(groups)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    tensors = [
        *model.parameters(),
        *(parameter.grad for parameter in model.parameters() if parameter.grad is not None),
        *(value for state in optimizer.state.values() for value in state.values() if value.ndim),
        *(EMA(model, 0.9).values[name] for name, _ in model.named_parameters()),
    ]
    count = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for group in groups for parameter in group["params"])
    assert _state_bytes(count, trained, config) == sum(tensor.nbytes for tensor in tensors)
