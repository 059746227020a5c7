"""The tasks that a model is evaluated on: what is kept of each batch, and what it adds up to."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdetr_model.data.answers import AnswerVocabulary
from mdetr_model.data.samples import Batch, Reference, phrases_of
from mdetr_model.evaluation.metrics.class_agnostic_ap import Detected, class_agnostic_ap
from mdetr_model.evaluation.metrics.phrase_grounding import (
    PROTOCOLS,
    blind_recalls,
    ranks_of_phrases,
    recalls,
)
from mdetr_model.evaluation.metrics.question_answering import (
    Prediction,
    TextOnlyBaseline,
    accuracies,
)
from mdetr_model.evaluation.metrics.referring_expressions import precisions, ranks_of_expressions
from mdetr_model.modeling.answer_losses import given_answers
from mdetr_model.modeling.box_ops import cxcywh_to_xyxy
from mdetr_model.modeling.postprocess import boxes_in_pixels, object_scores, phrase_scores
from schemas import Caption, Question

KEPT = 10  # boxes of a prediction, the best ones
# As many boxes and questions of the training data are enough to know what is frequent.
SAMPLED_BOXES = 2000
KNOWN_QUESTIONS = 200_000


class TextOnlySample(NamedTuple):
    """A pair without its image, of which it says the key, and width and height in pixels."""

    key: str
    width: int
    height: int
    caption: Caption


class Task(Protocol):
    """One of the paper's tasks."""

    def measured(self, outputs: Any, batch: Batch) -> list[Any]:
        """What metrics are made of, of the outputs for a batch with references."""

    def found(self, outputs: Any, batch: Batch) -> list[dict[str, Any]]:
        """Entries of ``predictions.json``; each begins with what they are sorted by."""

    def metrics(self, measured: Sequence[Any]) -> dict[str, Any]:
        """What has been measured of all batches, added up: tables of shares, and counts."""

    def blind(
        self, asked: Iterator[TextOnlySample], known: Iterator[TextOnlySample]
    ) -> dict[str, dict[str, float]]:
        """What those reach on pairs who see no image or read no caption, but know others.

        As tables of metrics are: by part, "all" first.
        """


class Grounding:
    """Phrase grounding: see ``phrase_grounding``."""

    def measured(self, outputs: Any, batch: Batch) -> list[Any]:
        """The ranks of phrases."""
        return list(ranks_of_phrases(outputs, _references(batch)))

    def found(self, outputs: Any, batch: Batch) -> list[dict[str, Any]]:
        """For each phrase the boxes that answer to it best."""
        boxes, logits = _boxes(outputs, batch), outputs.logits.float().cpu()
        predictions = []
        for item, reference in enumerate(_references(batch)):
            scores = phrase_scores(logits[item, None], reference.positive_map[None])[0]
            for phrase, of_phrase in zip(reference.phrases, scores, strict=True):
                words = [reference.caption[begin:end] for begin, end in phrase.spans]
                best = {"phrase": " ".join(words), **_best(boxes[item], of_phrase)}
                predictions.append({**_caption(batch, item), **best})
        return predictions

    def metrics(self, measured: Sequence[Any]) -> dict[str, Any]:
        """Recall by protocol and kind of phrase."""
        found: dict[str, Any] = {protocol: recalls(measured, protocol) for protocol in PROTOCOLS}
        return {**found, "phrases": len(measured)}

    def blind(
        self, asked: Iterator[TextOnlySample], known: Iterator[TextOnlySample]
    ) -> dict[str, dict[str, float]]:
        """A random object, and the most frequent box: see ``blind_recalls``."""
        return {"all": _blind_boxes(asked, known)}


class Referring:
    """Referring expressions: see ``referring_expressions``."""

    def measured(self, outputs: Any, batch: Batch) -> list[Any]:
        """The ranks of expressions."""
        return list(ranks_of_expressions(outputs, _references(batch)))

    def found(self, outputs: Any, batch: Batch) -> list[dict[str, Any]]:
        """The best boxes of each expression."""
        return _objects(outputs, batch)

    def metrics(self, measured: Sequence[Any]) -> dict[str, Any]:
        """Precision by measure."""
        return {"all": precisions(measured), "expressions": len(measured)}

    def blind(
        self, asked: Iterator[TextOnlySample], known: Iterator[TextOnlySample]
    ) -> dict[str, dict[str, float]]:
        """A random object, and the most frequent box: see ``blind_recalls``."""
        return {"all": _blind_boxes(asked, known)}


class Detection:
    """All objects that a caption speaks of: see ``class_agnostic_ap``."""

    def measured(self, outputs: Any, batch: Batch) -> list[Any]:
        """All boxes with the scores of objects."""
        boxes, scores = _boxes(outputs, batch), object_scores(outputs.logits.float()).cpu()
        measured = []
        for item, reference in enumerate(_references(batch)):
            height, width = reference.size
            whole = torch.tensor([width, height] * 2)
            of_item = batch.labels["boxes"][item][batch.labels["box_mask"][item]].cpu()
            truth = cxcywh_to_xyxy(of_item) * whole
            measured.append(Detected(boxes[item].numpy(), scores[item].numpy(), truth.numpy()))
        return measured

    def found(self, outputs: Any, batch: Batch) -> list[dict[str, Any]]:
        """The best boxes of each caption."""
        return _objects(outputs, batch)

    def metrics(self, measured: Sequence[Any]) -> dict[str, Any]:
        """Average precision and recall."""
        return {"boxes": {"all": class_agnostic_ap(measured)}, "captions": len(measured)}

    def blind(
        self, asked: Iterator[TextOnlySample], known: Iterator[TextOnlySample]
    ) -> dict[str, dict[str, float]]:
        """AP of boxes that are the same for every caption: the first ten that are known."""
        phrases = (boxes for pair in known for _, boxes in _phrases(pair))
        habit = np.concatenate(list(islice(phrases, KEPT)) or [np.zeros((0, 4))])[:KEPT]
        scores = np.linspace(1, 0, len(habit), dtype=np.float32)
        guesses = []
        for pair in asked:
            scale = np.array([pair.width, pair.height] * 2)
            truth = [region.box for region in pair.caption.regions if not region.crowd]
            boxes = np.array(truth, np.float32).reshape(-1, 4)
            guesses.append(Detected((habit * scale).astype(np.float32), scores, boxes))
        found = class_agnostic_ap(guesses)
        return {"all": {f"same boxes {name}": value for name, value in found.items()}}


