"""Losses: published values and gradients, and invariants for any outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mdetr_model.modeling.answer_losses import answer_losses
from mdetr_model.modeling.configuration_mdetr import MdetrConfig
from mdetr_model.modeling.criterion import MdetrCriterion, mean_over_ranks
from mdetr_model.modeling.losses import (
    box_losses,
    contrastive_alignment_loss,
    soft_token_targets,
)
from mdetr_model.modeling.matching import Matching
from mdetr_model.modeling.outputs import MdetrOutput
from mdetr_model.modeling.postprocess import predicted_answers
from tests.mdetr_model import golden

RELATIVE = 1e-5
SETS = ("normal", "many30", "empty_first", "empty_second", "none", "edge_spans")


def assert_losses(
    losses: dict[str, Tensor], expected: dict[str, float], absolute: float = 1e-12
) -> None:
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=RELATIVE, abs=absolute), name


@pytest.fixture(scope="module")
def stored(reference: Path) -> dict[str, np.ndarray]:
    """All outputs of the published model with ResNet-101 for the images of odd sizes."""
    with np.load(reference / "golden" / "losses" / "r101.odd.outputs.npz") as file:
        return dict(file)


def layered(stored: dict[str, np.ndarray]) -> MdetrOutput:
    outputs = MdetrOutput(
        layer_logits=torch.from_numpy(stored["pred_logits"]).requires_grad_(),
        layer_pred_boxes=torch.from_numpy(stored["pred_boxes"]).requires_grad_(),
        layer_proj_queries=torch.from_numpy(stored["proj_queries"]).requires_grad_(),
        proj_tokens=torch.from_numpy(stored["proj_tokens"]).requires_grad_(),
    )
    outputs.logits = outputs.layer_logits[-1]
    return outputs


@pytest.mark.parametrize("mode", golden.TOKEN_TARGETS)
@pytest.mark.parametrize("targets", SETS)
def test_losses_and_gradients_of_all_layers_equal_published_ones(
    reference: Path, stored: dict[str, np.ndarray], targets: str, mode: str
) -> None:
    results = golden.losses(reference, "r101")["results"]
    texts = golden.captions(reference, "detection", "odd")
    key = f"odd/{targets}/{mode}"
    labels = golden.labels(reference, results, texts, key)
    outputs = layered(stored)
    losses = MdetrCriterion(MdetrConfig(token_targets=golden.TOKEN_TARGETS[mode]))(outputs, labels)
    losses["loss"].backward()
    expected = {**results[key]["losses"], "loss": results[key]["total"]}
    gradients = {
        "pred_logits": outputs.layer_logits.grad[-1],
        "pred_boxes": outputs.layer_pred_boxes.grad[-1],
        "proj_queries": outputs.layer_proj_queries.grad[-1],
        "proj_tokens": outputs.proj_tokens.grad,
        "aux0_pred_logits": outputs.layer_logits.grad[0],
        "aux0_pred_boxes": outputs.layer_pred_boxes.grad[0],
        "aux0_proj_queries": outputs.layer_proj_queries.grad[0],
    }
    assert set(losses) == set(expected)
    if targets == "edge_spans":
        # These the published code computes with another caption's tokens: see the next test.
        expected = {k: v for k, v in expected.items() if "contrastive" not in k and k != "loss"}
        gradients = {k: v for k, v in gradients.items() if "proj" not in k}
    assert_losses(losses, expected)
    norms = results[key]["grad_norm_wrt_outputs"]
    assert_losses({k: v.norm() for k, v in gradients.items()}, {k: norms[k] for k in gradients})


def test_contrastive_loss_equals_published_one_on_its_tokens(
    reference: Path, stored: dict[str, np.ndarray]
) -> None:
    results = golden.losses(reference, "r101")["results"]
    texts = golden.captions(reference, "detection", "odd")
    tokens = golden.map_of_wrong_caption(reference, results, texts)[..., :40]
    result = results["odd/edge_spans/collated"]
    losses = contrastive_alignment_loss(
        torch.from_numpy(stored["proj_queries"]),
        torch.from_numpy(stored["proj_tokens"]),
        tokens,
        _matching(result),
        temperature=0.07,
    )
    boxes = sum(len(target["boxes_cxcywh"]) for target in result["targets"])
    suffixes = ["_0", "_1", "_2", "_3", "_4", ""]
    expected = [result["losses"][f"loss_contrastive_align{suffix}"] for suffix in suffixes]
    assert (losses / boxes).tolist() == pytest.approx(expected, rel=RELATIVE)


@pytest.mark.parametrize("mode", golden.TOKEN_TARGETS)
@pytest.mark.parametrize("targets", ("normal", "many30"))
def test_losses_without_auxiliary_loss_equal_published_ones_of_last_layer(
    reference: Path, targets: str, mode: str
) -> None:
    results = golden.losses(reference, "r101")["results"]
    texts = golden.captions(reference, "detection", "even")
    key = f"even/{targets}/{mode}"
    labels = golden.labels(reference, results, texts, key)
    arrays = golden.formulas(reference).outputs("r101", "even")
    names = {"logits": "pred_logits", "pred_boxes": "pred_boxes"}
    names |= {name: name for name in ("proj_queries", "proj_tokens")}
    outputs = MdetrOutput(**{k: torch.from_numpy(arrays[v]) for k, v in names.items()})
    losses = MdetrCriterion(MdetrConfig(token_targets=golden.TOKEN_TARGETS[mode]))(outputs, labels)
    expected = {k: v for k, v in results[key]["losses"].items() if not k[-1].isdigit()}
    assert set(losses) == {*expected, "loss"}
    assert_losses(losses, expected)


@pytest.mark.parametrize(
    ("variant", "kind"), [("eb3", "detection"), ("r101_gqa", "gqa"), ("r18_clevr", "clevr")]
)
def test_losses_of_stored_outputs_equal_published_ones_for_other_variants(
    reference: Path, variant: str, kind: str
) -> None:
    results = golden.losses(reference, variant)["results"]
    texts = golden.captions(reference, kind, "odd")
    arrays = golden.formulas(reference).outputs(variant, "odd")
    stored = {name: torch.from_numpy(value) for name, value in arrays.items()}
    boxes = torch.cat([stored["aux_pred_boxes"], stored["pred_boxes"][None]])
    head = "pred_answer_"
    answers = {k.removeprefix(head): v for k, v in stored.items() if k.startswith(head)}
    for key, result in results.items():
        labels = golden.labels(reference, results, texts, key)
        matching = _matching(result)
        number = labels["box_mask"].sum()
        distance, overlap = box_losses(boxes, labels["boxes"], matching)
        losses = {}
        for layer, suffix in enumerate(["_0", "_1", "_2", "_3", "_4", ""]):
            losses[f"loss_bbox{suffix}"] = distance[layer] / number
            losses[f"loss_giou{suffix}"] = overlap[layer] / number
        if "proj_tokens" in stored:
            last = Matching(matching.batch, matching.query[-1:], matching.box[-1:])
            tokens = labels["positive_map"][..., : stored["proj_tokens"].shape[1]]
            contrastive = contrastive_alignment_loss(
                stored["proj_queries"][None], stored["proj_tokens"], tokens, last, 0.07
            )
            losses["loss_contrastive_align"] = contrastive[0] / number
        if answers:
            losses |= answer_losses(answers, labels["answers"])
        expected = {name: result["losses"][name] for name in losses}
        assert_losses(losses, expected)


def _matching(result: dict[str, Any]) -> Matching:
    """Returns the published matching of a golden result."""
    layers = result["matcher_indices_layer0_to_5"]
    return Matching(
        batch=torch.tensor([item for item, (query, _) in enumerate(layers[0]) for _ in query]),
        query=torch.tensor([[q for query, _ in layer for q in query] for layer in layers]),
        box=torch.tensor([[b for _, box in layer for b in box] for layer in layers]),
    )


def test_answer_losses_and_predictions_equal_published_ones(reference: Path) -> None:
    golden_answers = golden.function(reference, "qa")
    formulas = golden.formulas(reference)
    sizes = {"type": 5, "obj": 3, "attr": 403, "rel": 1594, "global": 111, "cat": 678}
    clevr_sizes = {"type": 3, "binary": None, "attr": 15, "reg": 20}
    for key, case in golden_answers["cases"].items():
        kind, _, name = key.partition("/")
        answers = golden.answers(case)
        n = case["n"]
        if kind == "gqa_unified":
            logits = {"total": _logits(formulas, "gqa/unified", n, 1853, answers["total"], 0.6)}
        elif kind == "gqa_split":
            logits = {
                head: _logits(formulas, f"gqa/{name}/{head}", n, size, answers[head])
                for head, size in sizes.items()
            }
        else:
            logits = {
                head: _logits(formulas, f"clevr/{name}/{head}", n, size, answers[head], boost=8)
                for head, size in clevr_sizes.items()
            }
        losses = answer_losses(logits, answers)
        assert set(losses) == set(case["result"])
        # The loss of a confident answer is the small difference of two numbers of about 16, of
        # which a float32 step is 1e-6: it depends on the order in which exponentials are summed.
        assert_losses(losses, case["result"], absolute=1e-6)
        if "chosen" in case:
            names = {"total": "all"}
            predicted = [
                f"{names.get(head, head)}:{index}" for head, index in predicted_answers(logits)
            ]
            assert predicted == case["chosen"]


def _logits(
    formulas: Any,
    name: str,
    n: int,
    answers: int | None,
    target: Tensor,
    likely: float = 0.7,
    boost: float = 12,
) -> Tensor:
    """Returns the logits that are generated by the golden file's rule."""
    shape = (n,) if answers is None else (n, answers)
    logits = formulas.rng(name).standard_normal(shape, np.float32) * np.float32(2)
    if answers is not None:
        for i, t in enumerate(target.tolist()):
            if t >= 0 and formulas.rng(f"{name}/boost/{i}").random() < likely:
                logits[i, t] += np.float32(boost)
    return torch.from_numpy(logits)


