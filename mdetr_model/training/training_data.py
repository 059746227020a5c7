"""The training data of a run: shard sets, their order, and the data loader."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from mdetr_model.data.answers import (
    CLEVR,
    AnswerVocabulary,
    gqa_answers,
    read_answers,
    write_answers,
)
from mdetr_model.data.samples import TrainingSampleBuilder
from mdetr_model.data.workers import worker_options
from mdetr_model.distributed import DistributedContext
from mdetr_model.training.config import DataConfig, SplitConfig, TrainingConfig
from mdetr_model.training.tokenizer import tokenizer_of_run
from schemas import Caption
from shards import written_files
from shards.reading.cache import DEFAULT_FOLDER
from shards.reading.reader import ShardReader
from shards.reading.shard_set import ShardSet
from shards.sampling.aspect_buckets import AspectBucketOrder
from shards.sampling.dataset import GlobalBatchSampler, PairDataset
from shards.sampling.mixture import MixtureOrder
from shards.sampling.prefetch import Prefetcher
from shards.sampling.sample_order import PairOrder, SampleOrder


class TrainingData:
    """The training data of a run, in training order.

    Attributes:
        micro_batch_size: pairs of one batch of the loader.
        micro_batches: number of batches that a rank takes for one step.
        sampler: the pairs of each batch of this rank; its position is that of the run.

    Raises:
        NotAShardSetError, ShardError: a shard set cannot be read.
        ValueError: the global batch cannot be divided among the ranks, or a split has too few
            pairs, or is one to evaluate on.
    """

    def __init__(self, config: TrainingConfig, context: DistributedContext) -> None:
        self._config = config
        self._context = context
        self._sets = [open_shards(entry, config.data) for entry in config.data.train]
        for shards, entry in zip(self._sets, config.data.train, strict=True):
            if shards.manifest.roles.get(entry.split) == "eval":
                raise ValueError(
                    f"{entry.split} of {entry.shards} is a split to evaluate on (its role in the "
                    "manifest is eval): it cannot be trained on"
                )
        global_batch_size = config.optimizer.global_batch_size
        micro_batch_size = config.optimizer.micro_batch_size
        self.micro_batches = 1
        if micro_batch_size is not None:
            self.micro_batches, remainder = divmod(
                global_batch_size, context.world_size * micro_batch_size
            )
            if remainder:
                raise ValueError(
                    f"a global batch of {global_batch_size} pairs cannot be divided among "
                    f"{context.world_size} ranks in micro batches of {micro_batch_size}"
                )
        self.micro_batch_size = global_batch_size // (context.world_size * self.micro_batches)
        order = self._order()
        self.sampler = GlobalBatchSampler(
            order,
            global_batch_size,
            rank=context.rank,
            world_size=context.world_size,
            micro_batches=self.micro_batches,
            prefetcher=Prefetcher(order, self._sets),
        )

    def loader(
        self, tokenizer: PreTrainedTokenizerBase, answers: AnswerVocabulary | None = None
    ) -> DataLoader[Any]:
        """Returns this rank's batches, from the sampler's position on.

        With ``answers``, the batches have answer labels.
        """
        data = self._config.data
        builder = TrainingSampleBuilder(tokenizer, data.train_transform, answers)
        dataset = PairDataset(
            self._sets,
            builder,
            seed=self._config.seed,
            # Workers read the next block while batches of the last one are still being built.
            open_shards=2 * data.block_shards,
        )
        loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=self.sampler,
            num_workers=data.workers,
            collate_fn=builder.collate,
            pin_memory=self._context.device.type == "cuda",
            persistent_workers=data.workers > 0,
            **worker_options(self._sets if data.workers else []),
        )
        return loader

    def _order(self) -> SampleOrder:
        data, seed = self._config.data, self._config.seed
        splits = [entry.split for entry in data.train]
        order: SampleOrder
        if len(self._sets) == 1:
            order = PairOrder(
                self._sets[0],
                splits[0],
                seed=seed,
                block_shards=data.block_shards,
                captions_per_image=data.captions_per_image,
            )
        else:
            weights = [entry.weight for entry in data.train if entry.weight is not None]
            order = MixtureOrder(
                self._sets,
                splits,
                seed=seed,
                weights=weights or None,
                replayed=[i for i, entry in enumerate(data.train) if entry.replay],
                block_shards=data.block_shards,
                captions_per_image=data.captions_per_image,
            )
        if data.aspect_window:
            batch_size = self._config.optimizer.global_batch_size
            order = AspectBucketOrder(order, batch_size, seed=seed, window=data.aspect_window)
        return order

    @property
    def sample_order_settings(self) -> dict[str, Any]:
        """Returns the settings that determine the samples of a step, for resumed runs."""
        data = self._config.data
        return {
            "seed": self._config.seed,
            "global_batch_size": self._config.optimizer.global_batch_size,
            "block_shards": data.block_shards,
            "captions_per_image": data.captions_per_image,
            "aspect_window": data.aspect_window,
            "shards": [
                [_digest(shards), entry.split, entry.weight, *(["replay"] if entry.replay else [])]
                for shards, entry in zip(self._sets, data.train, strict=True)
            ],
        }

    def captions(self) -> Iterator[Caption]:
        """Yields the captions of all pairs."""
        for shards, entry in zip(self._sets, self._config.data.train, strict=True):
            for stored in ShardReader(shards).samples(entry.split):
                yield from stored.sample.captions

    def tokenizer(self, folder: Path, *, resumed: bool) -> PreTrainedTokenizerBase | None:
        """Returns the tokenizer trained on the captions, if the configuration asks for one.

        See ``tokenizer_of_run``.
        """
        vocab_size = self._config.init.vocab_size
        if vocab_size is None:
            return None
        return tokenizer_of_run(
            folder,
            lambda: (caption.text for caption in self.captions()),
            vocab_size,
            self._context,
            resumed=resumed,
        )

    def answers(self, path: Path, *, resumed: bool) -> AnswerVocabulary | None:
        """Returns the answer vocabulary that the configuration asks for: see ``InitConfig``.

        That of the training questions is collected when the run begins and kept in ``path``, which
        all ranks share, so that a resumed run does not read all captions again.

        Raises:
            ValueError: the questions or the file are not suitable.
            OSError: the file cannot be read or written.
        """
        name = self._config.init.answers
        if name != "gqa":
            return stated_answers(name)
        if self._context.is_main and not (resumed and path.exists()):
            written_files.add(path.parent, [path.name])
            write_answers(path, gqa_answers(caption.question for caption in self.captions()))
        self._context.barrier()
        return read_answers(path)


def stated_answers(name: str | None) -> AnswerVocabulary | None:
    """Returns the answer vocabulary of ``InitConfig.answers``, if it does not follow from captions.

    Raises:
        ValueError: the file is not suitable.
        OSError: the file cannot be read.
    """
    if name is None or name == "gqa":
        return None
    return CLEVR if name == "clevr" else read_answers(Path(name))


def open_shards(entry: SplitConfig, data: DataConfig) -> ShardSet:
    """Opens a shard set of a configuration."""
    cache = Path(data.cache).expanduser() if data.cache else DEFAULT_FOLDER
    return ShardSet.open(entry.shards, cache=cache, cache_bytes=int(data.cache_gigabytes * 1e9))


def _digest(shards: ShardSet) -> str:
    """Returns a digest of the content of all shards of a set, independent of its location."""
    return hashlib.sha256("".join(entry.sha256 for entry in shards.shards).encode()).hexdigest()