class Answering:
    """Question answering: see ``question_answering``."""

    def __init__(self, answers: AnswerVocabulary) -> None:
        self._answers = answers

    def measured(self, outputs: Any, batch: Batch) -> list[Any]:
        """Questions, each with the answer given.

        Raises:
            ValueError: a caption is no question.
        """
        return list(self._given(outputs, batch))

    def found(self, outputs: Any, batch: Batch) -> list[dict[str, Any]]:
        """Answers as the evaluation server of GQA takes them."""
        given = (prediction for _, prediction in self._given(outputs, batch))
        return [{"questionId": of.question, "prediction": of.answer} for of in given]

    def _given(self, outputs: Any, batch: Batch) -> Iterator[tuple[Question, Prediction]]:
        given = given_answers({head: of.float().cpu() for head, of in outputs.answers.items()})
        for key, question, (head, number) in zip(batch.keys, batch.questions, given, strict=True):
            if question is None:
                raise ValueError(f"{key}: a caption that is no question")
            yield question, Prediction(question.id, self._answers.answers[head][number])

    def metrics(self, measured: Sequence[Any]) -> dict[str, Any]:
        """Accuracy by type of question, and how many right answers it cannot give."""
        questions = {question.id: question for question, _ in measured}
        found = accuracies([prediction for _, prediction in measured], questions)
        asked = [question for question in questions.values() if question.answer is not None]
        unknown = sum(not self._answers.knows(question) for question in asked)
        return {"answers": found, "questions": len(questions), "unknown answers": unknown}

    def blind(
        self, asked: Iterator[TextOnlySample], known: Iterator[TextOnlySample]
    ) -> dict[str, dict[str, float]]:
        """The accuracy of who reads the question only: see ``TextOnlyBaseline``; none without known ones."""
        learned = [
            (caption, question.answer)
            for caption, question in _questions(islice(known, KNOWN_QUESTIONS))
            if question.answer is not None
        ]
        if not learned:
            return {}
        habit = TextOnlyBaseline(learned)
        questions = list(_questions(asked))
        guesses = [Prediction(question.id, habit.answer(text)) for text, question in questions]
        found = accuracies(guesses, {question.id: question for _, question in questions})
        return {part: {"words alone": of["accuracy"]} for part, of in found.items()}


def _blind_boxes(
    asked: Iterator[TextOnlySample], known: Iterator[TextOnlySample]
) -> dict[str, float]:
    boxes: list[npt.NDArray[np.float64]] = []
    for pair in known:
        boxes += [of for _, of in _phrases(pair)]
        if len(boxes) >= SAMPLED_BOXES:
            break
    phrases = [phrase for pair in asked for phrase in _phrases(pair)]
    return blind_recalls(phrases, np.concatenate(boxes) if boxes else np.zeros((0, 4)))


def _phrases(pair: TextOnlySample) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """The image's key and the boxes of each phrase, in shares of the image's sides."""
    scale = np.array([pair.width, pair.height] * 2)
    for phrase in phrases_of(pair.caption):
        if phrase.boxes:
            yield pair.key, np.array(phrase.boxes, np.float64) / scale


def _questions(pairs: Iterator[TextOnlySample]) -> Iterator[tuple[str, Question]]:
    """The texts of questions, with what is known of them."""
    for pair in pairs:
        if pair.caption.question is not None:
            yield pair.caption.text, pair.caption.question


def _references(batch: Batch) -> list[Reference]:
    """Batches of evaluation have one for each caption."""
    return [reference for reference in batch.references if reference is not None]


def _caption(batch: Batch, item: int) -> dict[str, Any]:
    caption = _references(batch)[item].caption
    return {"key": batch.keys[item], "number": batch.numbers[item], "caption": caption}


def _boxes(outputs: Any, batch: Batch) -> Tensor:
    """Boxes (B, Q, 4) as xyxy in pixels of the whole images."""
    sizes = torch.tensor([reference.size for reference in _references(batch)])
    return boxes_in_pixels(outputs.pred_boxes.float().cpu(), sizes)


def _objects(outputs: Any, batch: Batch) -> list[dict[str, Any]]:
    """For each caption the boxes that most surely are what it speaks of."""
    boxes, scores = _boxes(outputs, batch), object_scores(outputs.logits.float()).cpu()
    return [
        {**_caption(batch, item), **_best(boxes[item], scores[item])} for item in range(len(boxes))
    ]


def _best(boxes: Tensor, scores: Tensor) -> dict[str, Any]:
    best = scores.argsort(descending=True)[:KEPT]
    return {
        "boxes": [[round(side, 2) for side in box] for box in boxes[best].tolist()],
        "scores": [round(score, 5) for score in scores[best].tolist()],
    }
