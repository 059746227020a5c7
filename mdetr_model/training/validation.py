"""Validation while a model is trained, on splits that it is not trained on."""

from collections.abc import Callable
from itertools import takewhile

from transformers import PreTrainedTokenizerBase

from mdetr_model.data.training_data import open_shards
from mdetr_model.data.transforms import whole_image
from mdetr_model.distributed import Ranks
from mdetr_model.evaluation.evaluate import evaluation_loader, kept, task_of
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding
from mdetr_model.training.config import TrainingConfig
from shards.sampling.dataset import every_pair


class Validation:
    """The splits that a run is validated on, opened before it begins.

    Raises:
        NotAShardSetError, ShardError: a shard set cannot be read.
        ValueError: there is no such split.
    """

    def __init__(self, config: TrainingConfig, ranks: Ranks) -> None:
        self._config = config
        self._ranks = ranks
        self._splits = []
        sets = config.data.validation
        for number, of in enumerate(sets):
            name = of.split if len(sets) == 1 else f"{of.split} {number}"
            shards = open_shards(of, config.data)
            places = every_pair(shards, of.split)
            places = places[:: _stride(len(places), config.records.validation_pairs)]
            self._splits.append((name, shards, places[ranks.rank :: ranks.world_size]))

    def run(
        self,
        model: MdetrForGrounding,
        tokenizer: PreTrainedTokenizerBase,
        must_stop: Callable[[], bool],
    ) -> dict[str, float] | None:
        """What the model reaches on every split, over all ranks.

        That is recall (ANY-BOX) of phrases, as ``SPLIT recall@K``; of a model that answers
        questions ``SPLIT accuracy``. None if one of the ranks had to stop before the end.
        """
        options, data = self._config.optimization, self._config.data
        answers = model.config.answers is not None
        task = task_of("answering" if answers else "grounding", model)
        headline = "answers" if answers else "any-box"
        model.eval()
        found: dict[str, float] = {}
        for name, shards, places in self._splits:
            loader = evaluation_loader(
                shards,
                places,
                tokenizer,
                whole_image(data.view.shortest, data.view.longest),
                batch=options.micro_batch or max(1, options.batch // self._ranks.world_size),
                workers=data.workers,
            )
            batches = takewhile(lambda _: not must_stop(), loader)
            metrics = task.metrics(kept(model, batches, self._ranks, task.measured))
            values = metrics[headline].get("all", {})
            found |= {f"{name} {key}": value for key, value in values.items()}
        model.train()
        return None if any(self._ranks.gathered(must_stop())) else found


def _stride(pairs: int, most: int | None) -> int:
    """Every so many-th pair is at most ``most`` pairs, spread over the split."""
    return 1 if most is None else max(1, -(-pairs // most))
