"""Published checkpoints: the same outputs as the published code, for all of its variants."""

import argparse
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mdetr_model import MdetrForGrounding, MdetrForQuestionAnswering, MdetrOutput
from mdetr_model.conversion.convert import convert

VARIANTS = ("r101", "eb3", "r101_gqa", "r18_clevr")
# The text encoder's pooled output, which nothing reads.
POOLER = 768 * 768 + 768


@pytest.fixture(scope="module")
def weights(reference: Path) -> ModuleType:
    """The reader of the golden files, which also fills a published checkpoint by formula."""
    path = reference / "golden" / "formula_weights.py"
    spec = importlib.util.spec_from_file_location("formula_weights", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=VARIANTS)
def converted(
    request: pytest.FixtureRequest, weights: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, MdetrForGrounding]]:
    """A published variant by its name, written as a checkpoint, converted, and loaded again."""
    variant = request.param
    folder = tmp_path_factory.mktemp(variant)
    args = weights.load_json(f"model/{variant}.state.json")["args"]
    state = weights.state_dict(variant)
    _same_checksums(weights, variant, state)
    torch.save({"model": state, "args": argparse.Namespace(**args)}, folder / "published.pth")
    convert(folder / "published.pth", folder / "model")
    (folder / "published.pth").unlink()
    qa = variant in ("r101_gqa", "r18_clevr")
    model = (MdetrForQuestionAnswering if qa else MdetrForGrounding).from_pretrained(
        folder / "model"
    )
    yield variant, model
    (folder / "model" / "model.safetensors").unlink()


def _same_checksums(weights: ModuleType, variant: str, state: dict[str, Tensor]) -> None:
    """A few tensors of every kind; numpy does not promise its random stream for ever."""
    expected = weights.spec(variant)
    for name in list(expected)[::50]:
        assert weights.checksum(state[name])[0] == expected[name][2][0], name


@pytest.mark.parametrize("case", ["even", "odd"])
def test_outputs_equal_the_published_ones(
    converted: tuple[str, MdetrForGrounding], weights: ModuleType, case: str
) -> None:
    variant, model = converted
    golden = weights.outputs(variant, case)
    pixels, padding, _ = weights.batch(case)
    with torch.no_grad():
        outputs = model(
            pixel_values=torch.from_numpy(pixels),
            input_ids=torch.from_numpy(golden["input_ids"]).long(),
            pixel_mask=torch.from_numpy(~padding),
            attention_mask=torch.from_numpy(golden["attention_mask"]).long(),
        )
    ours = _by_published_name(outputs)
    compared = {name for name in golden if name in ours}
    assert {"pred_boxes", "pred_logits_logsumexp", "aux_pred_boxes"} <= compared
    assert compared & {"pred_logits", "pred_logits_q0_20"}
    assert {name for name in golden if name.startswith(("pred_answer", "proj_"))} <= compared
    differences = {name: weights.max_abs_diff(golden[name], ours[name]) for name in compared}
    print(variant, case, {name: f"{value:.1e}" for name, value in sorted(differences.items())})
    assert all(value <= 1e-4 for value in differences.values()), differences


def test_a_sample_is_the_same_alone_and_in_a_batch(
    converted: tuple[str, MdetrForGrounding],
    weights: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the published weights' formula and sizes, but padding kept out of the image encoder."""
    variant, model = converted
    monkeypatch.setattr(model.config, "mask_padding", True)
    golden = weights.outputs(variant, "odd")
    pixels, padding, _ = weights.batch("odd")
    inputs = {
        "pixel_values": torch.from_numpy(pixels),
        "input_ids": torch.from_numpy(golden["input_ids"]).long(),
        "pixel_mask": torch.from_numpy(~padding).long(),
        "attention_mask": torch.from_numpy(golden["attention_mask"]).long(),
    }
    differences: dict[str, float] = {}
    with torch.no_grad():
        whole = model(**inputs)
        for item in range(len(pixels)):
            one = slice(item, item + 1)
            height = int(inputs["pixel_mask"][item].any(1).sum())
            width = int(inputs["pixel_mask"][item].any(0).sum())
            tokens = int(inputs["attention_mask"][item].sum())
            alone = model(
                inputs["pixel_values"][one, :, :height, :width], inputs["input_ids"][one, :tokens]
            )
            pairs = {
                name: (alone[name], whole[name][one])
                for name in ("logits", "pred_boxes", "proj_queries")
                if name in whole
            }
            if "proj_tokens" in whole:
                pairs["proj_tokens"] = (alone.proj_tokens, whole.proj_tokens[one, :tokens])
            for head, answers in (whole.answers or {}).items():
                pairs[head] = (alone.answers[head], answers[one])
            for name, (first, second) in pairs.items():
                found = (first - second).abs().max().item()
                # Unlike Python's max, this keeps what is not a number.
                differences[name] = float(np.maximum(found, differences.get(name, 0.0)))
    print(variant, {name: f"{value:.1e}" for name, value in sorted(differences.items())})
    assert all(value <= 1e-4 for value in differences.values()), differences


def _by_published_name(outputs: MdetrOutput) -> dict[str, np.ndarray]:
    logits, layers = outputs.logits, outputs.layer_logits
    named: dict[str, Any] = {
        "pred_logits": logits,
        "pred_logits_q0_20": logits[:, :20],
        "pred_logits_logsumexp": logits.logsumexp(-1),
        "pred_logits_noobj": logits[..., -1],
        "pred_boxes": outputs.pred_boxes,
        "aux_pred_boxes": outputs.layer_pred_boxes[:-1],
        "aux0_pred_logits_q0_20": layers[0, :, :20],
        "aux_pred_logits_logsumexp": layers[:-1].logsumexp(-1),
    }
    if outputs.proj_tokens is not None:
        named["proj_queries"] = outputs.proj_queries
        named["proj_tokens"] = outputs.proj_tokens
        named["aux0_proj_queries_q0_20"] = outputs.layer_proj_queries[0, :, :20]
    for head, answers in (outputs.answers or {}).items():
        named["pred_answer" if head == "total" else f"pred_answer_{head}"] = answers
    return {name: value.numpy() for name, value in named.items()}


def test_parameters_are_the_published_ones(
    converted: tuple[str, MdetrForGrounding], weights: ModuleType
) -> None:
    variant, model = converted
    published = weights.load_json(f"model/{variant}.state.json")
    assert model.num_parameters() == published["parameters"] - POOLER
    trainable = model.num_parameters(only_trainable=True)
    assert trainable == published["trainable_parameters"] - POOLER
