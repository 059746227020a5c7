"""The training loop, from shards to a model folder, in one process or those of torchrun.

A step is a function of the configuration, the weights and the step's number alone: the order of the
pairs and the transform of each follow from (seed, epoch, position), and dropout is reseeded for
every step. So a run that was stopped and resumed is the same, bit for bit, as one that was not.
"""

import inspect
import math
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mdetr_model.data.answers import vocabulary_of
from mdetr_model.data.samples import Batch
from mdetr_model.distributed import DistributedContext, distributed_context
from mdetr_model.json_files import write_json
from mdetr_model.model_folder import write_model
from mdetr_model.modeling.host_copy import HostCopy
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding
from mdetr_model.precision import autocast, tf32
from mdetr_model.training import checkpoints, training_log
from mdetr_model.training.config import TrainingConfig
from mdetr_model.training.flops import StepFlops, peak_of
from mdetr_model.training.init_model import init_model
from mdetr_model.training.memory_format import (
    convert_convolutions,
    convert_moments,
    memory_format_of,
)
from mdetr_model.training.optimization import (
    EMA,
    parameter_groups,
    set_learning_rates,
)
from mdetr_model.training.profiling import step_profiler
from mdetr_model.training.trackers import start_trackers
from mdetr_model.training.training_data import TrainingData
from mdetr_model.training.training_log import IntervalMetrics, TrainingLog, read_log
from mdetr_model.training.validation import Validation, mean_score
from shards import written_files

# Maximum consecutive steps that the float16 gradient scaler may skip before the run fails.
MAX_SKIPPED_STEPS = 20
CONFIG_NAME = "config.json"
MODEL_NAME, BEST_MODEL_NAME = "model", "best_model"
# DDP's option whether each forward pass copies rank 0's buffers: renamed in torch 2.13.
SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)


class NonFiniteLossError(ValueError):
    """The loss or the gradient of a step is not a finite number."""


class StepInFlight(NamedTuple):
    """A step that a GPU may not have finished, with what the host is going to read of it.

    Attributes:
        step: its number, from 0.
        batches: its micro batches on this rank.
        names: of the losses.
        values: their means, then the loss of this rank, the norm of the gradient, the number of
            tokens, and how many ranks have to stop.
    """

    step: int
    batches: list[Batch]
    names: list[str]
    values: HostCopy


