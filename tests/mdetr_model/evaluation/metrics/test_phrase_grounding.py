"""Recall of phrase grounding, and of baselines without image or caption."""

import json
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import Tensor

from mdetr_model.data.samples import GroundTruth
from mdetr_model.evaluation.metrics.phrase_grounding import (
    NO_HIT,
    PhraseHitRanks,
    baseline_recalls,
    batch_hit_ranks,
    box_hit_rank,
    phrase_hit_ranks,
    recalls,
)
from schemas import Phrase
from tests.mdetr_model import golden

LEFT, RIGHT, BOTH = (0.0, 0.0, 50.0, 100.0), (50.0, 0.0, 100.0, 100.0), (0.0, 0.0, 100.0, 100.0)


def boxes(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows)


def test_rank_of_the_first_right_box() -> None:
    ranked = boxes(RIGHT, LEFT, BOTH)
    assert box_hit_rank(ranked, boxes(RIGHT)) == 0
    assert box_hit_rank(ranked, boxes(LEFT)) == 1
    assert box_hit_rank(ranked, boxes(LEFT, RIGHT)) == 0
    assert box_hit_rank(ranked[:1], boxes(LEFT)) == NO_HIT
    # An IoU of exactly 0.5 is enough; slightly less is not.
    assert box_hit_rank(boxes(BOTH), boxes(LEFT)) == 0
    assert box_hit_rank(boxes(BOTH), boxes((0.0, 0.0, 49.9, 100.0))) == NO_HIT


def ground_truth(*phrases: tuple[list[int], list[tuple[float, ...]]]) -> GroundTruth:
    positive_map = torch.zeros(len(phrases), 256, dtype=torch.bool)
    for row, (tokens, _) in zip(positive_map, phrases, strict=True):
        row[tokens] = True
    stated = [Phrase([(0, 1)], "", [], list(phrase_boxes)) for _, phrase_boxes in phrases]
    return GroundTruth((100, 200), "", stated, positive_map)


def test_queries_are_ranked_by_the_tokens_of_each_phrase() -> None:
    """In pixels of each image; phrases without boxes or tokens are not counted."""
    logits = torch.full((1, 3, 256), -5.0)
    logits[0, 0, 1] = logits[0, 1, 2] = logits[0, 2, 255] = 5.0
    logits[0, 2, 2] = 4.0  # names the second phrase, too, but with a lower score
    left, right = [0.125, 0.5, 0.25, 1.0], [0.375, 0.5, 0.25, 1.0]
    outputs = SimpleNamespace(logits=logits, pred_boxes=torch.tensor([[left, [0.9] * 4, right]]))
    truth = ground_truth(([1], [LEFT]), ([2, 3], [RIGHT]), ([2], []), ([], [LEFT]))
    ranks = batch_hit_ranks(outputs, [truth])
    assert [phrase.any_box for phrase in ranks] == [0, 1, NO_HIT]


def test_any_box_and_merged_boxes_protocols() -> None:
    """The enclosing box is correct for MERGED-BOXES, each single box for ANY-BOX."""
    truth = boxes((0.0, 0.0, 10.0, 10.0), (90.0, 0.0, 100.0, 10.0))
    ranked = boxes((0.0, 0.0, 100.0, 10.0), (0.0, 0.0, 10.0, 9.0))
    assert phrase_hit_ranks(ranked, truth, ["people"]) == PhraseHitRanks(("people",), 1, 0)


def test_recalls() -> None:
    ranks = [
        PhraseHitRanks(("people",), 0, 3),
        PhraseHitRanks(("people", "other"), 7, 0),
        PhraseHitRanks((), 12, NO_HIT),
    ]
    any_box = recalls(ranks, "any-box")
    assert list(any_box) == ["all", "people", "other"]
    assert any_box["all"] == {
        "recall@1": 1 / 3, "recall@5": 1 / 3, "recall@10": 2 / 3, "recall@all": 1.0
    }  # fmt: skip
    assert any_box["people"]["recall@1"] == 0.5
    assert any_box["other"]["recall@10"] == 1.0
    merged = recalls(ranks, "merged-boxes")
    assert merged["all"]["recall@5"] == merged["all"]["recall@all"] == 2 / 3
    assert recalls([], "any-box") == {}


