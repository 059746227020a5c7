"""Shard sets on disk or in a bucket: format, writing, reading, sampling, export and inspection.

A shard set is a folder that holds a ``manifest.json``; see docs/shard_format.md. The names below,
with which it is streamed (docs/streaming.md), are loaded when they are used: only the datasets and
samplers import torch.
"""

from typing import TYPE_CHECKING

from schemas.lazy_names import lazy_names

if TYPE_CHECKING:
    from shards.reading.reader import ShardReader
    from shards.reading.shard_set import ShardSet
    from shards.sampling.aspect_buckets import AspectBucketOrder
    from shards.sampling.dataset import GlobalBatchSampler, PairDataset, evaluation_indices
    from shards.sampling.mixture import MixtureOrder
    from shards.sampling.prefetch import Prefetcher
    from shards.sampling.sample_order import PairOrder

__all__ = [
    "AspectBucketOrder",
    "GlobalBatchSampler",
    "MixtureOrder",
    "PairDataset",
    "PairOrder",
    "Prefetcher",
    "ShardReader",
    "ShardSet",
    "evaluation_indices",
]

_MODULES = {
    "AspectBucketOrder": "sampling.aspect_buckets",
    "GlobalBatchSampler": "sampling.dataset",
    "MixtureOrder": "sampling.mixture",
    "PairDataset": "sampling.dataset",
    "PairOrder": "sampling.sample_order",
    "Prefetcher": "sampling.prefetch",
    "ShardReader": "reading.reader",
    "ShardSet": "reading.shard_set",
    "evaluation_indices": "sampling.dataset",
}

__getattr__ = lazy_names(__name__, _MODULES)
