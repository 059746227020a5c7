"""Training, from the shards to a model folder: one loop, on one process or those of torchrun.

What a step does is a function of the configuration, the weights and the step's number alone. The
order of the pairs and each pair's augmentation follow from (seed, epoch, position), and the random
numbers of dropout are drawn anew for every step: so a run that was stopped goes on as if it had
not been.
"""

import math
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mdetr_model.data.answers import answers_of
from mdetr_model.data.samples import Batch
from mdetr_model.data.training_data import TrainingData
from mdetr_model.distributed import Ranks, joined_ranks
from mdetr_model.json_files import write_json
from mdetr_model.model_folder import write_model
from mdetr_model.training import checkpoints
from mdetr_model.training.config import TrainingConfig
from mdetr_model.training.init_model import init_model
from mdetr_model.training.optimization import EMA, parameter_groups, set_rates
from mdetr_model.training.training_log import Meter, TrainingLog
from mdetr_model.training.validation import Validation

MOST_SKIPPED_STEPS = 20
PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class NonFiniteLossError(ValueError):
    """The loss or the gradient of a step is not a finite number."""


class Trainer:
    """A run: the model, its optimizer, and how far it has come.

    Args:
        config: the run.
        output: its folder.
        ranks: this process among the others.
        checkpoint: what the run goes on from; None begins it.

    Attributes:
        step: how many steps have been taken, over all epochs.
    """

    def __init__(
        self, config: TrainingConfig, output: Path, ranks: Ranks, checkpoint: Path | None = None
    ) -> None:
        self.config = config
        self.output = output
        self.ranks = ranks
        self.step = 0
        torch.manual_seed(config.seed)  # the same first weights on every rank
        self.data = TrainingData(config, ranks)
        self.validation = Validation(config, ranks)
        kept, goes_on = output / "checkpoints", checkpoint is not None
        model, self.processor = init_model(
            config.start,
            config.data.view,
            self.data.tokenizer(kept / "tokenizer", goes_on=goes_on),
            self.data.answers(kept / "answers.json", goes_on=goes_on),
        )
        answers = answers_of(model.config)
        self.loader, self.sampler = self.data.loader(self.processor.tokenizer, answers)
        self.model = model.train()
        self.model.to(ranks.device)
        options = config.optimization
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, options), weight_decay=options.weight_decay, fused=True
        )
        self.scaler = torch.amp.GradScaler(
            ranks.device.type, enabled=options.precision == "float16"
        )
        self.average = EMA(self.model, options.average) if options.average else None
        self.trained = self._wrapped()
        self.stopping = False  # agreed upon by all ranks
        self._stop_asked = False
        self._saved_step = 0
        self._skipped_steps = 0
        if checkpoint is not None:
            self._resume(checkpoint)

    def ask_to_stop(self) -> None:
        """Has all ranks stop after the step that they are in or the next, with a checkpoint."""
        self._stop_asked = True

    @property
    def steps(self) -> int:
        """Of all epochs."""
        return self.sampler.steps * self.config.optimization.epochs

    def _wrapped(self) -> nn.Module:
        """The model as it is called in training."""
        if self.config.optimization.compile:
            # Of convolutions of ever other sizes nothing is gained, and inductor refuses some.
            mdetr = self.model.mdetr
            for part in (mdetr.text_encoder, mdetr.encoder, mdetr.decoder):
                part.compile(dynamic=True)
        if self.ranks.world_size == 1:
            return self.model
        device = self.ranks.device
        return DistributedDataParallel(
            self.model,
            device_ids=[device.index] if device.type == "cuda" else None,
            broadcast_buffers=False,  # those of rank 0 count, and are shared where they are used
        )

    def run(self) -> None:
        """Trains to the end, or until the process is asked to stop, which may be in a validation.

        Raises:
            NonFiniteLossError: names the samples of the step.
            ShardError: a shard cannot be read.
            OSError: a checkpoint cannot be written.
        """
        log = TrainingLog(self.output, self.step, self.steps) if self.ranks.is_first else None
        self._meter = Meter()
        try:
            self._save()  # what it goes on from may lie elsewhere
            self._validate(log)  # if the run was stopped before it could be
            while self.step < self.steps and not self.stopping:
                epoch, step_of_epoch = divmod(self.step, self.sampler.steps)
                self.sampler.set_position(epoch, step_of_epoch)
                self._epoch(log)
                self._save()
                self._validate(log)
            if not self.stopping:
                self._write_model()
            elif log is not None:
                log.say(f"stopped after step {self.step}; --resume auto goes on")
        finally:
            if log is not None:
                log.close()

    def _epoch(self, log: TrainingLog | None) -> None:
        """The rest of an epoch from the sampler's position on."""
        records, batches = self.config.records, iter(self.loader)
        for _ in range(self.sampler.steps - self.step % self.sampler.steps):
            begin = time.perf_counter()
            step = [next(batches) for _ in range(self.data.micro_batches)]
            self._meter.waited += time.perf_counter() - begin
            values = self._step(step)
            self._meter.took(self.config.optimization.batch, values, step)
            if log is not None:
                log.bar.update()
            if self.step % records.log_steps == 0:
                self._log(log)
            if self.step % records.checkpoint_steps == 0:
                self._save()
            if self.stopping:
                return

    def _step(self, batches: list[Batch]) -> dict[str, float]:
        """One step of the optimizer: its losses, means over all ranks and micro batches.

        Args:
            batches: the micro batches of this rank.
        """
        options, device = self.config.optimization, self.ranks.device
        batches = [batch.to(device, non_blocking=True) for batch in batches]
        torch.manual_seed(_seed(self.config.seed, self.step, self.ranks.rank))
        # Losses are divided by the boxes that a micro batch has on average, over all of the step:
        # so that their sum does not depend on how the step is cut up.
        boxes = torch.stack([batch.labels["box_mask"].sum() for batch in batches]).sum().float()
        counts = self.ranks.sum(torch.stack([boxes, boxes.new_tensor(float(self._stop_asked))]))
        normalizer = counts[0].clamp(min=1) / (self.ranks.world_size * len(batches))

        losses = []
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            with self._without_sync() if not last else nullcontext():
                with self._autocast():
                    labels = {**batch.labels, "answers": batch.answers, "normalizer": normalizer}
                    outputs = self.trained(**batch.inputs(), labels=labels)
                self.scaler.scale(outputs.loss / len(batches)).backward()
            losses.append({"loss": outputs.loss.detach(), **outputs.loss_dict})
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), options.clip)

        names = list(losses[0])
        means = torch.stack([torch.stack([of[name] for of in losses]).mean() for name in names])
        loss = means[names.index("loss")].clone()
        means = self.ranks.sum(means) / self.ranks.world_size
        # All that the host has to know, in one copy.
        *values, loss, norm, stop = torch.stack([*means, loss, norm, counts[1]]).tolist()
        self._check(loss, norm, batches)
        set_rates(self.optimizer, self.step, self.sampler.steps, options)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._skipped_steps = 0 if math.isfinite(norm) else self._skipped_steps + 1
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.model)
        self.step += 1
        self.stopping = stop > 0
        return {**dict(zip(names, values, strict=True)), "gradient": norm}

    def _autocast(self) -> AbstractContextManager[Any]:
        kind = PRECISIONS.get(self.config.optimization.precision)
        return torch.autocast(self.ranks.device.type, kind) if kind else nullcontext()

    def _without_sync(self) -> AbstractContextManager[Any]:
        if isinstance(self.trained, DistributedDataParallel):
            return self.trained.no_sync()
        return nullcontext()

    def _check(self, loss: float, norm: float, batches: list[Batch]) -> None:
        # Scaled gradients of float16 overflow now and then: the scaler skips these steps, and
        # halves its scale until they no longer do.
        may_pass = self.scaler.is_enabled() and self._skipped_steps < MOST_SKIPPED_STEPS
        if math.isfinite(loss) and (math.isfinite(norm) or may_pass):
            return
        samples = [
            f"{key}#{number}"
            for batch in batches
            for key, number in zip(batch.keys, batch.numbers, strict=True)
        ]
        raise NonFiniteLossError(
            f"step {self.step} on rank {self.ranks.rank}: the loss is {loss} and the norm of its "
            f"gradient {norm}, on the samples {', '.join(samples)}"
        )

    def _log(self, log: TrainingLog | None) -> None:
        meter, self._meter = self._meter, Meter()
        if log is None:
            return
        rates = {f"rate_{group['name']}": group["lr"] for group in self.optimizer.param_groups}
        values = {**meter.means(), **rates, "memory_gigabytes": peak_memory(self.ranks.device)}
        log.write("train", self.step, values)
        log.bar.set_postfix_str(
            f"loss {values['loss']:.3f}, rate {rates['rate_rest']:.1e}, "
            f"{values['samples_per_second']:.1f} samples/s, "
            f"{values['data_wait']:.0%} wait, {values['memory_gigabytes']:.1f} GB"
        )

    def _validate(self, log: TrainingLog | None) -> None:
        """Validates the averaged weights, where there are any, if that is due and not done yet."""
        epochs, rest = divmod(self.step, self.sampler.steps)
        due = epochs > 0 and rest == 0 and epochs % self.config.records.validation_epochs == 0
        done = log is not None and log.has("validation", self.step)
        if self.stopping or not due or any(self.ranks.gathered(done)):
            return
        begin = time.perf_counter()
        with self._averaged():
            values = self.validation.run(
                self.model, self.processor.tokenizer, lambda: self._stop_asked
            )
        self._meter.paused += time.perf_counter() - begin
        if values is None:
            self.stopping = True
        elif log is not None and values:
            log.write("validation", self.step, values)
            log.say(f"step {self.step}: " + ", ".join(f"{k} {v:.3f}" for k, v in values.items()))

    def _write_model(self) -> None:
        with self._averaged():
            if self.ranks.is_first:
                write_model(self.output / "model", self.model, self.processor)
        self.ranks.wait()

    def _averaged(self) -> AbstractContextManager[Any]:
        """Inside, the model has the averaged weights, and all ranks the statistics of rank 0."""
        self.ranks.share(self.model.buffers())
        if self.average is None:
            return nullcontext()
        self.ranks.share(self.average.values.values())
        return self.average.in_place_of(self.model)

    def _save(self) -> None:
        """Writes a checkpoint, unless there is that of this step."""
        if self.step == self._saved_step:
            return
        begin = time.perf_counter()
        if self.ranks.is_first:
            folder = self.output / "checkpoints"
            checkpoints.write(folder, self.step, self.state(), self.config.records.checkpoints)
        self._saved_step = self.step
        self.ranks.wait()
        self._meter.paused += time.perf_counter() - begin

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on, but for its configuration and data."""
        return {
            "course": self._course(),
            "model": self.model.state_dict(),
            "average": self.average.state() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def _course(self) -> dict[str, Any]:
        """What decides the course of a run: one that goes on must have the same."""
        optimization = msgspec.to_builtins(self.config.optimization)
        for no_matter in ("micro_batch", "compile"):
            del optimization[no_matter]
        answers = self.model.config.answers
        if answers is not None:
            # Losses of answers are means over the questions of a micro batch, as published.
            world_size, micro_batches = self.ranks.world_size, self.data.micro_batches
            optimization["micro_batch"] = optimization["batch"] // (world_size * micro_batches)
        return {
            **self.data.order_of_samples,
            "answers": answers,
            "augmentation": msgspec.to_builtins(self.config.data.augmentation),
            **{f"start.config.{name}": of for name, of in self.config.start.config.items()},
            **optimization,
        }

    def _resume(self, path: Path) -> None:
        """Goes on from a checkpoint.

        Raises:
            ValueError: it is not a checkpoint of a run with this model, order of samples and
                optimization.
            OSError: it cannot be read.
        """
        state = checkpoints.read(path)
        for name, here in self._course().items():
            if (there := state["course"].get(name)) != here:
                raise ValueError(
                    f"{path} is of a run with {name} {there}, this one has {here}: it would not "
                    "be the same run"
                )
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path} is of another model: {error}") from error
        if self.average is not None:
            self.average.load(state["average"])
        self.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]
        if path.parent == self.output / "checkpoints":
            self._saved_step = self.step


def _seed(*key: int) -> int:
    """A seed that a few numbers decide."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1