def random_case(
    batch: int = 2, boxes: int = 3, layers: int = 2, queries: int = 5
) -> tuple[MdetrOutput, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    tokens = 7
    outputs = MdetrOutput(
        layer_logits=torch.randn(layers, batch, queries, 256, generator=generator),
        layer_pred_boxes=torch.rand(layers, batch, queries, 4, generator=generator) * 0.5 + 0.2,
        layer_proj_queries=torch.randn(layers, batch, queries, 8, generator=generator),
        layer_is_final=torch.randn(layers, batch, queries, generator=generator),
        proj_tokens=torch.randn(batch, tokens, 8, generator=generator),
    )
    outputs.logits, outputs.is_final = outputs.layer_logits[-1], outputs.layer_is_final[-1]
    positive_map = torch.zeros(batch, boxes, 256, dtype=torch.bool)
    positive_map[..., :tokens] = torch.rand(batch, boxes, tokens, generator=generator) < 0.4
    labels = {
        "boxes": torch.rand(batch, boxes, 4, generator=generator) * 0.5 + 0.2,
        "box_mask": torch.ones(batch, boxes, dtype=torch.bool),
        "positive_map": positive_map,
        "is_final": torch.rand(batch, boxes, generator=generator).round(),
    }
    return outputs, labels


def test_padded_boxes_do_not_change_losses() -> None:
    outputs, labels = random_case()
    criterion = MdetrCriterion(MdetrConfig())
    unpadded = criterion(outputs, labels)
    padded = {
        name: torch.cat([value[:, :1], torch.zeros_like(value), value[:, 1:]], dim=1)
        for name, value in labels.items()
    }
    for name, value in criterion(outputs, padded).items():
        torch.testing.assert_close(value, unpadded[name], msg=name)


def test_tokens_after_the_positive_map_have_finite_losses() -> None:
    outputs, labels = random_case()
    outputs.proj_tokens = torch.randn(2, 300, 8, generator=torch.Generator().manual_seed(1))
    losses = MdetrCriterion(MdetrConfig())(outputs, labels)
    assert all(torch.isfinite(value).all() for value in losses.values())


def test_is_final_loss_is_cross_entropy_of_matched_boxes() -> None:
    outputs, labels = random_case()
    losses = MdetrCriterion(MdetrConfig())(outputs, labels)
    by_query = _expected_finality(outputs, labels)
    assert losses["loss_isfinal"].item() == pytest.approx(by_query, rel=1e-5)
    weighted = MdetrCriterion(MdetrConfig(isfinal_loss_coef=3))(outputs, labels)["loss"]
    both = losses["loss_isfinal"] + losses["loss_isfinal_0"]
    torch.testing.assert_close(weighted, losses["loss"] + 2 * both)


def _expected_finality(outputs: MdetrOutput, labels: dict[str, Tensor]) -> float:
    """Computes it for the last layer, pair by pair, with brute-force matching of three boxes."""
    from itertools import permutations

    from mdetr_model.modeling.box_ops import cxcywh_to_xyxy, giou

    total, boxes = 0.0, labels["boxes"].shape[1]
    targets = soft_token_targets(labels["positive_map"], "normalized")
    for item, logits in enumerate(outputs.logits):
        predicted = outputs.layer_pred_boxes[-1, item]

        def cost(
            query: int, box: int, item: int = item, logits: Tensor = logits, p: Tensor = predicted
        ) -> float:
            target = labels["boxes"][item, box]
            token = logits.softmax(-1)[query] @ targets[item, box]
            overlap = giou(cxcywh_to_xyxy(p[query]), cxcywh_to_xyxy(target))
            return float(5 * (p[query] - target).abs().sum() - token - 2 * overlap)

        best = min(
            permutations(range(len(logits)), boxes),
            key=lambda queries: sum(cost(q, b) for b, q in enumerate(queries)),
        )
        for box, query in enumerate(best):
            probability = outputs.is_final[item, query].sigmoid()
            right = labels["is_final"][item, box]
            total -= float((probability if right else 1 - probability).log())
    return total / float(labels["box_mask"].sum())


@pytest.mark.parametrize(
    ("field", "loss"),
    [
        ("ce_loss_coef", "loss_ce"),
        ("bbox_loss_coef", "loss_bbox"),
        ("giou_loss_coef", "loss_giou"),
        ("contrastive_align_loss_coef", "loss_contrastive_align"),
    ],
)
def test_loss_coefficient_weights_only_its_loss(field: str, loss: str) -> None:
    outputs, labels = random_case()
    coef = getattr(MdetrConfig(), field)
    before = MdetrCriterion(MdetrConfig())(outputs, labels)
    after = MdetrCriterion(MdetrConfig(**{field: 2 * coef}))(outputs, labels)
    term = coef * (before[loss] + before[f"{loss}_0"])
    torch.testing.assert_close(after.pop("loss"), before.pop("loss") + term)
    torch.testing.assert_close(after, before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("field", "loss"),
    [("class_cost", "loss_ce"), ("bbox_cost", "loss_bbox"), ("giou_cost", "loss_giou")],
)
def test_matching_cost_lowers_its_loss(field: str, loss: str) -> None:
    """With one box of one token in each of many images, this is certain."""
    outputs, labels = random_case(batch=50, boxes=1, queries=20)
    outputs.layer_logits[..., 4:] -= 20  # so that the probability of token 3 matters
    labels["positive_map"] = torch.arange(256).expand(50, 1, -1) == 3
    fields = {"eos_coef": 0.0, "token_targets": "binary"}
    before = MdetrCriterion(MdetrConfig(**fields))(outputs, labels)
    fields[field] = 2 * getattr(MdetrConfig(), field)
    after = MdetrCriterion(MdetrConfig(**fields))(outputs, labels)
    for name in (loss, f"{loss}_0"):
        assert after[name] < before[name]


def test_eos_coef_weights_queries_without_a_box() -> None:
    outputs, labels = random_case()
    losses = [
        MdetrCriterion(MdetrConfig(eos_coef=coef))(outputs, labels) for coef in (0.0, 0.1, 0.2)
    ]
    without, once, twice = (each["loss_ce"] for each in losses)
    assert 0 < without < once
    torch.testing.assert_close(twice - once, once - without)
    for name in ("loss_bbox", "loss_giou", "loss_contrastive_align"):
        assert losses[0][name] == losses[2][name]
    labels["box_mask"][:] = False
    once, twice = (
        MdetrCriterion(MdetrConfig(eos_coef=coef))(outputs, labels)["loss_ce"]
        for coef in (0.1, 0.2)
    )
    torch.testing.assert_close(once, -0.1 * outputs.logits.log_softmax(-1)[..., -1].sum())
    torch.testing.assert_close(twice, 2 * once)


def test_temperature_divides_the_similarity_of_queries_and_tokens() -> None:
    outputs, labels = random_case()
    before = MdetrCriterion(MdetrConfig())(outputs, labels)
    warm = MdetrConfig(temperature_nce=2 * MdetrConfig().temperature_nce)
    after = MdetrCriterion(warm)(outputs, labels)
    outputs.proj_tokens = outputs.proj_tokens / 2
    expected = MdetrCriterion(MdetrConfig())(outputs, labels)
    torch.testing.assert_close(after, expected)
    assert after["loss_contrastive_align"] != before["loss_contrastive_align"]


def test_losses_are_float32_under_autocast() -> None:
    outputs, labels = random_case()
    criterion = MdetrCriterion(MdetrConfig())
    plain = criterion(outputs, labels)
    with torch.autocast("cpu", torch.bfloat16):
        cast = criterion(outputs, labels)
    for name, value in plain.items():
        torch.testing.assert_close(cast[name], value, rtol=0, atol=0, msg=name)


def test_nan_outputs_give_nan_loss() -> None:
    outputs, labels = random_case()
    outputs.layer_logits[0, 0, 0, 0] = torch.nan
    losses = MdetrCriterion(MdetrConfig())(outputs, labels)
    assert losses["loss"].isnan() and losses["loss_ce"].isfinite()


def test_more_boxes_than_queries_have_finite_losses() -> None:
    outputs, labels = random_case(boxes=9, queries=4)
    losses = MdetrCriterion(MdetrConfig())(outputs, labels)
    assert all(value.isfinite() for value in losses.values())


def test_unknown_token_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="normalized"):
        soft_token_targets(torch.zeros(1, 256, dtype=torch.bool), "soft")


def _rank(rank: int, folder: str) -> None:
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    mean = mean_over_ranks(torch.tensor([3, 8][rank]))
    Path(folder, str(rank)).write_text(str(mean.item()))
    torch.distributed.destroy_process_group()


def test_number_of_boxes_is_averaged_over_ranks(tmp_path: Path) -> None:
    assert mean_over_ranks(torch.tensor(3)).item() == 3
    # Forked, so that the processes do not import everything again.
    mp.start_processes(_rank, args=(str(tmp_path),), nprocs=2, start_method="fork")
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["5.5", "5.5"]


class _Operations(TorchDispatchMode):
    """Counts the tensor operations that run within it."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += 1
        return func(*args, **(kwargs or {}))


def test_criterion_has_no_loop_over_images_or_boxes() -> None:
    """The number of tensor operations is constant."""
    numbers = []
    for batch, boxes in ((2, 3), (7, 5)):
        outputs, labels = random_case(batch, boxes)
        with _Operations() as operations:
            MdetrCriterion(MdetrConfig())(outputs, labels)
        numbers.append(operations.number)
    assert numbers[0] == numbers[1] > 100
