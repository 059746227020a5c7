"""Floating point operations of steps, against those of torch's counter."""

from typing import Any

import pytest
from torch._subclasses.fake_tensor import FakeTensorMode

from mdetr_model.training.flops import BatchShape, StepFlops, _count, peak_flops
from mdetr_model.training.init_model import model_class_of
from tests.mdetr_model.small import EFFICIENTNET, RESNET, tiny_config

BOTTLENECKS = {**RESNET, "layer_type": "bottleneck", "depths": [1, 2, 3, 1]}


@pytest.mark.parametrize(
    ("backbone_config", "shape", "tolerance"),
    [
        (BOTTLENECKS, BatchShape(4, 320, 480, 6, 30), 1e-6),
        (BOTTLENECKS, BatchShape(2, 333, 471, 2, 13), 0.03),
        # torch counts the padding of EfficientNet's convolutions as well.
        (EFFICIENTNET, BatchShape(2, 800, 1088, 3, 20), 0.01),
    ],
)
def test_operations_are_those_of_the_counter(
    backbone_config: Any, shape: BatchShape, tolerance: float
) -> None:
    config = tiny_config(backbone_config=backbone_config, encoder_layers=1, decoder_layers=1)
    with FakeTensorMode():
        model = model_class_of(config)(config).train()
        model.set_attn_implementation("eager")
        expected = _count(model, shape)
    assert StepFlops(config).for_shape(shape) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize(
    ("gpu", "precision", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989.4),
        ("NVIDIA H200", "tf32", 494.7),
        ("NVIDIA H100 PCIe", "tf32", 378),
        ("NVIDIA A100 80GB PCIe", "bfloat16", 312),
        ("NVIDIA A10", "tf32", 62.5),
        ("NVIDIA A100-SXM4-40GB", "float32", 19.5),
        ("NVIDIA L40S", "float16", 362),
        ("NVIDIA L4", "tf32", 60),
        ("Tesla V100-SXM2-16GB", "tf32", 15.7),
    ],
)
def test_peak_of_known_gpus(gpu: str, precision: Any, teraflops: float) -> None:
    assert peak_flops(gpu, precision) == pytest.approx(teraflops * 1e12)


@pytest.mark.parametrize(
    "gpu",
    [
        "NVIDIA GeForce GTX 1080",
        "NVIDIA L40",
        "NVIDIA RTX A1000",
        "NVIDIA A10G",
        "NVIDIA H100 NVL",
        "NVIDIA H200 NVL",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
    ],
)
def test_unknown_gpu_has_no_peak(gpu: str) -> None:
    assert peak_flops(gpu, "float32") is None
