"""Counts the operators of a forward pass in training on a GPU, without a GPU.

    PYTHONPATH=. python benchmarks/step_operators.py

ResNet-101 and a RoBERTa of base size, batch 2, 480x640, 40 tokens, with and without padding.
Tensors are fake ones: they have a device, but no storage. Views are not counted, because they start
no kernel. The first pass computes what later ones keep, so the second is counted.
"""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mdetr_model import MdetrConfig, MdetrForGrounding
from tests.mdetr_model.operators import OperatorCounter

BATCH, HEIGHT, WIDTH, TOKENS = 2, 480, 640, 40


def main() -> None:
    with FakeTensorMode(), torch.device("cuda"):
        model = MdetrForGrounding(MdetrConfig()).train()
        pixels = torch.zeros(BATCH, 3, HEIGHT, WIDTH)
        words = torch.ones(BATCH, TOKENS, dtype=torch.long)
        masks = {
            "pixel_mask": torch.ones(BATCH, HEIGHT, WIDTH, dtype=torch.bool),
            "attention_mask": torch.ones(BATCH, TOKENS, dtype=torch.long),
        }
        model(pixels, words, **masks)
        for name, inputs in (("with masks", masks), ("without masks", {})):
            with OperatorCounter() as encoder:
                model.mdetr.image_encoder(pixels)
            with OperatorCounter() as whole:
                model(pixels, words, **inputs)
            names = ", ".join(f"{key} {count}" for key, count in whole.counts.most_common(8))
            print(
                f"{name}: image encoder {encoder.counts.total()}, model {whole.counts.total()} "
                f"({names})"
            )


if __name__ == "__main__":
    main()
