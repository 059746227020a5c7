"""The evaluation loop: applies a function to the batches of a split, and gathers the results."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from mdetr_model.data.samples import Batch, TrainingSampleBuilder
from mdetr_model.data.transforms import EvalTransform
from mdetr_model.data.workers import worker_options
from mdetr_model.distributed import DistributedContext
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding
from mdetr_model.modeling.processing_mdetr import MdetrProcessor
from mdetr_model.precision import Precision, autocast
from shards.reading.shard_set import ShardSet
from shards.sampling.dataset import PairDataset, SampleIndex

T = TypeVar("T")
B = TypeVar("B")


def evaluation_loader(
    shards: ShardSet,
    indices: Sequence[SampleIndex],
    tokenizer: PreTrainedTokenizerBase,
    transform: EvalTransform,
    *,
    batch_size: int,
    workers: int,
) -> DataLoader[Any]:
    """Returns a loader of batches with ground truths."""
    builder = TrainingSampleBuilder(tokenizer, transform, evaluation=True)
    return DataLoader(
        PairDataset([shards], builder),
        batch_size=batch_size,
        sampler=indices,
        num_workers=workers,
        collate_fn=builder.collate,
        **worker_options([shards] if workers else []),
    )


def transform_of(processor: MdetrProcessor) -> EvalTransform:
    """Returns the transform that resizes images as the processor does."""
    size = processor.image_processor.size
    return EvalTransform(size=size["shortest_edge"], max_size=size["longest_edge"])


def collect_outputs(
    model: MdetrForGrounding,
    batches: Iterable[Batch],
    context: DistributedContext,
    function: Callable[[Any, Batch], list[T]],
    precision: Precision = "float32",
) -> list[T]:
    """Returns the results of ``function(outputs, batch)`` for the batches of all ranks."""

    def results(batch: Batch) -> list[T]:
        inputs = batch.to(context.device).inputs()
        with autocast(precision, context.device):
            outputs = model(**inputs)
        return function(outputs, batch)

    return collect(batches, context, results)


@torch.no_grad()
def collect(
    batches: Iterable[B], context: DistributedContext, function: Callable[[B], list[T]]
) -> list[T]:
    """Returns the results of a function for the batches of all ranks, in order of rank.

    Ranks may have different numbers of batches, or none: results are only gathered at the end.
    """
    results: list[T] = []
    for batch in tqdm(batches, disable=not context.is_main, unit="batch", leave=False):
        results += function(batch)
    return [result for rank_results in context.all_gather(results) for result in rank_results]
