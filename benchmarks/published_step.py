"""Times a training step of the published code, on the images of `train_step.py`.

    git clone https://github.com/ashkamath/mdetr CLONE
    pip install timm torchvision
    python benchmarks/published_step.py CLONE TOKENIZER

TOKENIZER is a folder of RoBERTa's tokenizer. Weights are random: nothing is downloaded. The clone
runs unmodified; downloads and functions of old library versions are replaced here.
"""

import argparse
import ast
import statistics
import sys
import time
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import torch
import torchvision
from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

BATCH, HEIGHT, WIDTH, BOXES = 2, 480, 640, 10
# Each word is one token: 40 with the two special ones.
CAPTION = "the" + " man" * 37


def published(
    clone: Path, tokenizer: Path, device: str = "cpu"
) -> tuple[Any, Any, dict[str, float]]:
    """Returns the model, the criterion and the weights of the losses."""
    resnet = torchvision.models.resnet101
    torchvision.models.resnet101 = lambda pretrained, **options: resnet(weights=None, **options)
    words = RobertaTokenizerFast.from_pretrained(str(tokenizer))
    text = RobertaConfig(
        vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5
    )
    RobertaTokenizerFast.from_pretrained = lambda name: words
    RobertaTokenizerFast.batch_encode_plus = RobertaTokenizerFast.__call__
    RobertaModel.from_pretrained = lambda name: RobertaModel(text)
    for name in ("matplotlib", "matplotlib.pyplot", "pandas", "seaborn"):  # for plots only
        module = types.ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        sys.modules.setdefault(name, module)

    sys.path.insert(0, str(clone))
    from models.mdetr import build

    arguments = _options(clone)(["--dataset_config", ""])
    arguments.device = device
    arguments.combine_datasets = ["flickr", "mixed"]
    model, criterion, _, _, weights = build(arguments)
    return model.train().to(device), criterion, weights


def _options(clone: Path) -> Any:
    """Returns the published option parser, without the other imports of its module."""
    module = ast.parse((clone / "main.py").read_text())
    wanted = [node for node in module.body if getattr(node, "name", "") == "get_args_parser"]
    names: dict[str, Any] = {"argparse": argparse}
    exec(compile(ast.Module(wanted, []), "main.py", "exec"), names)
    return names["get_args_parser"]().parse_args


def random_targets(batch: int = BATCH) -> tuple[list[dict[str, Any]], torch.Tensor]:
    """Returns boxes of three adjacent words each, and their tokens."""
    targets, tokens = [], torch.zeros(batch * BOXES, 256)
    for item in range(batch):
        words = torch.randint(1, 34, (BOXES,)).tolist()
        for box, word in enumerate(words):
            tokens[item * BOXES + box, word + 1 : word + 4] = 1 / 3
        targets.append(
            {
                "boxes": torch.rand(BOXES, 4) * 0.4 + 0.3,
                "labels": torch.ones(BOXES, dtype=torch.int64),
                "tokens_positive": [[[4 * word, 4 * word + 11]] for word in words],
            }
        )
    return targets, tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clone", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model, criterion, weights = published(arguments.clone, arguments.tokenizer)
    from util.misc import NestedTensor

    mask = torch.zeros(BATCH, HEIGHT, WIDTH, dtype=torch.bool)
    samples = NestedTensor(torch.randn(BATCH, 3, HEIGHT, WIDTH), mask)
    targets, tokens = random_targets()
    forward, whole = [], []
    for _ in range(arguments.runs + 1):
        model.zero_grad()
        begin = time.perf_counter()
        memory = model(samples, [CAPTION] * BATCH, encode_and_save=True)
        outputs = model(samples, [CAPTION] * BATCH, encode_and_save=False, memory_cache=memory)
        losses = criterion(outputs, targets, tokens)
        loss = sum(losses[name] * weight for name, weight in weights.items() if name in losses)
        forward.append(time.perf_counter() - begin)
        loss.backward()
        whole.append(time.perf_counter() - begin)
    print(f"forward and losses {statistics.median(forward[1:]):.2f} s")
    print(f"with backward      {statistics.median(whole[1:]):.2f} s")


if __name__ == "__main__":
    main()
