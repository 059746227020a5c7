"""``python -m mdetr_model evaluate TASK``: a model measured on a split of a shard set."""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from mdetr_model.examples import Batch, ExampleMaker, Reference, collate, phrases_of
from mdetr_model.ground import drawing, ground
from mdetr_model.model_folder import read_model
from mdetr_model.modeling import MdetrForGrounding
from mdetr_model.phrase_grounding import PROTOCOLS, Boxes, blind_recalls, ranks_of_phrases, recalls
from mdetr_model.processing import MdetrProcessor
from mdetr_model.ranks import Ranks, joined_ranks
from mdetr_model.referring_expressions import precisions, ranks_of_expressions
from mdetr_model.training_data import worker_options
from mdetr_model.transforms import Augmentation, whole_picture
from shards.shard_set import ShardSet
from shards.store import Pair, Store
from shards.stream import PairDataset, Place, every_pair

Measured = TypeVar("Measured")

# As many boxes of the training data are enough to find the most frequent one.
SAMPLED_BOXES = 2000
DRAWN_ABOVE = 0.5  # an object's score


def evaluation_loader(
    shards: ShardSet,
    places: Sequence[Place],
    tokenizer: PreTrainedTokenizerBase,
    view: Augmentation,
    *,
    batch: int,
    workers: int,
) -> DataLoader[Any]:
    """Batches of pairs with what their predictions are compared with."""
    return DataLoader(
        PairDataset([shards], ExampleMaker(tokenizer, view, evaluation=True)),
        batch_size=batch,
        sampler=places,
        num_workers=workers,
        collate_fn=partial(collate, pad_id=tokenizer.pad_token_id),
        **worker_options([shards] if workers else []),
    )


@torch.no_grad()
def measured(
    model: MdetrForGrounding,
    batches: Iterable[Batch],
    ranks: Ranks,
    measure: Callable[[Any, Sequence[Reference]], list[Measured]],
) -> list[Measured]:
    """What a function says of the outputs and references of the batches of all processes.

    A process has its own batches, and may have none: nothing is waited for but the end.
    """
    found: list[Measured] = []
    for batch in tqdm(batches, disable=not ranks.is_first, unit="batch", leave=False):
        outputs = model(**batch.to(ranks.device).inputs())
        found += measure(outputs, batch.references)
    return [value for part in ranks.gathered(found) for value in part]


def evaluate(
    task: str,
    model_folder: Path,
    location: str,
    split: str,
    output: Path,
    *,
    batch: int,
    workers: int,
    pictures: int,
) -> None:
    """A model measured on a split of a shard set, beside blind baselines.

    Prints the metrics; writes them as ``metrics.json`` to the folder ``output``, and so many
    pictures of predictions.

    Args:
        task: "grounding" or "referring", see ``phrase_grounding`` and ``referring_expressions``.

    Raises:
        OSError: a model or shard set cannot be read, or the output not written.
        ValueError: the shard set has no such split, or holds something else than the task asks.
    """
    with joined_ranks() as ranks:
        model, processor = read_model(model_folder)
        model.to(ranks.device)
        shards = ShardSet.open(location)
        places = every_pair(shards, split, rank=ranks.rank, world=ranks.world)
        loader = evaluation_loader(
            shards, places, processor.tokenizer, view_of(processor), batch=batch, workers=workers
        )
        metrics: dict[str, Any]
        if task == "grounding":
            phrases = measured(model, loader, ranks, ranks_of_phrases)
            metrics = {protocol: recalls(phrases, protocol) for protocol in PROTOCOLS}
            metrics["phrases"] = len(phrases)
        else:
            expressions = measured(model, loader, ranks, ranks_of_expressions)
            metrics = {"all": precisions(expressions), "expressions": len(expressions)}
        if not ranks.is_first:
            return
        metrics["blind"] = {"all": blind(shards, split)}
        print(table(metrics))
        output.mkdir(parents=True, exist_ok=True)
        temporary = output / ".metrics.json.tmp"
        temporary.write_text(json.dumps(metrics, indent=1) + "\n")
        temporary.replace(output / "metrics.json")
        for number, pair in enumerate(_spread(shards, split, pictures)):
            _draw(model, processor, pair, output / f"{number:03d}.png")


def table(metrics: dict[str, Any]) -> str:
    """Metrics for people: a line for each, after what they are of."""
    lines = []
    for name, found in metrics.items():
        if not isinstance(found, dict):
            lines.append(f"{name}: {found}")
            continue
        for part, values in found.items():
            shares = "   ".join(f"{metric} {value:.3f}" for metric, value in values.items())
            lines.append(f"{name:13} {part:12} {shares}")
    return "\n".join(lines)


def view_of(processor: MdetrProcessor) -> Augmentation:
    """How the processor sees a picture."""
    size = processor.image_processor.size
    return whole_picture(size["shortest_edge"], size["longest_edge"])


def blind(shards: ShardSet, split: str) -> dict[str, float]:
    """``blind_recalls`` of a split; the frequent box is one of train where the set has it."""
    train = "train" if any(entry.split == "train" for entry in shards.shards) else split
    boxes: list[Boxes] = []
    for pair in _pairs(shards, every_pair(shards, train)):
        boxes += [boxes_ for _, boxes_ in _phrases(pair)]
        if len(boxes) >= SAMPLED_BOXES:
            break
    phrases = [
        found for pair in _pairs(shards, every_pair(shards, split)) for found in _phrases(pair)
    ]
    return blind_recalls(phrases, np.concatenate(boxes) if boxes else np.zeros((0, 4)))


def _pairs(shards: ShardSet, places: Sequence[Place]) -> Iterator[Pair]:
    store = Store(shards)
    for place in places:
        yield store.pair(place.shard, place.row, place.number)


def _phrases(pair: Pair) -> Iterator[tuple[str, Boxes]]:
    """The picture's key and the boxes of each phrase, in shares of the picture's sides."""
    scale = np.array([pair.width, pair.height] * 2)
    for phrase in phrases_of(pair.caption):
        if phrase.boxes:
            yield pair.key, np.array(phrase.boxes, np.float64) / scale


def _spread(shards: ShardSet, split: str, number: int) -> Iterator[Pair]:
    """So many pairs, spread evenly over a split."""
    places = every_pair(shards, split)
    numbers = np.linspace(0, len(places) - 1, min(number, len(places))).round().astype(int)
    return _pairs(shards, [places[i] for i in numbers])


def _draw(model: MdetrForGrounding, processor: MdetrProcessor, pair: Pair, path: Path) -> None:
    picture = Image.open(io.BytesIO(pair.picture)).convert("RGB")
    found = ground(picture, pair.caption.text, model, processor, DRAWN_ABOVE)
    drawing(picture, pair.caption.text, found).save(path)
