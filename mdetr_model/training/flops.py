"""Floating point operations of a training step, and the peak rates of GPUs: the MFU of the log."""

import re
from typing import NamedTuple

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mdetr_model.data.samples import Batch
from mdetr_model.modeling.configuration_mdetr import MdetrConfig
from mdetr_model.precision import Precision
from mdetr_model.training.init_model import model_class_of


class GpuPeak(NamedTuple):
    """The peak rate of a GPU in TFLOP/s, without sparsity, as its data sheet states it.

    Attributes:
        words: in the name by which torch knows the GPU.
        float32: of vector units.
        tf32, half: of tensor cores; None where there are none of the type.
    """

    words: frozenset[str]
    float32: float
    tf32: float | None
    half: float


#: Names with these words are of other GPUs, or of parts of one.
UNKNOWN_WORDS = {"NVL", "MIG"}
#: The first whose words are all in the name.
GPU_PEAKS = (
    GpuPeak(frozenset({"H200"}), 67, 494.7, 989.4),
    GpuPeak(frozenset({"H100", "PCIe"}), 51, 378, 756),
    GpuPeak(frozenset({"H100", "HBM3"}), 67, 494.7, 989.4),
    GpuPeak(frozenset({"A100"}), 19.5, 156, 312),
    GpuPeak(frozenset({"L40S"}), 91.6, 183, 362),
    GpuPeak(frozenset({"L4"}), 30.3, 60, 121),
    GpuPeak(frozenset({"A10"}), 31.2, 62.5, 125),
    GpuPeak(frozenset({"V100"}), 15.7, None, 125),
)


def peak_flops(gpu: str, precision: Precision) -> float | None:
    """Returns the peak rate in FLOP/s of a GPU in a precision; None if it is not known.

    >>> peak_flops("NVIDIA A100-SXM4-80GB", "bfloat16")
    312000000000000.0
    >>> peak_flops("Tesla V100-SXM2-32GB", "tf32")  # has none, and computes in float32
    15700000000000.0
    """
    words = set(re.split("[ -]", gpu))
    for peak in GPU_PEAKS:
        if peak.words <= words and not UNKNOWN_WORDS & words:
            rate = {"float32": peak.float32, "tf32": peak.tf32 or peak.float32}
            return rate.get(precision, peak.half) * 1e12
    return None


def peak_of(device: torch.device, precision: Precision) -> float | None:
    """Returns the peak rate of a device in FLOP/s; None if it is not known, as of CPUs."""
    if device.type != "cuda":
        return None
    return peak_flops(torch.cuda.get_device_name(device), precision)


class BatchShape(NamedTuple):
    """The sizes of a batch that determine its floating point operations."""

    images: int
    height: int
    width: int
    captions: int
    tokens: int


#: Seven batches, for as many terms: see ``StepFlops``.
_COUNTED = (
    BatchShape(1, 512, 512, 1, 8),
    BatchShape(2, 512, 768, 2, 16),
    BatchShape(1, 1024, 768, 2, 8),
    BatchShape(2, 800, 1056, 3, 24),
    BatchShape(1, 640, 1280, 1, 32),
    BatchShape(1, 512, 960, 4, 32),
    BatchShape(3, 512, 512, 3, 24),
)


class StepFlops:
    """The floating point operations of the forward and backward pass of a batch.

    Those of products, attention and convolutions, padding included, without what kernels compute
    twice, and without losses. They are a sum of seven terms: images, pixels, tokens of captions,
    their squares (attention), grid locations and tokens of the joint transformer, their squares,
    and captions (queries). The factors follow from the counts of torch's counter for seven batches,
    without computing anything. Sides that are no multiples of the stride are counted as
    fractions of a location.
    """

    def __init__(self, config: MdetrConfig) -> None:
        with FakeTensorMode():  # tensors without storage
            model = model_class_of(config)(config).train()
            # Other functions compute the same, but torch does not count all of them.
            model.set_attn_implementation("eager")
            counts = [_count(model, shape) for shape in _COUNTED]
        self._stride = model.mdetr.image_encoder.stride
        terms = np.array([self._terms(shape) for shape in _COUNTED])
        scale = terms.max(0)
        self._factors = np.linalg.solve(terms / scale, counts) / scale

    def __call__(self, batch: Batch) -> float:
        """Returns the operations of a batch."""
        images, _, height, width = batch.pixels.shape
        return self.for_shape(BatchShape(images, height, width, *batch.input_ids.shape))

    def for_shape(self, shape: BatchShape) -> float:
        """Returns the operations of a batch of a shape."""
        return float(self._factors @ self._terms(shape))

    def _terms(self, shape: BatchShape) -> np.ndarray:
        images, height, width, captions, tokens = shape
        sequence = height * width / self._stride**2 + tokens
        of_captions = captions * np.array([tokens, tokens**2, sequence, sequence**2, 1])
        return np.array([images, images * height * width, *of_captions], np.float64)


def _count(model: torch.nn.Module, shape: BatchShape) -> int:
    """Returns the operations of a batch by torch's counter."""
    images, height, width, captions, tokens = shape
    with FlopCounterMode(display=False) as counter:
        outputs = model(
            pixel_values=torch.zeros(images, 3, height, width),
            input_ids=torch.ones(captions, tokens, dtype=torch.long),
            image_index=torch.arange(captions) % images,
        )
        names = ("logits", "pred_boxes", "proj_queries")
        predictions = [outputs.get(f"layer_{name}", outputs.get(name)) for name in names]
        predictions += [outputs.proj_tokens, *(outputs.answers or {}).values()]
        total = torch.stack([each.sum() for each in predictions if each is not None]).sum()
        torch.autograd.backward(total)
    return int(counter.get_total_flops())
