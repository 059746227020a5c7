"""The tasks on splits with captions of absent phrases only."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mdetr_model.data.answers import AnswerVocabulary
from mdetr_model.data.samples import Batch, GroundTruth, TrainingSample, collate
from mdetr_model.evaluation import tasks
from schemas import AbsentSpan, Caption, Phrase, Provenance, Question, Region

BOX = (0.0, 0.0, 10.0, 10.0)
SPAN = (0, 3)
ABSENT = Caption("cat", [], [SPAN], [], absent=[AbsentSpan(SPAN, "gqa", "7", "no", "proven")])
SENTENCE = Caption("dog", [Region([SPAN], BOX)], [], [Provenance("vg", "1", SPAN)])


def sample(caption: Caption, index: int, question: Question | None) -> TrainingSample:
    phrases = [Phrase([SPAN], "", [], [BOX])] * len(caption.regions)
    tokens = torch.zeros(len(phrases), 256, dtype=torch.bool)
    tokens[:, 1] = True
    truth = GroundTruth((20, 20), caption.text, phrases, tokens, is_absent=caption.is_absent())
    return TrainingSample(
        key="vg/1",
        caption_index=index,
        pixels=torch.zeros(3, 32, 32, dtype=torch.uint8),
        input_ids=torch.tensor([3, 5, 4]),
        boxes=torch.tensor([[0.25, 0.25, 0.5, 0.5]] * len(phrases)).reshape(-1, 4),
        positive_map=tokens,
        dropped_spans=0,
        answers={},
        unknown_answer=False,
        question=question,
        ground_truth=truth,
    )


def batch_of(*captions: Caption) -> tuple[Any, Batch]:
    question = Question("q1", "yes")
    batch = collate(
        [sample(c, i, None if c.is_absent() else question) for i, c in enumerate(captions)], 1
    )
    generator = torch.Generator().manual_seed(0)
    count = len(captions)
    outputs = SimpleNamespace(
        logits=torch.randn(count, 4, 256, generator=generator),
        pred_boxes=torch.rand(count, 4, 4, generator=generator),
        answers={"total": torch.randn(count, 2, generator=generator)},
    )
    return outputs, batch


@pytest.mark.parametrize(
    "task",
    [
        tasks.PhraseGroundingTask(),
        tasks.ReferringExpressionTask(),
        tasks.GeneralizedReferringTask(),
        tasks.RefL4Task(),
        tasks.ObjectDetectionTask(),
        tasks.QuestionAnsweringTask(AnswerVocabulary({"total": ("no", "yes")})),
    ],
)
def test_captions_of_absent_phrases_only_change_no_metric(task: tasks.EvaluationTask) -> None:
    """Neither among sentences nor as a whole batch."""
    task = tasks.SentenceTask(task)
    outputs, batch = batch_of(ABSENT, SENTENCE, ABSENT)
    of_sentence = SimpleNamespace(
        logits=outputs.logits[1:2],
        pred_boxes=outputs.pred_boxes[1:2],
        answers={"total": outputs.answers["total"][1:2]},
    )
    _, sentence = batch_of(SENTENCE)
    scores = task.score(outputs, batch)
    assert task.metrics(scores) == task.metrics(task.score(of_sentence, sentence))
    [entry] = task.predictions(outputs, batch)
    assert entry.get("caption_index", 1) == 1
    nothing = batch_of(ABSENT, ABSENT)
    assert task.score(*nothing) == task.predictions(*nothing) == []
    samples = [tasks.TextOnlySample("vg/1", 20, 20, each) for each in (ABSENT, SENTENCE)]
    of_all = task.baselines(iter(samples), iter(samples))
    assert of_all == task.baselines(iter(samples[1:]), iter(samples[1:]))
