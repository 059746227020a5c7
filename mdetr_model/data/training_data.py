"""The shards of a training run as batches."""

import hashlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import forkserver
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
from mdetr_model.data.samples import TrainingSampleBuilder, collate
from mdetr_model.distributed import Ranks
from mdetr_model.training.config import Data, Shards, TrainingConfig
from mdetr_model.training.tokenizer import tokenizer_of_run
from schemas import Caption
from shards.reading.cache import DEFAULT_FOLDER
from shards.reading.prefetch import ReadAhead
from shards.reading.reader import Store
from shards.reading.shard_set import ShardSet
from shards.sampling.aspect_buckets import AspectOrder
from shards.sampling.dataset import GlobalBatchSampler, PairDataset
from shards.sampling.mixture import MixedOrder
from shards.sampling.sample_order import Order, PairOrder


class TrainingData:
    """What a run is trained on, in its order.

    Attributes:
        micro_batches: how many of the loader's batches are one step of a rank.

    Raises:
        NotAShardSetError, ShardError: a shard set cannot be read.
        ValueError: the ranks do not divide a step, or a split has too few pairs.
    """

    def __init__(self, config: TrainingConfig, ranks: Ranks) -> None:
        self._config = config
        self._ranks = ranks
        self._sets = [open_shards(of, config.data) for of in config.data.train]
        batch, micro_batch = config.optimization.batch, config.optimization.micro_batch
        if micro_batch is not None and batch % (ranks.world_size * micro_batch):
            raise ValueError(
                f"steps of {batch} pairs cannot be divided among {ranks.world_size} ranks by "
                f"{micro_batch} pairs"
            )
        self.micro_batches = batch // (ranks.world_size * micro_batch) if micro_batch else 1

    def loader(
        self, tokenizer: PreTrainedTokenizerBase, answers: AnswerVocabulary | None = None
    ) -> tuple[DataLoader[Any], GlobalBatchSampler]:
        """This rank's batches, and the sampler that says where they begin.

        With ``answers``, the batches have labels for them.
        """
        order = self._order()
        sampler = GlobalBatchSampler(
            order,
            self._config.optimization.batch,
            rank=self._ranks.rank,
            world_size=self._ranks.world_size,
            micro_batches=self.micro_batches,
            read_ahead=ReadAhead(order, self._sets),
        )
        data = self._config.data
        maker = TrainingSampleBuilder(tokenizer, data.augmentation, answers)
        loader: DataLoader[Any] = DataLoader(
            PairDataset(
                self._sets,
                maker,
                seed=self._config.seed,
                # The next block begins while batches of the last one are still made.
                open_shards=2 * data.block_shards,
            ),
            batch_sampler=sampler,
            num_workers=data.workers,
            collate_fn=partial(collate, pad_id=tokenizer.pad_token_id),
            pin_memory=self._ranks.device.type == "cuda",
            persistent_workers=data.workers > 0,
            **worker_options(self._sets if data.workers else []),
        )
        return loader, sampler

    def _order(self) -> Order:
        data, seed = self._config.data, self._config.seed
        order: Order
        splits = [of.split for of in data.train]
        blocks, together = data.block_shards, data.captions_per_image
        if len(self._sets) == 1:
            order = PairOrder(
                self._sets[0], splits[0], seed=seed, block_shards=blocks, together=together
            )
        else:
            weights = [of.weight for of in data.train if of.weight is not None]
            order = MixedOrder(
                self._sets,
                splits,
                seed=seed,
                weights=weights or None,
                block_shards=blocks,
                together=together,
            )
        if data.aspect_window:
            batch = self._config.optimization.batch
            order = AspectOrder(order, batch, seed=seed, window=data.aspect_window)
        return order

    @property
    def order_of_samples(self) -> dict[str, Any]:
        """All that decides which samples a step sees: a run may go on if it is the same."""
        data = self._config.data
        return {
            "seed": self._config.seed,
            "batch": self._config.optimization.batch,
            "block_shards": data.block_shards,
            "captions_per_image": data.captions_per_image,
            "aspect_window": data.aspect_window,
            "shards": [
                [_content(shards), of.split, of.weight]
                for shards, of in zip(self._sets, data.train, strict=True)
            ],
        }

    def captions(self) -> Iterator[Caption]:
        """The captions of all pairs."""
        for shards, of in zip(self._sets, self._config.data.train, strict=True):
            for stored in Store(shards).samples(of.split):
                yield from stored.sample.captions

    def tokenizer(self, kept: Path, *, goes_on: bool) -> PreTrainedTokenizerBase | None:
        """That of the captions, where a configuration asks for one; kept as the answers are."""
        vocabulary = self._config.start.vocabulary
        if vocabulary is None:
            return None
        return tokenizer_of_run(
            kept,
            lambda: (caption.text for caption in self.captions()),
            vocabulary,
            self._ranks,
            goes_on=goes_on,
        )

    def answers(self, kept: Path, *, goes_on: bool) -> AnswerVocabulary | None:
        """The answers that a configuration asks for, see ``Start.answers``.

        Those of the data are collected when the run begins and kept in the file ``kept``, which
        all ranks see, so that a run that goes on need not read all captions again.

        Raises:
            ValueError: the questions of the data, or the file, are not what they have to be.
            OSError: the file cannot be read or written.
        """
        name = self._config.start.answers
        if name is None:
            return None
        if name == "clevr":
            return CLEVR
        if name != "gqa":
            return read_answers(Path(name))
        if self._ranks.is_first and not (goes_on and kept.exists()):
            write_answers(kept, gqa_answers(caption.question for caption in self.captions()))
        self._ranks.wait()
        return read_answers(kept)


def open_shards(of: Shards, data: Data) -> ShardSet:
    """A shard set of a configuration."""
    cache = Path(data.cache).expanduser() if data.cache else DEFAULT_FOLDER
    return ShardSet.open(of.shards, cache=cache, cache_bytes=int(data.cache_gigabytes * 1e9))


def worker_options(sets: Sequence[ShardSet]) -> dict[str, Any]:
    """How a loader has to start its workers."""
    # The network client of remote sets has threads, which a fork does not take along.
    remote = any(of.is_remote for of in sets)
    if remote:
        _start_fork_server()
    return {
        "worker_init_fn": partial(_leave_signals_to, os.getpid()),
        "multiprocessing_context": "forkserver" if remote else None,
    }


def _start_fork_server() -> None:
    """Starts the process that forks data workers, deaf to SIGTERM: they end when it does."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    forkserver.ensure_running()
    signal.signal(signal.SIGTERM, before)


def _leave_signals_to(trainer: int, worker: int) -> None:
    """Lets a data worker work on when all processes of a job are interrupted or terminated.

    What that means is for the trainer to say, who needs batches until its step is done. Where the
    trainer itself terminates its workers, they end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with, args=[trainer], daemon=True).start()


def _end_with(trainer: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)


def _content(shards: ShardSet) -> str:
    """A digest of all shards of a set, wherever it lies."""
    return hashlib.sha256("".join(entry.sha256 for entry in shards.shards).encode()).hexdigest()
