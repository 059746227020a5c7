"""Times a training step of MDETR, for comparison with the published code.

    PYTHONPATH=. python benchmarks/train_step.py

ResNet-101 and a RoBERTa of base size, random weights, batch 2, 480x640, 40 tokens, train mode,
float32, two threads: forward, all losses, backward. Weights are in the memory layout of training.
`published_step.py` does the same with the published code. Times are medians of ``--runs`` after a
warm-up.
"""

import argparse
import statistics
import time

import torch

from benchmarks.criterion import random_labels
from mdetr_model import MdetrConfig, MdetrForGrounding
from mdetr_model.training.memory_format import convert_convolutions

BATCH, HEIGHT, WIDTH, TOKENS, BOXES = 2, 480, 640, 40, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = MdetrForGrounding(MdetrConfig()).train()
    convert_convolutions(model, model.mdetr.image_encoder.memory_format)
    pixels = torch.randn(BATCH, 3, HEIGHT, WIDTH)
    words = torch.randint(3, 1000, (BATCH, TOKENS))
    labels = random_labels(BATCH, BOXES)
    forward, whole = [], []
    for _ in range(arguments.runs + 1):
        model.zero_grad()
        begin = time.perf_counter()
        loss = model(pixels, words, labels=labels).loss
        middle = time.perf_counter()
        loss.backward()
        forward.append(middle - begin)
        whole.append(time.perf_counter() - begin)
    seconds = statistics.median(whole[1:])
    print(f"forward and losses {statistics.median(forward[1:]):.2f} s")
    print(f"with backward      {seconds:.2f} s")
    print(f"fastest, slowest   {min(whole[1:]):.2f} s, {max(whole[1:]):.2f} s")


if __name__ == "__main__":
    main()
