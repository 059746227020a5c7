"""The evaluation tasks: the scores of each batch, and the metrics over all scores."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdetr_model.data.answers import AnswerVocabulary, vocabulary_of
from mdetr_model.data.samples import Batch, GroundTruth, phrases_to_ground
from mdetr_model.evaluation.detectors import Detections
from mdetr_model.evaluation.metrics import (
    generalized_referring,
    phrase_grounding,
    ref_l4,
    referring_expressions,
)
from mdetr_model.evaluation.metrics.class_agnostic_ap import CaptionDetections, class_agnostic_ap
from mdetr_model.evaluation.metrics.question_answering import (
    PredictedAnswer,
    TextOnlyBaseline,
    accuracies,
)
from mdetr_model.evaluation.metrics.rejection import (
    PhraseScore,
    found_scores,
    rejection_metrics,
)
from mdetr_model.modeling.box_ops import cxcywh_to_xyxy, iou
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding
from mdetr_model.modeling.postprocess import (
    boxes_in_pixels,
    object_scores,
    phrase_scores,
    predicted_answers,
)
from schemas import Caption, Phrase, Question, Span

MAX_PREDICTED_BOXES = 10  # of an entry of predictions.json
# This much training data is enough for the baselines.
MAX_TRAINING_BOXES = 2000
MAX_TRAINING_QUESTIONS = 200_000


class TextOnlySample(NamedTuple):
    """A caption with the key and the size of its image, but without its pixels."""

    key: str
    width: int
    height: int
    caption: Caption


class EvaluationTask(Protocol):
    """A task of the paper."""

    def score(self, outputs: Any, batch: Batch) -> list[Any]:
        """Returns the input of ``metrics`` for a batch with ground truths."""

    def predictions(self, outputs: Any, batch: Batch) -> list[dict[str, Any]]:
        """Returns entries of ``predictions.json``; their first two fields are the sort key."""

    def metrics(self, scores: Sequence[Any]) -> dict[str, Any]:
        """Returns the metrics over the scores of all batches: tables of fractions, and counts."""

    def baselines(
        self, samples: Iterator[TextOnlySample], training_samples: Iterator[TextOnlySample]
    ) -> dict[str, dict[str, float]]:
        """Returns the metrics of baselines without the image or without the caption.

        They are grouped like the metrics: by type, "all" first.
        """


def make_task(name: str, model: MdetrForGrounding) -> EvaluationTask:
    """Returns the task of a name: "grounding", "referring", "answering" and so on.

    All but "rejection" leave out captions of absent phrases only.

    Raises:
        ValueError: there is no such task, or the model has no answer vocabulary for "answering".
    """
    task = _task(name, model)
    return task if name == "rejection" else SentenceTask(task)


def _task(name: str, model: MdetrForGrounding) -> EvaluationTask:
    match name:
        case "grounding":
            return PhraseGroundingTask()
        case "referring":
            return ReferringExpressionTask()
        case "grefcoco":
            return GeneralizedReferringTask()
        case "ref-l4":
            return RefL4Task()
        case "detection":
            return ObjectDetectionTask()
        case "rejection":
            return RejectionTask()
        case "answering":
            vocabulary = vocabulary_of(model.config)
            if vocabulary is None:
                message = "the model has no answer vocabulary; see 'mdetr convert --answers'"
                raise ValueError(message)
            return QuestionAnsweringTask(vocabulary)
    raise ValueError(f"unknown task {name!r}")


class SentenceTask:
    """A task on the captions that have a sentence, as if the others were not in the split."""

    def __init__(self, task: EvaluationTask) -> None:
        self._task = task

    def score(self, outputs: Any, batch: Batch) -> list[Any]:
        """Returns the scores of the sentences of a batch."""
        sentences = _sentences(batch)
        return self._task.score(*_select(outputs, batch, sentences)) if sentences else []

    def predictions(self, outputs: Any, batch: Batch) -> list[dict[str, Any]]:
        """Returns the entries of the sentences of a batch."""
        sentences = _sentences(batch)
        return self._task.predictions(*_select(outputs, batch, sentences)) if sentences else []

    def metrics(self, scores: Sequence[Any]) -> dict[str, Any]:
        """Returns the metrics of the task."""
        return self._task.metrics(scores)

    def baselines(
        self, samples: Iterator[TextOnlySample], training_samples: Iterator[TextOnlySample]
    ) -> dict[str, dict[str, float]]:
        """Returns the baselines of the task on sentences."""
        return self._task.baselines(
            (sample for sample in samples if not sample.caption.is_absent()),
            (sample for sample in training_samples if not sample.caption.is_absent()),
        )


class PhraseGroundingTask:
    """Phrase grounding: see ``phrase_grounding``."""

    def score(self, outputs: Any, batch: Batch) -> list[Any]:
        """Returns the hit ranks of phrases."""
        return list(phrase_grounding.batch_hit_ranks(outputs, _ground_truths(batch)))

    def predictions(self, outputs: Any, batch: Batch) -> list[dict[str, Any]]:
        """Returns the best boxes of each phrase."""
        boxes, logits = _pixel_boxes(outputs, batch), outputs.logits.float().cpu()
        predictions = []
        for item, truth in enumerate(_ground_truths(batch)):
            scores = phrase_scores(logits[item, None], truth.positive_map[None])[0]
            of_caption = zip(truth.phrases, scores, strict=True)
            for number, (phrase, query_scores) in enumerate(of_caption):
                words = " ".join(truth.caption[begin:end] for begin, end in phrase.spans)
                fields = {"phrase_index": number, "phrase": words}
                best = _best_boxes(boxes[item], query_scores)
                predictions.append({**_caption_fields(batch, item), **fields, **best})
        return predictions

    def metrics(self, scores: Sequence[Any]) -> dict[str, Any]:
        """Returns recall by protocol and type of phrase."""
        tables: dict[str, Any] = {
            protocol: phrase_grounding.recalls(scores, protocol)
            for protocol in phrase_grounding.PROTOCOLS
        }
        return {**tables, "phrases": len(scores)}

    def phrases(self, caption: Caption) -> list[list[Span]]:
        """Returns the spans of the phrases of a caption."""
        return [phrase.spans for phrase in phrases_to_ground(caption)]

    def score_detections(self, caption: Caption, detections: Sequence[Detections]) -> list[Any]:
        """Returns the hit ranks of the phrases of a caption that have a box."""
        phrases = phrases_to_ground(caption)
        return [
            phrase_grounding.phrase_hit_ranks(boxes, torch.tensor(phrase.boxes), phrase.types)
            for phrase, (boxes, _) in zip(phrases, detections, strict=True)
            if phrase.boxes
        ]

    def baselines(
        self, samples: Iterator[TextOnlySample], training_samples: Iterator[TextOnlySample]
    ) -> dict[str, dict[str, float]]:
        """Returns the recall of a random object, and of the most frequent box."""
        return {"all": _box_baselines(samples, training_samples)}


class ReferringExpressionTask:
    """Referring expressions: see ``referring_expressions``."""

    def score(self, outputs: Any, batch: Batch) -> list[Any]:
        """Returns the hit ranks of expressions."""
        return list(referring_expressions.batch_hit_ranks(outputs, _ground_truths(batch)))

    def predictions(self, outputs: Any, batch: Batch) -> list[dict[str, Any]]:
        """Returns the best boxes of each expression."""
        return _object_predictions(outputs, batch)

    def metrics(self, scores: Sequence[Any]) -> dict[str, Any]:
        """Returns precision by criterion."""
        return {"all": referring_expressions.precisions(scores), "expressions": len(scores)}

    def phrases(self, caption: Caption) -> list[list[Span]]:
        """Returns the whole expression."""
        return [[(0, len(caption.text))]]

    def score_detections(self, caption: Caption, detections: Sequence[Detections]) -> list[Any]:
        """Returns the hit ranks of an expression.

        Raises:
            ValueError: the caption does not refer to exactly one object.
        """
        [(boxes, scores)] = detections
        [box] = referring_expressions.referents(phrases_to_ground(caption))
        return [referring_expressions.expression_hit_ranks(boxes, scores, torch.tensor(box))]

    def baselines(
        self, samples: Iterator[TextOnlySample], training_samples: Iterator[TextOnlySample]
    ) -> dict[str, dict[str, float]]:
        """Returns the precision of a random object, and of the most frequent box."""
        return {"all": _box_baselines(samples, training_samples)}


class GeneralizedReferringTask(ReferringExpressionTask):
    """Expressions of any number of objects, or of none: see ``generalized_referring``."""

    def score(self, outputs: Any, batch: Batch) -> list[Any]:
        """Returns the results of expressions."""
        boxes, scores = _pixel_boxes(outputs, batch), object_scores(outputs.logits.float()).cpu()
        return [
            generalized_referring.expression_result(
                boxes[item], scores[item], _true_boxes(truth.phrases)
            )
            for item, truth in enumerate(_ground_truths(batch))
        ]

    def metrics(self, scores: Sequence[Any]) -> dict[str, Any]:
        """Returns N-acc, T-acc, and Pr@(F1=1) by criterion."""
        targets = sum(result.has_target for result in scores)
        return {
            "all": generalized_referring.generalized_metrics(scores),
            "expressions": len(scores),
            "expressions without objects": len(scores) - targets,
        }

    def score_detections(self, caption: Caption, detections: Sequence[Detections]) -> list[Any]:
        """Returns the result of an expression."""
        [(boxes, scores)] = detections
        truth = _true_boxes(phrases_to_ground(caption))
        return [generalized_referring.expression_result(boxes, scores, truth)]

    def baselines(
        self, samples: Iterator[TextOnlySample], training_samples: Iterator[TextOnlySample]
    ) -> dict[str, dict[str, float]]:
        """Returns Pr@(F1=1) of predicting nothing for every expression."""
        without = [not len(_true_boxes(phrases_to_ground(each.caption))) for each in samples]
        return {"all": {"no box": float(np.mean(without))}} if without else {}


class RefL4Task(ReferringExpressionTask):
    """Expressions of one object, by IoU and size: see ``ref_l4``."""

    def score(self, outputs: Any, batch: Batch) -> list[Any]:
        """Returns the IoU of the best box of every expression."""
        boxes, scores = _pixel_boxes(outputs, batch), object_scores(outputs.logits.float()).cpu()
        best = scores.argmax(-1)
        return [
            _best_box(boxes[item, best[item]][None], truth.phrases)
            for item, truth in enumerate(_ground_truths(batch))
        ]

    def metrics(self, scores: Sequence[Any]) -> dict[str, Any]:
        """Returns accuracies, of all expressions and by size."""
        return {"sizes": ref_l4.accuracies(scores), "expressions": len(scores)}

    def score_detections(self, caption: Caption, detections: Sequence[Detections]) -> list[Any]:
        """Returns the IoU of the best box of an expression."""
        [(boxes, _)] = detections
        return [_best_box(boxes, phrases_to_ground(caption))]


class ObjectDetectionTask:
    """Detection of all objects that a caption names: see ``class_agnostic_ap``."""

    def score(self, outputs: Any, batch: Batch) -> list[Any]:
        """Returns all boxes with their object scores, and the ground truth."""
        boxes, scores = _pixel_boxes(outputs, batch), object_scores(outputs.logits.float()).cpu()
        detections = []
        for item, ground_truth in enumerate(_ground_truths(batch)):
            height, width = ground_truth.size
            true_boxes = batch.labels["boxes"][item][batch.labels["box_mask"][item]].cpu()
            truth = cxcywh_to_xyxy(true_boxes) * torch.tensor([width, height] * 2)
            detections.append(
                CaptionDetections(boxes[item].numpy(), scores[item].numpy(), truth.numpy())
            )
        return detections

    def predictions(self, outputs: Any, batch: Batch) -> list[dict[str, Any]]:
        """Returns the best boxes of each caption."""
        return _object_predictions(outputs, batch)

    def metrics(self, scores: Sequence[Any]) -> dict[str, Any]:
        """Returns average precision and recall."""
        return {"boxes": {"all": class_agnostic_ap(scores)}, "captions": len(scores)}

    def baselines(
        self, samples: Iterator[TextOnlySample], training_samples: Iterator[TextOnlySample]
    ) -> dict[str, dict[str, float]]:
        """Returns AP of the same boxes for every caption: the first ten of the training data."""
        phrases = (boxes for sample in training_samples for _, boxes in _relative_boxes(sample))
        first = list(islice(phrases, MAX_PREDICTED_BOXES)) or [np.zeros((0, 4))]
        constant = np.concatenate(first)[:MAX_PREDICTED_BOXES]
        scores = np.linspace(1, 0, len(constant), dtype=np.float32)
        detections = []
        for sample in samples:
            scale = np.array([sample.width, sample.height] * 2)
            truth = [region.box for region in sample.caption.regions if not region.crowd]
            detections.append(
                CaptionDetections(
                    boxes=(constant * scale).astype(np.float32),
                    scores=scores,
                    truth=np.array(truth, np.float32).reshape(-1, 4),
                )
            )
        metrics = class_agnostic_ap(detections)
        return {"all": {f"same boxes {name}": value for name, value in metrics.items()}}


class RejectionTask:
    """Rejection of phrases that name nothing in the image: see ``rejection``."""

    def score(self, outputs: Any, batch: Batch) -> list[Any]:
        """Returns the scores of present and absent phrases."""
        return [score for _, _, score in self._scores(outputs, batch)]

    def predictions(self, outputs: Any, batch: Batch) -> list[dict[str, Any]]:
        """Returns the score of each phrase, and whether the image shows it."""
        return [
            {
                **_caption_fields(batch, item),
                "phrase": words,
                "present": score.is_present,
                "score": round(score.score, 5),
            }
            for item, words, score in self._scores(outputs, batch)
        ]

    def _scores(self, outputs: Any, batch: Batch) -> Iterator[tuple[int, str, PhraseScore]]:
        """Yields the caption, the words and the score of each phrase."""
        logits = outputs.logits.float().cpu()
        for item, truth in enumerate(_ground_truths(batch)):
            present = [
                " ".join(truth.caption[begin:end] for begin, end in phrase.spans)
                for phrase in truth.phrases
            ]
            for words, phrases, is_present in (
                (present, truth.positive_map, True),
                (truth.absent, truth.absent_map, False),
            ):
                scores = found_scores(logits[item], phrases).tolist()
                for phrase, score in zip(words, scores, strict=True):
                    yield item, phrase, PhraseScore(is_present, score)

    def metrics(self, scores: Sequence[Any]) -> dict[str, Any]:
        """Returns the accuracy on absent and present phrases."""
        present = sum(score.is_present for score in scores)
        return {
            "rejection": {"all": rejection_metrics(scores)},
            "present phrases": present,
            "absent phrases": len(scores) - present,
        }

    def baselines(
        self, samples: Iterator[TextOnlySample], training_samples: Iterator[TextOnlySample]
    ) -> dict[str, dict[str, float]]:
        """Returns the metrics if a phrase's score is how often it is present in training data."""
        trained = Counter(_phrases(islice(training_samples, MAX_TRAINING_QUESTIONS)))
        scores = []
        for words, is_present in _phrases(samples):
            present, absent = trained[words, True], trained[words, False]
            scores.append(PhraseScore(is_present, (present + 1) / (present + absent + 2)))
        metrics = rejection_metrics(scores)
        return {"all": {f"text only {name}": value for name, value in metrics.items()}}