class Trainer:
    """A training run: model, optimizer, and progress.

    Args:
        config: the run's configuration.
        output: the run's folder.
        context: this process among the others.
        checkpoint: where to resume from; None starts from the initial model.
        deadline: the run stops at this time of ``time.monotonic``, as if a stop was requested.
        profiled_steps: the number of steps to profile; 0: none.

    Attributes:
        step: number of steps taken, over all epochs.
        stopping: whether the ranks have agreed to stop.
        peak_flops: the device's peak rate in FLOP/s, if it is known.
        flops: counts the operations of batches, on rank 0 if the peak rate is known.
    """

    def __init__(
        self,
        config: TrainingConfig,
        output: Path,
        context: DistributedContext,
        checkpoint: Path | None = None,
        *,
        deadline: float = math.inf,
        profiled_steps: int = 0,
    ) -> None:
        self.config = config
        self.output = output
        self.context = context
        self.step = 0
        self.stopping = False
        self._stop_requested = False
        self._deadline = deadline
        self._profiled_steps = profiled_steps
        self._saved_step = 0
        self._skipped_steps = 0
        self._in_flight: StepInFlight | None = None
        self._metrics = IntervalMetrics()
        torch.manual_seed(config.seed)  # the same initial weights on every rank
        self.data = TrainingData(config, context)
        self.validation = Validation(config, context)
        folder, resumed = output / "checkpoints", checkpoint is not None
        model, self.processor = init_model(
            config.init,
            config.data.eval_transform,
            self.data.tokenizer(folder / "tokenizer", resumed=resumed),
            self.data.answers(folder / "answers.json", resumed=resumed),
        )
        self.model: MdetrForGrounding = model.train().to(context.device)
        image_encoder = self.model.mdetr.image_encoder
        image_encoder.memory_format = memory_format_of(image_encoder)
        convert_convolutions(self.model, image_encoder.memory_format)
        self.sampler = self.data.sampler
        self.loader = self.data.loader(self.processor.tokenizer, vocabulary_of(model.config))
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, config.optimizer),
            weight_decay=config.optimizer.weight_decay,
            fused=True,
        )
        self._trained = [each for each in self.model.parameters() if each.requires_grad]
        self.scaler = torch.amp.GradScaler(
            context.device.type, enabled=config.optimizer.precision == "float16"
        )
        self.ema = None
        if config.optimizer.ema_decay:
            self.ema = EMA(
                self.model, config.optimizer.ema_decay, warmup=config.optimizer.ema_warmup
            )
        self.peak_flops = peak_of(context.device, config.optimizer.precision)
        self.flops = StepFlops(model.config) if self.peak_flops and context.is_main else None
        self.training_model = self._wrap()
        if checkpoint is not None:
            self._resume(checkpoint)

    def request_stop(self) -> None:
        """Requests that all ranks stop after one of the next two steps, with a checkpoint."""
        self._stop_requested = True

    def _must_stop(self) -> bool:
        """Returns whether this rank has to stop."""
        return self._stop_requested or time.monotonic() >= self._deadline

    @property
    def epoch_steps(self) -> int:
        """The number of steps of an epoch."""
        return self.sampler.steps

    @property
    def total_steps(self) -> int:
        """The number of steps of all epochs."""
        return self.epoch_steps * self.config.optimizer.epochs

    def _wrap(self) -> nn.Module:
        """Returns the model as the training step calls it: compiled, and DDP on several ranks."""
        if self.config.optimizer.compile:
            # Compiling convolutions of varying sizes has no benefit, and inductor fails for some.
            mdetr = self.model.mdetr
            for module in (mdetr.text_encoder, mdetr.encoder, mdetr.decoder):
                module.compile(dynamic=True)
        if self.context.world_size == 1:
            return self.model
        device = self.context.device
        options: dict[str, Any] = {
            "device_ids": [device.index] if device.type == "cuda" else None,
            SYNC_BUFFERS: False,  # they are broadcast where they are used: see _ema_weights
            # Gradients are summed where they are, instead of in copies.
            "gradient_as_bucket_view": True,
        }
        return DistributedDataParallel(self.model, **options)

    def run(self) -> None:
        """Trains to the end, or until a stop is requested, which may be during a validation.

        Raises:
            NonFiniteLossError: names the samples of the step.
            ShardError: a shard cannot be read.
            OSError: a checkpoint cannot be written.
        """
        log = self._open_log() if self.context.is_main else None
        self._metrics = IntervalMetrics()
        profiled_steps = self._profiled_steps if self.context.is_main else 0
        try:
            with (
                tf32(self.config.optimizer.precision),
                step_profiler(self.output / "profile", profiled_steps) as self._count_step,
            ):
                self._run(log)
        finally:
            if log is not None:
                log.close()

    def _open_log(self) -> TrainingLog:
        logging = self.config.logging
        trackers = start_trackers(
            logging.trackers,
            logging.tracker_project,
            self.output,
            msgspec.to_builtins(self.config),
        )
        return TrainingLog(self.output, self.step, self.total_steps, trackers)

    def _run(self, log: TrainingLog | None) -> None:
        self._save()  # a checkpoint from another folder is saved in this one as well
        self._validate(log)  # the run may have been stopped before it could validate
        while self.step < self.total_steps and not self.stopping:
            epoch, epoch_step = divmod(self.step, self.epoch_steps)
            self.sampler.set_position(epoch, epoch_step)
            self._train_epoch(log)
            self._save()
            self._validate(log)
        if not self.stopping:
            self._write_model()
        elif log is not None:
            log.print(f"stopped after step {self.step}; resume with --resume auto")

    def _train_epoch(self, log: TrainingLog | None) -> None:
        """Trains from the sampler's position to the end of the epoch."""
        batches = iter(self.loader)
        for _ in range(self.epoch_steps - self.step % self.epoch_steps):
            begin = time.perf_counter()
            micro_batches = [next(batches) for _ in range(self.data.micro_batches)]
            self._metrics.data_seconds += time.perf_counter() - begin
            # The values of a step are read after the next one has been started, so that a GPU
            # always has work; on all ranks after the same steps.
            before, self._in_flight = self._in_flight, self.start_step(micro_batches)
            self.read_step(before)
            self._count_step()
            if log is not None:
                log.bar.update()
            if self.step % self.config.logging.log_steps == 0 or self.step == self.total_steps:
                self._log(log)
            if self.step % self.config.logging.checkpoint_steps == 0:
                self._save()
            if self.stopping:
                break
        self._read_last()

    def start_step(self, host_batches: list[Batch]) -> StepInFlight:
        """Starts one optimizer step, without waiting for a GPU after the last forward pass.

        If the loss or the gradient is not finite, the weights stay as they are: the device checks
        it, because the host would have to wait for it.

        Args:
            host_batches: the micro batches of this rank.
        """
        config, context = self.config.optimizer, self.context
        batches = [batch.to(context.device, non_blocking=True) for batch in host_batches]
        torch.manual_seed(_derive_seed(self.config.seed, self.step, context.rank))
        # Losses are normalized by the mean number of boxes of a micro batch, over the whole global
        # batch, so that their sum does not depend on how the global batch is divided. As published,
        # two losses do: the contrastive alignment loss, which has the padding of captions among its
        # negatives, and that of answers, which is a mean over a micro batch.
        boxes = torch.stack([batch.labels["box_mask"].sum() for batch in batches]).sum().float()
        tokens = torch.stack([batch.attention_mask.sum() for batch in batches]).sum().float()
        stop_requested = torch.full_like(boxes, float(self._must_stop()))
        total_boxes, total_tokens, stop_requests = context.all_reduce_sum(
            torch.stack([boxes, tokens, stop_requested])
        )
        normalizer = total_boxes.clamp(min=1) / (context.world_size * len(batches))

        losses = []
        for number, batch in enumerate(batches, start=1):
            with self._gradient_sync(enabled=number == len(batches)):
                with autocast(config.precision, context.device):
                    labels = {**batch.labels, "answers": batch.answers, "normalizer": normalizer}
                    outputs = self.training_model(**batch.inputs(), labels=labels)
                self.scaler.scale(outputs.loss / len(batches)).backward()
            losses.append({"loss": outputs.loss.detach(), **outputs.loss_dict})
        self.scaler.unscale_(self.optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self._trained, config.max_grad_norm)

        names = list(losses[0])
        local_means = torch.stack(
            [torch.stack([loss[name] for loss in losses]).mean() for name in names]
        )
        local_loss = local_means[names.index("loss")].clone()
        means = context.all_reduce_sum(local_means) / context.world_size
        # The mean loss: ranks decide alike, also where only one has a loss that is not finite.
        self._update_weights(means[names.index("loss")], grad_norm)
        # A single device-to-host copy of all values that the host needs.
        values = torch.stack([*means, local_loss, grad_norm, total_tokens, stop_requests])
        self.step += 1
        return StepInFlight(self.step - 1, host_batches, names, HostCopy(values))

    def _update_weights(self, loss: Tensor, grad_norm: Tensor) -> None:
        """Updates weights and their average, unless the loss or the gradient is not finite."""
        set_learning_rates(self.optimizer, self.step, self.epoch_steps, self.config.optimizer)
        if not self.scaler.is_enabled():  # it has its own check
            # By this attribute, fused optimizers skip a step without the host.
            is_finite = torch.isfinite(torch.stack([loss, grad_norm])).all()
            self.optimizer.found_inf = (~is_finite).float()  # type: ignore[attr-defined]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update()

    def _read_last(self) -> None:
        """Reads the values of the last step, before the run writes, logs or validates anything."""
        last, self._in_flight = self._in_flight, None
        self.read_step(last)

    def read_step(self, taken: StepInFlight | None) -> None:
        """Reads the values of a step, for the log and for the decision whether to stop.

        Raises:
            NonFiniteLossError: the step has not changed the weights.
        """
        if taken is None:
            return
        *means, local_loss, grad_norm, tokens, stop = taken.values.wait().tolist()
        values = {**dict(zip(taken.names, means, strict=True)), "grad_norm": grad_norm}
        self._check_finite(taken, values, local_loss)
        self._skipped_steps = 0 if math.isfinite(grad_norm) else self._skipped_steps + 1
        self.stopping = self.stopping or stop > 0
        samples = self.config.optimizer.global_batch_size
        self._metrics.add_step(samples, int(tokens), values, taken.batches)
        if self.flops is not None:
            self._metrics.flops += sum(map(self.flops, taken.batches))

    def _gradient_sync(self, *, enabled: bool) -> AbstractContextManager[Any]:
        """Lets DDP reduce gradients in the backward pass of the last micro batch only."""
        if isinstance(self.training_model, DistributedDataParallel) and not enabled:
            return self.training_model.no_sync()
        return nullcontext()

    def _check_finite(
        self, taken: StepInFlight, values: dict[str, float], local_loss: float
    ) -> None:
        loss, grad_norm = values["loss"], values["grad_norm"]
        # Scaled float16 gradients overflow occasionally: the scaler skips these steps, and halves
        # its scale until they do not.
        skips = self.scaler.is_enabled() and self._skipped_steps < MAX_SKIPPED_STEPS
        if math.isfinite(loss) and (math.isfinite(grad_norm) or skips):
            return
        samples = [
            f"{key}#{caption_index}"
            for batch in taken.batches
            for key, caption_index in zip(batch.keys, batch.caption_indices, strict=True)
        ]
        raise NonFiniteLossError(
            f"step {taken.step} on rank {self.context.rank}: the loss is {local_loss}, its mean "
            f"over ranks {loss}, the gradient norm {grad_norm}, on the samples {', '.join(samples)}"
        )

    def _log(self, log: TrainingLog | None) -> None:
        self._read_last()
        metrics, self._metrics = self._metrics, IntervalMetrics()
        if log is None:
            return
        seconds = metrics.seconds()
        values = {
            **metrics.summary(seconds),
            **{f"lr/{group['name']}": group["lr"] for group in self.optimizer.param_groups},
            "memory_gigabytes": peak_memory(self.context.device),
        }
        if self.peak_flops:
            values["mfu"] = metrics.flops / seconds / self.peak_flops
        log.write("train", self.step, values)
        log.bar.set_postfix_str(
            f"loss {values['loss']:.3f}, lr {values['lr/rest']:.1e}, "
            f"{values['samples_per_second']:.1f} samples/s, "
            f"{values['data_wait']:.0%} wait, {values['memory_gigabytes']:.1f} GB"
        )

    def _validate(self, log: TrainingLog | None) -> None:
        """Validates the EMA weights, if there are any, when validation is due and not done yet."""
        epochs, remainder = divmod(self.step, self.epoch_steps)
        is_due = (
            epochs > 0 and remainder == 0 and epochs % self.config.logging.validation_epochs == 0
        )
        is_done = log is not None and log.has("validation", self.step)
        if self.stopping or not is_due or any(self.context.all_gather(is_done)):
            return
        begin = time.perf_counter()
        with self._ema_weights():
            values = self.validation.run(self.model, self.processor.tokenizer, self._must_stop)
            # Before the line of the log, by which a resumed run knows that this is done.
            if log is not None and values and self._is_best(values):
                write_model(self.output / BEST_MODEL_NAME, self.model, self.processor)
        self._metrics.excluded_seconds += time.perf_counter() - begin
        if values is None:
            self.stopping = True
        elif log is not None and values:
            log.write("validation", self.step, values)
            log.print(f"step {self.step}: " + ", ".join(f"{k} {v:.3f}" for k, v in values.items()))

    def _is_best(self, values: dict[str, float]) -> bool:
        """Returns whether the best model is kept, and is better than at all earlier validations."""
        if not self.config.logging.best_model:
            return False
        earlier = [
            mean_score(line) for line in read_log(self.output) if line["kind"] == "validation"
        ]
        return mean_score(values) > max(earlier, default=-1)

    def _write_model(self) -> None:
        with self._ema_weights():
            if self.context.is_main:
                write_model(self.output / MODEL_NAME, self.model, self.processor)
        self.context.barrier()

    def _ema_weights(self) -> AbstractContextManager[Any]:
        """Swaps the EMA weights into the model inside the block; all ranks get rank 0's buffers."""
        self.context.broadcast(self.model.buffers())
        if self.ema is None:
            return nullcontext()
        self.context.broadcast(self.ema.values.values())
        return self.ema.applied()

    def _save(self) -> None:
        """Writes a checkpoint, unless there is one of this step."""
        if self.step == self._saved_step:
            return
        self._read_last()
        begin = time.perf_counter()
        if self.context.is_main:
            checkpoints.write(
                self.output / "checkpoints",
                self.step,
                self.state_dict(),
                self.config.logging.max_checkpoints,
            )
        self._saved_step = self.step
        self.context.barrier()
        self._metrics.excluded_seconds += time.perf_counter() - begin

    def state_dict(self) -> dict[str, Any]:
        """Returns all that a resumed run needs, apart from configuration and data."""
        return {
            "settings": self._settings(),
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def _settings(self) -> dict[str, Any]:
        """Returns the settings that determine the result: a resumed run must have the same."""
        optimizer = msgspec.to_builtins(self.config.optimizer)
        for irrelevant in ("micro_batch_size", "compile"):
            del optimizer[irrelevant]
        answers = self.model.config.answers
        if answers is not None:
            # Answer losses are means over the questions of a micro batch, as published.
            optimizer["micro_batch_size"] = self.data.micro_batch_size
        return {
            **self.data.sample_order_settings,
            "answers": answers,
            "train_transform": msgspec.to_builtins(self.config.data.train_transform),
            **{f"init.config.{name}": value for name, value in self.config.init.config.items()},
            **optimizer,
        }

    def _resume(self, path: Path) -> None:
        """Restores a checkpoint.

        Raises:
            ValueError: it is not a checkpoint of a run with this model, order of samples and
                optimization.
            OSError: it cannot be read.
        """
        state = checkpoints.read(path)
        for name, value in self._settings().items():
            if (stored := state["settings"].get(name)) != value:
                raise ValueError(
                    f"{path} is from a run with {name} = {stored}, this run has {value}: the "
                    "result would differ"
                )
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            convert_moments(self.optimizer)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path} is from another model: {error}") from error
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]
        if path.parent == self.output / "checkpoints":
            self._saved_step = self.step


