"""Lower precisions: the loss and its gradient are those of float32, and boxes stay in float32."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mdetr_model.precision import Precision, autocast, tf32
from mdetr_model.training.config import load_config
from tests.mdetr_model.small import EFFICIENTNET, RESNET, TEXT, tiny_model, two_inputs, two_labels

CPU = torch.device("cpu")
BOTTLENECKS = {**RESNET, "layer_type": "bottleneck", "depths": [1, 2, 3, 1]}
NO_DROPOUT = {
    "text_config": TEXT | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "dropout": 0.0,
    "resizer_dropout": 0.0,
}


class Tf32Rounding(TorchDispatchMode):
    """Rounds the factors of products and convolutions as a GPU with TF32 does, where it may."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = str(function.overloadpacket)
        matmul = torch.backends.cuda.matmul.fp32_precision == "tf32"
        convolution = torch.backends.cudnn.allow_tf32
        if (convolution and "convolution" in name) or (
            matmul and name.endswith(("mm", "flash_attention_for_cpu", "for_cpu_backward"))
        ):
            args = [round_to_tf32(each) if isinstance(each, Tensor) else each for each in args]
        return function(*args, **(kwargs or {}))


def round_to_tf32(x: Tensor) -> Tensor:
    """Returns the nearest numbers of 11 significant bits (Veltkamp's splitting of 24 bits)."""
    if x.dtype != torch.float32:
        return x
    multiple = x * (2**13 + 1)
    return multiple - (multiple - x)


def loss_and_gradient(model: Any, precision: Precision) -> tuple[float, Tensor]:
    model.zero_grad()
    with tf32(precision), Tf32Rounding():
        with autocast(precision, CPU):
            torch.manual_seed(0)
            loss = model(**two_inputs(), labels=two_labels()).loss
        loss.backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return loss.item(), torch.cat(gradients)


@pytest.mark.parametrize("backbone_config", [BOTTLENECKS, EFFICIENTNET])
@pytest.mark.parametrize(
    ("precision", "tolerance", "deviation"), [("tf32", 1e-3, 0.02), ("bfloat16", 1e-2, 0.2)]
)
def test_loss_and_gradient_of_lower_precision_are_those_of_float32(
    backbone_config: Any, precision: Precision, tolerance: float, deviation: float
) -> None:
    model = tiny_model(backbone_config=backbone_config, **NO_DROPOUT).train()
    expected, direction = loss_and_gradient(model, "float32")
    loss, gradient = loss_and_gradient(model, precision)
    assert loss != expected
    assert loss == pytest.approx(expected, rel=tolerance)
    assert (gradient - direction).norm() <= deviation * direction.norm()


def test_box_head_is_computed_in_float32_where_other_products_have_tf32() -> None:
    model = tiny_model()
    seen: dict[str, str] = {}

    def record(name: str) -> Any:
        return lambda *_: seen.update({name: torch.backends.cuda.matmul.fp32_precision})

    model.object_heads.box.last.register_forward_hook(record("box"))
    model.object_heads.tokens.register_forward_hook(record("tokens"))
    with tf32("tf32"):
        model(**two_inputs())
        assert seen == {"box": "ieee", "tokens": "tf32"}
        assert torch.backends.cuda.matmul.allow_tf32
    with tf32("float32"):
        model(**two_inputs())
        assert seen == {"box": "ieee", "tokens": "ieee"}


def test_precision_of_torch_is_restored() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with pytest.raises(KeyError), tf32("tf32"):
        assert torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32
        raise KeyError
    for precision in ("float32", "bfloat16", "float16"):
        with tf32(precision):
            assert not (torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


@pytest.mark.parametrize("name", ["pretrain_r101", "pretrain_enb5", "finetune_lvis", "clevr"])
def test_configurations_of_the_paper_train_with_tf32(name: str) -> None:
    assert load_config(name).optimizer.precision == "tf32"