class QuestionAnsweringTask:
    """Question answering: see ``question_answering``."""

    def __init__(self, vocabulary: AnswerVocabulary) -> None:
        self._vocabulary = vocabulary

    def score(self, outputs: Any, batch: Batch) -> list[Any]:
        """Returns questions, each with the model's answer.

        Raises:
            ValueError: a caption is not a question.
        """
        return list(self._answers(outputs, batch))

    def predictions(self, outputs: Any, batch: Batch) -> list[dict[str, Any]]:
        """Returns answers in the format of GQA's evaluation server."""
        return [
            {"questionId": prediction.question_id, "prediction": prediction.answer}
            for _, prediction in self._answers(outputs, batch)
        ]

    def _answers(self, outputs: Any, batch: Batch) -> Iterator[tuple[Question, PredictedAnswer]]:
        answers = predicted_answers({head: x.float().cpu() for head, x in outputs.answers.items()})
        for key, question, (head, index) in zip(batch.keys, batch.questions, answers, strict=True):
            if question is None:
                raise ValueError(f"{key}: a caption is not a question")
            answer = self._vocabulary.answers[head][index]
            yield question, PredictedAnswer(question.id, answer)

    def metrics(self, scores: Sequence[Any]) -> dict[str, Any]:
        """Returns accuracy by question type, and the number of answers not in the vocabulary."""
        questions = {question.id: question for question, _ in scores}
        answered = [question for question in questions.values() if question.answer is not None]
        return {
            "answers": accuracies([prediction for _, prediction in scores], questions),
            "questions": len(questions),
            "unknown answers": sum(not self._vocabulary.knows(question) for question in answered),
        }

    def baselines(
        self, samples: Iterator[TextOnlySample], training_samples: Iterator[TextOnlySample]
    ) -> dict[str, dict[str, float]]:
        """Returns the accuracy of ``TextOnlyBaseline``; empty without training questions."""
        training_questions = [
            (text, question.answer)
            for text, question in _questions(islice(training_samples, MAX_TRAINING_QUESTIONS))
            if question.answer is not None
        ]
        if not training_questions:
            return {}
        baseline = TextOnlyBaseline(training_questions)
        questions = list(_questions(samples))
        predictions = [PredictedAnswer(q.id, baseline.answer(text)) for text, q in questions]
        by_type = accuracies(predictions, {question.id: question for _, question in questions})
        return {name: {"text only": values["accuracy"]} for name, values in by_type.items()}