def peak_memory(device: torch.device) -> float:
    """Gigabytes that this process has had at most: of the GPU, or of the host without one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def train(config: TrainingConfig, output: Path, resume: str) -> None:
    """Trains what a configuration says, in this process or those of torchrun.

    Args:
        config: the run.
        output: folder of checkpoints, logs and in the end the model; all ranks see the same.
        resume: "auto" goes on from the latest checkpoint in ``output``, if there is one; "never"
            refuses a folder that has any; or the path of a checkpoint, later than which ``output``
            must have none.

    Raises:
        ValueError: the configuration does not fit its data or the checkpoint.
        OSError: something cannot be read or written.
    """
    with joined_ranks() as ranks:
        checkpoint = checkpoints.to_go_on_from(output / "checkpoints", resume)
        if len(set(ranks.gathered(checkpoint))) > 1:
            raise ValueError(
                f"ranks find different checkpoints in {output}: do all see one folder?"
            )
        trainer = Trainer(config, output, ranks, checkpoint)
        if ranks.is_first:
            write_json(output / "config.json", msgspec.to_builtins(config))
        with _signals_to(trainer.ask_to_stop):
            trainer.run()


@contextmanager
def _signals_to(ask_to_stop: Callable[[], None]) -> Iterator[None]:
    """Has SIGTERM and Ctrl-C ask a run to stop, inside the block."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: ask_to_stop()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
