"""Training runs and results of evaluations, as files with chosen predictions."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mdetr_model.data.samples import phrases_to_ground
from mdetr_model.evaluation.metrics import phrase_grounding
from schemas import Box, Caption, Phrase, Provenance, Region, Sample
from tests.shards.inspection.shard_sets import jpeg, write_full_set

WIDTH, HEIGHT = 400, 300
ELSEWHERE: Box = (0.0, 0.0, 5.0, 5.0)
#: The objects of every image.
OBJECTS: dict[str, Box] = {
    "red circle": (10.0, 20.0, 110.0, 120.0),
    "blue circle": (150.0, 20.0, 250.0, 120.0),
    "blue star": (270.0, 150.0, 390.0, 290.0),
    "green arrow": (20.0, 180.0, 120.0, 290.0),
}

Predict = Callable[[Caption, Phrase], Box]


class Paths(NamedTuple):
    """The files that ``mdetr report`` reads, and the page."""

    training: Path
    shards: Path
    evaluation: Path
    page: Path

    def arguments(self) -> list[str]:
        return [
            *("report", "--training", str(self.training), "--shards", str(self.shards)),
            *("--evaluation", str(self.evaluation), "--output", str(self.page)),
        ]


def caption(text: str, *names: str) -> Caption:
    """Returns a caption in which these objects are named."""
    regions = [
        Region([(text.index(name), text.index(name) + len(name))], OBJECTS[name]) for name in names
    ]
    return Caption(text, regions, [], [Provenance("vg", "1", (0, len(text)))])


def image(number: int, *captions: Caption) -> Sample:
    return Sample(f"vg/{number}", WIDTH, HEIGHT, f"{number}.jpg", list(captions))


def images(count: int) -> list[Sample]:
    """Returns images with three captions each: two differ in one word, and one is of both."""
    return [
        image(
            number,
            caption("red circle", "red circle"),
            caption("blue circle", "blue circle"),
            caption("the blue star is below the green arrow", "blue star", "green arrow"),
        )
        for number in range(count)
    ]


def truth(_: Caption, phrase: Phrase) -> Box:
    return phrase.boxes[0]


def nothing(_: Caption, __: Phrase) -> Box:
    return ELSEWHERE


def write_files(folder: Path, samples: Sequence[Sample], predict: Predict = truth) -> Paths:
    """Writes a run, a shard set and the results of an evaluation with these predictions."""
    paths = Paths(folder / "run", folder / "shards", folder / "evaluation", folder / "index.html")
    write_run(paths.training)
    val = [(sample, jpeg(WIDTH, HEIGHT)) for sample in samples]
    train = [
        (image(number, *sample.captions), jpeg(WIDTH, HEIGHT))
        for number, sample in enumerate(samples, 900)
    ]
    write_full_set(paths.shards, {"train": [train], "val": [val]}, name="shapes")
    write_evaluation(paths.evaluation, samples, predict)
    return paths


def write_run(folder: Path) -> None:
    """Writes configuration and log of a run of 3 epochs of 10 steps of 8 samples."""
    folder.mkdir(parents=True)
    config = {"seed": 1, "optimizer": {"epochs": 3, "global_batch_size": 8, "lr": 0.001}}
    (folder / "config.json").write_text(json.dumps(config))
    lines = []
    for step in (5, 10, 15, 20, 25, 30):
        lines.append({"kind": "train", "step": step, "loss": 60 / step, "samples_per_second": 2.0})
        if step % 10 == 0:
            recalls = {"val recall@1": step / 40, "val recall@5": step / 35}
            lines.append({"kind": "validation", "step": step, **recalls})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_evaluation(folder: Path, samples: Sequence[Sample], predict: Predict) -> None:
    """Writes the results of an evaluation; the metrics are computed as ``evaluate`` does."""
    predictions, ranks, boxes = [], [], []
    scale = np.array([WIDTH, HEIGHT] * 2)
    for sample in samples:
        for index, text in enumerate(sample.captions):
            for phrase in phrases_to_ground(text):
                box = predict(text, phrase)
                predictions.append(
                    {
                        "key": sample.key,
                        "caption_index": index,
                        "caption": text.text,
                        "phrase": " ".join(text.text[begin:end] for begin, end in phrase.spans),
                        "boxes": [box, ELSEWHERE],
                        "scores": [0.9, 0.1],
                    }
                )
                if phrase.boxes:
                    ranked = torch.tensor([box, ELSEWHERE])
                    true_boxes = torch.tensor(phrase.boxes)
                    ranks.append(
                        phrase_grounding.phrase_hit_ranks(ranked, true_boxes, phrase.types)
                    )
                    boxes.append((sample.key, np.array(phrase.boxes, np.float64) / scale))
    training_boxes = np.concatenate([phrase_boxes for _, phrase_boxes in boxes])
    metrics = {
        **{name: phrase_grounding.recalls(ranks, name) for name in phrase_grounding.PROTOCOLS},
        "phrases": len(ranks),
        "baselines": {"all": phrase_grounding.baseline_recalls(boxes, training_boxes)},
    }
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "predictions.json").write_text(json.dumps(predictions))
