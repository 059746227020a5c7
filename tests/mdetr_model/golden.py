"""Readers of the published losses, outputs and functions, for the tests that compare with them."""

import gzip
import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import RobertaTokenizer

from mdetr_model.modeling.positive_map import positive_map

# The mode's name in the golden files -> ``token_targets`` of ``MdetrConfig``.
TOKEN_TARGETS = {"collated": "binary", "normalised": "normalized"}


@cache
def formulas(reference: Path) -> ModuleType:
    """Imports the golden files' module: random numbers by name, stored outputs."""
    path = reference / "golden" / "formula_weights.py"
    spec = importlib.util.spec_from_file_location("formula_weights", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def losses(reference: Path, variant: str) -> dict[str, Any]:
    return json.loads((reference / "golden" / "losses" / f"{variant}.json").read_text())


def function(reference: Path, name: str) -> dict[str, Any]:
    with gzip.open(reference / "golden" / "functions" / f"{name}.json.gz") as file:
        return json.load(file)


@cache
def tokenizer(reference: Path) -> RobertaTokenizer:
    return RobertaTokenizer.from_pretrained(reference / "real" / "tokenizer_roberta_base")


def captions(reference: Path, kind: str, case: str) -> list[str]:
    cases = json.loads((reference / "golden" / "model" / "cases.json").read_text())
    return cases["captions"][kind][case]


def labels(reference: Path, results: dict[str, Any], texts: list[str], key: str) -> dict[str, Any]:
    """Returns the targets of a golden result, stored with the first result of their target set."""
    case, targets, *_ = key.split("/")
    first = next(
        result
        for name, result in results.items()
        if name.startswith(f"{case}/{targets}/") and "targets" in result
    )["targets"]
    offsets = tokenizer(reference)(texts, return_offsets_mapping=True)["offset_mapping"]
    number = max(len(target["boxes_cxcywh"]) for target in first)
    boxes = torch.zeros(len(first), number, 4)
    mask = torch.zeros(len(first), number, dtype=torch.bool)
    tokens = torch.zeros(len(first), number, 256, dtype=torch.bool)
    for item, target in enumerate(first):
        real = slice(0, len(target["boxes_cxcywh"]))
        boxes[item, real] = torch.tensor(target["boxes_cxcywh"]).reshape(-1, 4)
        mask[item, real] = True
        rows = positive_map(np.array(offsets[item]), target["tokens_positive"], "mdetr").rows
        tokens[item, real] = torch.from_numpy(rows)
    result: dict[str, Any] = {"boxes": boxes, "box_mask": mask, "positive_map": tokens}
    if "answers" in results[key]:
        result["answers"] = answers(results[key]["answers"])
    return result


def answers(published: dict[str, Any]) -> dict[str, Tensor]:
    """Returns the entries that hold right answers, by head."""
    heads = {"answer": "total"}
    return {
        heads.get(name, name.removeprefix("answer_")): torch.tensor(value)
        for name, value in published.items()
        if name.startswith("answer")
    }


def map_of_wrong_caption(reference: Path, results: dict[str, Any], texts: list[str]) -> Tensor:
    """Returns the tokens (B, N, 256) of the published contrastive loss in ``odd/edge_spans``.

    Where a span begins or ends at a space, the published code looks the next character up in the
    first caption of the batch, whichever caption the span is of.
    """
    encoded = tokenizer(reference)(texts)
    targets = results["odd/edge_spans/collated"]["targets"]
    number = max(len(target["boxes_cxcywh"]) for target in targets)
    tokens = torch.zeros(len(texts), number, 256, dtype=torch.bool)

    def find(item: int, character: int, others: list[int]) -> int | None:
        token = encoded.char_to_token(item, character)
        for other in others:
            token = encoded.char_to_token(0, other) if token is None else token
        return token

    for item, target in enumerate(targets):
        for box, spans in enumerate(target["tokens_positive"]):
            for begin, end in spans:
                first = find(item, begin, [begin + 1, begin + 2])
                last = find(item, end - 1, [end - 2, end - 3])
                if first is not None and last is not None:
                    tokens[item, box, first : last + 1] = True
    return tokens