def _derive_seed(*key: int) -> int:
    """Returns a seed of 63 bits that is a function of a few numbers."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1


def peak_memory(device: torch.device) -> float:
    """Returns the peak memory of this process in gigabytes: of the GPU, or else of the host."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def train(
    config: TrainingConfig,
    output: Path,
    resume: str,
    *,
    max_minutes: float = math.inf,
    profiled_steps: int = 0,
) -> None:
    """Trains a model, in this process or those of torchrun.

    Args:
        config: the run's configuration.
        output: folder of checkpoints, logs and the final model, shared by all ranks.
        resume: "auto" resumes from the latest checkpoint in ``output``, if there is one; "never"
            fails if there are checkpoints; or the path of a checkpoint, if ``output`` has no later
            ones.
        max_minutes: the run stops after this time, with a checkpoint to resume from.
        profiled_steps: profile this many steps: see ``step_profiler``.

    Raises:
        ValueError: the configuration does not fit its data or the checkpoint.
        OSError: a file cannot be read or written, or would replace a file of others.
    """
    deadline = time.monotonic() + max_minutes * 60
    with distributed_context() as context:
        checkpoint = checkpoints.find_resume_point(output / "checkpoints", resume)
        names = [CONFIG_NAME, training_log.FILE_NAME]
        written_files.check(output, names)
        written_files.check_all(output / MODEL_NAME)
        written_files.check_all(output / BEST_MODEL_NAME)
        if len(set(context.all_gather(checkpoint))) > 1:
            raise ValueError(
                f"ranks find different checkpoints in {output}: it must be a shared folder"
            )
        trainer = Trainer(
            config, output, context, checkpoint, deadline=deadline, profiled_steps=profiled_steps
        )
        if context.is_main:
            written_files.add(output, names)
            write_json(output / CONFIG_NAME, msgspec.to_builtins(config))
        with _stop_signals(trainer.request_stop):
            trainer.run()


@contextmanager
def _stop_signals(request_stop: Callable[[], None]) -> Iterator[None]:
    """Makes SIGTERM and Ctrl-C request a stop, inside the block."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: request_stop()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