def _box_baselines(
    samples: Iterator[TextOnlySample], training_samples: Iterator[TextOnlySample]
) -> dict[str, float]:
    """Returns the recall of the baselines of ``phrase_grounding.baseline_recalls``."""
    boxes: list[npt.NDArray[np.float64]] = []
    for sample in training_samples:
        boxes += [phrase_boxes for _, phrase_boxes in _relative_boxes(sample)]
        if len(boxes) >= MAX_TRAINING_BOXES:
            break
    phrases = [phrase for sample in samples for phrase in _relative_boxes(sample)]
    training_boxes = np.concatenate(boxes) if boxes else np.zeros((0, 4))
    return phrase_grounding.baseline_recalls(phrases, training_boxes)


def _relative_boxes(sample: TextOnlySample) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Yields the image's key and the boxes of each phrase, relative to the image's sides."""
    scale = np.array([sample.width, sample.height] * 2)
    for phrase in phrases_to_ground(sample.caption):
        if phrase.boxes:
            yield sample.key, np.array(phrase.boxes, np.float64) / scale


def _phrases(samples: Iterator[TextOnlySample]) -> Iterator[tuple[str, bool]]:
    """Yields the words of each phrase in lower case, and whether its image shows what it names."""
    for sample in samples:
        text = sample.caption.text.casefold()
        for phrase in phrases_to_ground(sample.caption):
            yield " ".join(text[begin:end] for begin, end in phrase.spans), True
        for absent in sample.caption.absent:
            yield text[slice(*absent.span)], False


def _true_boxes(phrases: Sequence[Phrase]) -> Tensor:
    """Returns all boxes (N, 4) of phrases."""
    return torch.tensor([box for phrase in phrases for box in phrase.boxes]).reshape(-1, 4)


def _best_box(boxes: Tensor, phrases: Sequence[Phrase]) -> ref_l4.BestBox:
    """Returns the result of an expression of one object; of the boxes (N, 4), the best is first."""
    [referent] = torch.tensor(referring_expressions.referents(phrases))
    overlap = float(iou(boxes[0], referent)) if len(boxes) else 0.0
    width, height = (referent[2:] - referent[:2]).tolist()
    return ref_l4.BestBox(overlap, (width * height) ** 0.5)


def _questions(samples: Iterator[TextOnlySample]) -> Iterator[tuple[str, Question]]:
    """Yields text and annotation of every caption that is a question."""
    for sample in samples:
        if sample.caption.question is not None:
            yield sample.caption.text, sample.caption.question


def _sentences(batch: Batch) -> list[int]:
    """Returns the items of a batch that are not of absent phrases only."""
    truths = enumerate(batch.ground_truths)
    return [item for item, truth in truths if truth is None or not truth.is_absent]


def _select(outputs: Any, batch: Batch, items: list[int]) -> tuple[Any, Batch]:
    """Returns what tasks read of the outputs and of the batch, for some of its items."""
    if len(items) == len(batch.ground_truths):
        return outputs, batch
    answers = getattr(outputs, "answers", None) or {}
    selected = SimpleNamespace(
        logits=outputs.logits[items],
        pred_boxes=outputs.pred_boxes[items],
        answers={head: logits[items] for head, logits in answers.items()},
    )
    return selected, replace(
        batch,
        labels={name: labels[items] for name, labels in batch.labels.items()},
        keys=[batch.keys[item] for item in items],
        caption_indices=[batch.caption_indices[item] for item in items],
        questions=[batch.questions[item] for item in items],
        ground_truths=[batch.ground_truths[item] for item in items],
    )


def _ground_truths(batch: Batch) -> list[GroundTruth]:
    """Returns the ground truths, of which an evaluation batch has one for each caption."""
    return [truth for truth in batch.ground_truths if truth is not None]


def _caption_fields(batch: Batch, item: int) -> dict[str, Any]:
    caption = _ground_truths(batch)[item].caption
    return {
        "key": batch.keys[item],
        "caption_index": batch.caption_indices[item],
        "caption": caption,
    }


def _pixel_boxes(outputs: Any, batch: Batch) -> Tensor:
    """Returns the predicted boxes (B, Q, 4) as xyxy in pixels of the original images."""
    sizes = torch.tensor([truth.size for truth in _ground_truths(batch)])
    return boxes_in_pixels(outputs.pred_boxes.float().cpu(), sizes)


def _object_predictions(outputs: Any, batch: Batch) -> list[dict[str, Any]]:
    """Returns the boxes of each caption with the highest object scores."""
    boxes, scores = _pixel_boxes(outputs, batch), object_scores(outputs.logits.float()).cpu()
    return [
        {**_caption_fields(batch, item), **_best_boxes(boxes[item], scores[item])}
        for item in range(len(boxes))
    ]


def _best_boxes(boxes: Tensor, scores: Tensor) -> dict[str, Any]:
    best = scores.argsort(descending=True)[:MAX_PREDICTED_BOXES]
    return {
        "boxes": [[round(side, 2) for side in box] for box in boxes[best].tolist()],
        "scores": [round(score, 5) for score in scores[best].tolist()],
    }
