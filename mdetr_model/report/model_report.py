"""All that is reported about a training run and its evaluation."""

from enum import Enum
from pathlib import Path
from typing import NamedTuple

from mdetr_model.report.results import EvaluationResults, read_results
from mdetr_model.report.word_change import WordChange, word_changes
from mdetr_model.training.learning_curve import LearningCurve, learning_curve
from shards.reading.shard_set import ShardSet


class Verdict(Enum):
    """Whether a model has learned, by its recall@1."""

    LEARNED = "has learned"
    HARDLY_LEARNED = "has hardly learned"
    NOT_LEARNED = "has not learned"


class ModelReport(NamedTuple):
    """The run, the results of its model on a split of a shard set, and the pairs of captions."""

    shards: ShardSet
    split: str
    curve: LearningCurve
    results: EvaluationResults
    word_changes: list[WordChange]

    @property
    def baselines(self) -> dict[str, float]:
        """Recall@1 of the baselines: a random object of the image, and the most frequent box."""
        return self.results.metrics.baselines["all"]

    @property
    def best_baseline(self) -> tuple[str, float]:
        """The name and the recall@1 of the best baseline."""
        return max(self.baselines.items(), key=lambda item: item[1])

    @property
    def right_word_changes(self) -> int:
        """The number of pairs with both boxes on the right objects."""
        return sum(change.is_right for change in self.word_changes)

    @property
    def sufficient_recall(self) -> float:
        """The recall@1 of a model that has learned: twice that of the best baseline.

        If that baseline exceeds 1/3, it is less: halfway from the baseline to 1.
        """
        _, best = self.best_baseline
        return min(2 * best, (best + 1) / 2)

    @property
    def verdict(self) -> Verdict:
        """Whether the model has learned; not if it is not better than the best baseline."""
        recall = self.results.metrics.recall
        if recall <= self.best_baseline[1]:
            return Verdict.NOT_LEARNED
        return Verdict.LEARNED if recall >= self.sufficient_recall else Verdict.HARDLY_LEARNED

    @property
    def advice(self) -> str | None:
        """Why the model has not learned and what to do, in a few sentences; None if it has."""
        if self.verdict is Verdict.LEARNED:
            return None
        baseline, value = self.best_baseline
        return (
            f"recall@1 is {self.results.metrics.recall:.3f}; a {baseline} has {value:.3f}, a model "
            f"that has learned at least {self.sufficient_recall:.3f}. Train longer: 'mdetr train' "
            f"with --set optimizer.epochs={2 * self.curve.epochs} (it was {self.curve.epochs}) and "
            "a new --output. 'Learning to ground from scratch' in benchmarks/README.md shows how "
            "many samples it takes."
        )


def read_report(training: Path, location: str, split: str, evaluation: Path) -> ModelReport:
    """Reads the log of a run, a shard set, and the results of ``mdetr evaluate grounding``.

    Args:
        training: folder of the run.
        location: folder or URL of the shard set that was evaluated.
        split: of the shard set.
        evaluation: folder of the results.

    Raises:
        OSError: a file is missing.
        ValueError: a file is not what it should be, or the results are not of this split.
        ShardError: a shard cannot be read.
    """
    shards = ShardSet.open(location)
    curve = learning_curve(training)
    results = read_results(evaluation, shards, split)
    return ModelReport(shards, split, curve, results, word_changes(results.captions))
