"""``python -m mdetr_model evaluate TASK``: a model measured on a split of a shard set."""

import io
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

from mdetr_model.data.answers import answers_of
from mdetr_model.data.samples import Batch, TrainingSampleBuilder, collate
from mdetr_model.data.training_data import worker_options
from mdetr_model.data.transforms import Augmentation, whole_image
from mdetr_model.distributed import Ranks, joined_ranks
from mdetr_model.evaluation.tasks import (
    Answering,
    Detection,
    Grounding,
    Referring,
    Task,
    TextOnlySample,
)
from mdetr_model.inference.ground import drawing, ground
from mdetr_model.json_files import write_json
from mdetr_model.model_folder import read_model
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding
from mdetr_model.modeling.processing_mdetr import MdetrProcessor
from shards.reading.reader import Pair, Store
from shards.reading.shard_set import ShardSet
from shards.sampling.dataset import PairDataset, SampleIndex, every_pair

Kept = TypeVar("Kept")

DRAWN_ABOVE = 0.5  # an object's score


def evaluation_loader(
    shards: ShardSet,
    places: Sequence[SampleIndex],
    tokenizer: PreTrainedTokenizerBase,
    view: Augmentation,
    *,
    batch: int,
    workers: int,
) -> DataLoader[Any]:
    """Batches of pairs with what their predictions are compared with."""
    return DataLoader(
        PairDataset([shards], TrainingSampleBuilder(tokenizer, view, evaluation=True)),
        batch_size=batch,
        sampler=places,
        num_workers=workers,
        collate_fn=partial(collate, pad_id=tokenizer.pad_token_id),
        **worker_options([shards] if workers else []),
    )


def kept(
    model: MdetrForGrounding,
    batches: Iterable[Batch],
    ranks: Ranks,
    keep: Callable[[Any, Batch], list[Kept]],
) -> list[Kept]:
    """What a function keeps of the outputs for each batch, of all processes."""
    return of_all(
        batches, ranks, lambda batch: keep(model(**batch.to(ranks.device).inputs()), batch)
    )


@torch.no_grad()
def of_all(
    batches: Iterable[Batch], ranks: Ranks, keep: Callable[[Batch], list[Kept]]
) -> list[Kept]:
    """What a function makes of each batch, of all processes.

    A process has its own batches, and may have none: nothing is waited for but the end.
    """
    found: list[Kept] = []
    for batch in tqdm(batches, disable=not ranks.is_first, unit="batch", leave=False):
        found += keep(batch)
    return [value for part in ranks.gathered(found) for value in part]


def task_of(name: str, model: MdetrForGrounding) -> Task:
    """The task of a name.

    Raises:
        ValueError: the model gives no answers, or none that are known, and "answering" is asked.
    """
    boxes: dict[str, type[Task]] = {
        "grounding": Grounding,
        "referring": Referring,
        "detection": Detection,
    }
    if name != "answering":
        return boxes[name]()
    answers = answers_of(model.config)
    if answers is None:
        raise ValueError("the model has no answers to give; see 'convert --answers'")
    return Answering(answers)


def evaluate(
    task_name: str,
    model_folder: Path,
    location: str,
    split: str,
    output: Path,
    *,
    batch: int,
    workers: int,
    images: int,
) -> None:
    """A model measured on a split of a shard set, beside blind baselines.

    Prints the metrics; writes them as ``metrics.json`` to the folder ``output``, what the model
    found as ``predictions.json``, and so many images of it.

    Args:
        task_name: "grounding", "referring", "detection" or "answering".

    Raises:
        OSError: a model or shard set cannot be read, or the output not written.
        ValueError: the shard set has no such split, or holds something else than the task asks.
    """
    with joined_ranks() as ranks:
        model, processor = read_model(model_folder)
        task = task_of(task_name, model)
        model.to(ranks.device)
        shards = ShardSet.open(location)
        places = every_pair(shards, split, rank=ranks.rank, world_size=ranks.world_size)
        loader = evaluation_loader(
            shards, places, processor.tokenizer, view_of(processor), batch=batch, workers=workers
        )
        found = kept(
            model,
            loader,
            ranks,
            lambda outputs, batch: [(task.measured(outputs, batch), task.found(outputs, batch))],
        )
        if not ranks.is_first:
            return
        metrics = task.metrics([value for measured, _ in found for value in measured])
        has_train = any(entry.split == "train" for entry in shards.shards)
        known = _unseen(shards, "train") if has_train else iter(())
        metrics["blind"] = task.blind(_unseen(shards, split), known)
        print(table(metrics))
        write_json(output / "metrics.json", metrics)
        predictions = [prediction for _, of_batch in found for prediction in of_batch]
        predictions.sort(key=lambda of: tuple(of.values())[:2])
        write_json(output / "predictions.json", predictions)
        for number, pair in enumerate(_spread(shards, split, images)):
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
    """How the processor sees an image."""
    size = processor.image_processor.size
    return whole_image(size["shortest_edge"], size["longest_edge"])


def _unseen(shards: ShardSet, split: str) -> Iterator[TextOnlySample]:
    """The captions of a split; no image is read."""
    for _, _, of in Store(shards).samples(split):
        for caption in of.captions:
            yield TextOnlySample(of.key, of.width, of.height, caption)


def _spread(shards: ShardSet, split: str, number: int) -> Iterator[Pair]:
    """So many pairs, spread evenly over a split."""
    places = every_pair(shards, split)
    numbers = np.linspace(0, len(places) - 1, min(number, len(places))).round().astype(int)
    store = Store(shards)
    for place in (places[i] for i in numbers):
        yield store.pair(place.shard, place.row, place.number)


def _draw(model: MdetrForGrounding, processor: MdetrProcessor, pair: Pair, path: Path) -> None:
    image = Image.open(io.BytesIO(pair.image)).convert("RGB")
    found = ground(image, pair.caption.text, model, processor, DRAWN_ABOVE)
    drawing(image, pair.caption.text, found).save(path)
