"""Times the matching and all losses of a training step.

    PYTHONPATH=. python benchmarks/criterion.py

Six decoder layers, 100 queries, random outputs and boxes, on two threads. Times are medians of
``--runs`` after a warm-up. `published_criterion.py` does the same with the published code.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor

from mdetr_model.modeling.configuration_mdetr import MdetrConfig
from mdetr_model.modeling.criterion import MdetrCriterion
from mdetr_model.modeling.outputs import MdetrOutput

LAYERS, QUERIES, POSITIONS, TOKENS, SIZE = 6, 100, 256, 40, 64

CASES = ((8, 10), (2, 100), (2, 10))  # batch, boxes of each image


def random_outputs(batch: int) -> MdetrOutput:
    """Returns random outputs of a model, all of which require a gradient."""
    logits = torch.randn(LAYERS, batch, QUERIES, POSITIONS)
    boxes = torch.rand(LAYERS, batch, QUERIES, 4) * 0.8 + 0.1
    queries = torch.nn.functional.normalize(torch.randn(LAYERS, batch, QUERIES, SIZE), dim=-1)
    tokens = torch.nn.functional.normalize(torch.randn(batch, TOKENS, SIZE), dim=-1)
    for tensor in (logits, boxes, queries, tokens):
        tensor.requires_grad_()
    return MdetrOutput(
        layer_logits=logits,
        layer_pred_boxes=boxes,
        layer_proj_queries=queries,
        logits=logits[-1],
        proj_tokens=tokens,
    )


def random_labels(batch: int, boxes: int) -> dict[str, Tensor]:
    """Returns random labels whose boxes have three adjacent tokens each."""
    first = torch.randint(1, TOKENS - 4, (batch, boxes, 1))
    column = torch.arange(POSITIONS)
    return {
        "boxes": torch.rand(batch, boxes, 4) * 0.8 + 0.1,
        "box_mask": torch.ones(batch, boxes, dtype=torch.bool),
        "positive_map": (first <= column) & (column < first + 3),
    }


def milliseconds(batch: int, boxes: int, runs: int) -> tuple[float, float]:
    """Returns median times of the losses, and of the losses with their gradients."""
    criterion = MdetrCriterion(MdetrConfig())
    outputs, labels = random_outputs(batch), random_labels(batch, boxes)
    forward, both = [], []
    for run in range(runs + 3):
        begin = time.perf_counter()
        loss = criterion(outputs, labels)["loss"]
        middle = time.perf_counter()
        loss.backward()
        end = time.perf_counter()
        if run >= 3:
            forward.append(1000 * (middle - begin))
            both.append(1000 * (end - begin))
    return statistics.median(forward), statistics.median(both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print("batch boxes  losses  with backward   (ms)")
    for batch, boxes in CASES:
        forward, both = milliseconds(batch, boxes, arguments.runs)
        print(f"{batch:5} {boxes:5} {forward:7.2f} {both:14.2f}")


if __name__ == "__main__":
    main()