def test_recall_on_flickr30k_equals_the_published_code(reference: Path) -> None:
    """All 1,000 val images of Flickr30k Entities with synthetic boxes, by both protocols."""
    published_recalls = json.loads((reference / "golden/functions/flickr_recall.json").read_text())
    rng = golden.formulas(reference).rng
    ranks: list[PhraseHitRanks] = []
    with zipfile.ZipFile(reference / "real/flickr30k_entities/annotations.zip") as files:
        for image in (reference / "real/flickr30k_entities/val.txt").read_text().split():
            ranks += _ranks_of_image(rng, files, image)
    assert len(ranks) == published_recalls["phrases"]
    for protocol, published in (("any-box", "any_box"), ("merged-boxes", "merged")):
        ours = recalls(ranks, protocol)
        for k, by_kind in published_recalls[published].items():
            name = f"recall@{'all' if k == '-1' else k}"
            assert {kind: values[name] for kind, values in ours.items()} == pytest.approx(by_kind)


def _ranks_of_image(rng: Any, files: zipfile.ZipFile, image: str) -> list[PhraseHitRanks]:
    root = ElementTree.fromstring(files.read(f"Annotations/{image}.xml"))
    width, height = (float(root.findtext(f"size/{side}")) for side in ("width", "height"))
    truth: dict[str, list[list[float]]] = {}
    for obj in root.iter("object"):
        corners = [obj.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        for name in obj.iter("name"):
            if None not in corners:
                truth.setdefault(name.text, []).append([float(corner) for corner in corners])
    sentences = files.read(f"Sentences/{image}.txt").decode().split("\n")
    ranks = []
    for number, sentence in enumerate(filter(None, sentences)):
        drawn = rng(f"flickr/{image}_{number}")
        for entity, types in re.findall(r"\[/EN#(\d+)/(\S+) ", sentence):
            if entity in truth:
                boxes_ = _synthetic_boxes(drawn, np.array(truth[entity]), width, height)
                ranks.append(
                    phrase_hit_ranks(
                        torch.from_numpy(boxes_),
                        torch.tensor(truth[entity]).double(),
                        types.split("/"),
                    )
                )
    return ranks


def _synthetic_boxes(
    rng: np.random.Generator, truth: np.ndarray, width: float, height: float
) -> np.ndarray:
    """Twenty boxes by the rule of the reference data."""
    share, rank = rng.random(), int(rng.integers(0, 15))
    chosen = truth[int(rng.integers(0, len(truth)))]
    jitter, c = (rng.random(4) - 0.5) * 0.4, rng.random((20, 4))
    left, top = c[:, 0] * width * 0.7, c[:, 1] * height * 0.7
    right, bottom = left + c[:, 2] * width * 0.3 + 1, top + c[:, 3] * height * 0.3 + 1
    boxes_ = np.stack([left, top, right, bottom], axis=-1)
    if share < 0.6:
        sides = np.tile(chosen[2:] - chosen[:2], 2)
        boxes_[rank if share < 0.35 else 0] = chosen + jitter * sides
    return boxes_


def test_baseline_recalls() -> None:
    """Two objects per image: one of them at random is right half of the time."""
    left, right = np.array([[0, 0, 0.4, 1]]), np.array([[0.6, 0, 1, 1]])
    # A box that is nearly that of another phrase is the same object.
    again = left + np.array([[0, 0, 0.01, 0]])
    phrases = [("a", left), ("a", right), ("a", again), ("b", left), ("b", right)]
    training = np.concatenate([right, right, left])
    baselines = baseline_recalls(phrases, training)
    assert baselines == {"random object": pytest.approx(0.5), "frequent box": pytest.approx(2 / 5)}
    assert baseline_recalls([], training) == {}
