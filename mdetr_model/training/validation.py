"""Validation during training, on splits that are not trained on."""

import math
from collections.abc import Callable, Mapping
from itertools import takewhile
from statistics import fmean
from typing import Any

from transformers import PreTrainedTokenizerBase

from mdetr_model.distributed import DistributedContext
from mdetr_model.evaluation.loop import collect_outputs, evaluation_loader
from mdetr_model.evaluation.tasks import make_task
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding
from mdetr_model.training.config import TrainingConfig
from mdetr_model.training.training_data import open_shards
from shards.sampling.dataset import evaluation_indices

BEST_BY = ("recall@1", "accuracy")  # of grounding and of question answering


def mean_score(values: Mapping[str, Any]) -> float:
    """Returns the mean over the splits of the metric that models are compared by.

    Args:
        values: what ``Validation.run`` returned, or a line of the log with that. If no split has
            such a metric, the result is minus infinity.
    """
    scores = [value for name, value in values.items() if name.split(" ")[-1] in BEST_BY]
    return fmean(scores) if scores else -math.inf


class Validation:
    """The validation splits of a run; their shard sets are opened when the run begins.

    Raises:
        NotAShardSetError, ShardError: a shard set cannot be read.
        ValueError: a shard set has no such split.
    """

    def __init__(self, config: TrainingConfig, context: DistributedContext) -> None:
        self._data = config.data
        self._context = context
        optimizer = config.optimizer
        self._batch_size = optimizer.micro_batch_size or max(
            1, optimizer.global_batch_size // context.world_size
        )
        self._splits = []
        sets = config.data.validation
        for number, entry in enumerate(sets):
            name = entry.split if len(sets) == 1 else f"{entry.split} {number}"
            shards = open_shards(entry, config.data)
            indices = evaluation_indices(shards, entry.split)
            if (max_pairs := config.logging.max_validation_pairs) is not None:
                indices = indices[:: max(1, -(-len(indices) // max_pairs))]
            self._splits.append((name, shards, indices[context.rank :: context.world_size]))

    def run(
        self,
        model: MdetrForGrounding,
        tokenizer: PreTrainedTokenizerBase,
        must_stop: Callable[[], bool],
    ) -> dict[str, float] | None:
        """Evaluates a model on every split, over all ranks.

        Returns:
            ``SPLIT recall@K`` of phrase grounding (ANY-BOX), or ``SPLIT accuracy`` of a question
            answering model; None if a rank had to stop before the end.
        """
        has_answers = model.config.answers is not None
        task = make_task("answering" if has_answers else "grounding", model)
        headline = "answers" if has_answers else "any-box"
        model.train(False)
        values: dict[str, float] = {}
        for name, shards, indices in self._splits:
            loader = evaluation_loader(
                shards,
                indices,
                tokenizer,
                self._data.eval_transform,
                batch_size=self._batch_size,
                workers=self._data.workers,
            )
            batches = takewhile(lambda _: not must_stop(), loader)
            results = collect_outputs(model, batches, self._context, task.score)
            metrics = task.metrics(results)[headline].get("all", {})
            values |= {f"{name} {metric}": value for metric, value in metrics.items()}
        model.train()
        return None if any(self._context.all_gather(must_stop())) else values
