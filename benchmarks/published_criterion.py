"""Times the published criterion on the outputs and boxes of `criterion.py`.

    PYTHONPATH=. python benchmarks/published_criterion.py CLONE TOKENIZER

CLONE and TOKENIZER are those of `published_step.py`.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

# Imported first: it makes torchvision importable if its operators are missing.
from benchmarks.published_step import published  # isort: skip

from transformers import RobertaTokenizerFast

from benchmarks.criterion import CASES, TOKENS, random_labels, random_outputs

# Each word is one token, after the token that begins a caption.
CAPTION = "the" + " man" * (TOKENS - 3)


def milliseconds(criterion: Any, words: Any, batch: int, boxes: int, runs: int) -> float:
    """Returns the median time of the losses of six layers."""
    ours, labels = random_outputs(batch), random_labels(batch, boxes)
    layers = [
        {
            "pred_logits": ours.layer_logits[layer],
            "pred_boxes": ours.layer_pred_boxes[layer],
            "proj_queries": ours.layer_proj_queries[layer],
            "proj_tokens": ours.proj_tokens,
            "tokenized": words([CAPTION] * batch, padding="longest", return_tensors="pt"),
        }
        for layer in range(len(ours.layer_logits))
    ]
    outputs = {**layers[-1], "aux_outputs": layers[:-1]}
    first = labels["positive_map"].float().argmax(-1)
    targets = [
        {
            "boxes": labels["boxes"][item],
            "labels": torch.ones(boxes, dtype=torch.int64),
            "tokens_positive": [[[4 * (w - 1), 4 * (w - 1) + 11]] for w in first[item].tolist()],
        }
        for item in range(batch)
    ]
    tokens = labels["positive_map"].flatten(0, 1).float() / 3
    times = []
    for run in range(runs + 3):
        begin = time.perf_counter()
        criterion(outputs, targets, tokens)
        if run >= 3:
            times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clone", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    _, criterion, _ = published(arguments.clone, arguments.tokenizer)
    words = RobertaTokenizerFast.from_pretrained("")
    for batch, boxes in CASES:
        median = milliseconds(criterion, words, batch, boxes, arguments.runs)
        print(f"{batch:5} {boxes:5} {median:10.1f} ms")


if __name__ == "__main__":
    main()
