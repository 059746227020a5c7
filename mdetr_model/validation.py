"""Validation while a model is trained: phrase grounding on splits that are not trained on."""

from transformers import PreTrainedTokenizerBase

from mdetr_model.evaluation import evaluation_loader, phrase_ranks
from mdetr_model.modeling import MdetrForGrounding
from mdetr_model.phrase_grounding import recalls
from mdetr_model.ranks import Ranks
from mdetr_model.training_config import TrainingConfig
from mdetr_model.training_data import open_shards
from shards.stream import every_pair


def validate(
    model: MdetrForGrounding,
    tokenizer: PreTrainedTokenizerBase,
    config: TrainingConfig,
    ranks: Ranks,
) -> dict[str, float]:
    """Recall of the phrases of every validation split, over all ranks, as ``SPLIT recall@K``."""
    options = config.optimisation
    model.eval()
    found: dict[str, float] = {}
    for number, of in enumerate(config.data.validation):
        shards = open_shards(of, config.data)
        places = every_pair(shards, of.split)
        places = places[:: _stride(len(places), config.records.validation_pairs)]
        loader = evaluation_loader(
            shards,
            places[ranks.rank :: ranks.world],
            tokenizer,
            config.data.view,
            batch=options.micro_batch or max(1, options.batch // ranks.world),
            workers=config.data.workers,
        )
        values = recalls(phrase_ranks(model, loader, ranks))
        name = of.split if len(config.data.validation) == 1 else f"{of.split} {number}"
        found |= {f"{name} {key}": value for key, value in values.items()}
    model.train()
    return found


def _stride(pairs: int, most: int | None) -> int:
    """Every so many-th pair is at most ``most`` pairs, spread over the split."""
    return 1 if most is None else max(1, -(-pairs // most))
