"""What a training run would read and take, without reading weights or images."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer

from mdetr_model.distributed import distributed_context
from mdetr_model.modeling.configuration_mdetr import MdetrConfig
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding
from mdetr_model.precision import AUTOCAST_DTYPES
from mdetr_model.training import checkpoints
from mdetr_model.training.config import InitConfig, OptimizerConfig, SplitConfig, TrainingConfig
from mdetr_model.training.init_model import config_of, model_class_of
from mdetr_model.training.optimization import parameter_groups
from mdetr_model.training.training_data import TrainingData, stated_answers
from mdetr_model.training.validation import Validation

#: Tokens of a long caption: combined captions have under 250 characters.
CAPTION_TOKENS = 64
#: Positions that RoBERTa does not use.
UNUSED_POSITIONS = 2


class ForwardCost(NamedTuple):
    """The cost of a forward pass.

    Attributes:
        saved_bytes: size of the tensors that the backward pass reads, besides weights.
        flops: of matrix products, attention and convolutions.
    """

    saved_bytes: int
    flops: int


def forward_cost(
    model: MdetrForGrounding,
    precision: str,
    captions: int,
    captions_per_image: int,
    size: tuple[int, int],
) -> ForwardCost:
    """Returns the cost of a forward pass of the model without its losses.

    The model may have been made under ``FakeTensorMode``: then nothing is computed.

    Args:
        model: in the mode of training.
        precision: that of ``OptimizerConfig``.
        captions: the number of captions, of `CAPTION_TOKENS` tokens, or as many as the model takes.
        captions_per_image: every so many of them are of one image.
        size: height and width of the images in pixels.
    """
    parameters = [*model.parameters(), *model.buffers()]
    of_model = {tensor.untyped_storage()._cdata for tensor in parameters}
    saved: dict[int, torch.UntypedStorage] = {}  # by address, while all are alive

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in of_model:
            saved[storage._cdata] = storage
        return tensor

    dtype = AUTOCAST_DTYPES.get(precision)
    image_index = torch.arange(captions) // captions_per_image
    images = -(-captions // captions_per_image)
    positions = model.config.text_config.max_position_embeddings - UNUSED_POSITIONS
    tokens = torch.ones(captions, min(CAPTION_TOKENS, positions), dtype=torch.long)
    with (
        saved_tensors_hooks(pack, lambda tensor: tensor),
        FlopCounterMode(display=False) as counter,
        torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        model.mdetr(
            pixel_values=torch.zeros(images, 3, *size),
            pixel_mask=torch.ones(images, *size, dtype=torch.bool),
            image_index=image_index,
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
        )
    return ForwardCost(
        sum(storage.nbytes() for storage in saved.values()), counter.get_total_flops()
    )


def dry_run(config: TrainingConfig, output: Path, resume: str) -> None:
    """Prints what a run would read, its steps, and an estimate of its memory.

    Nothing is written but the cache of remote shard sets. Under torchrun, the number of
    ranks is that of the run.

    Raises:
        ValueError: the configuration does not fit its data, or ``resume`` the output.
        OSError: a file cannot be read.
    """
    with distributed_context() as context:
        checkpoint = checkpoints.find_resume_point(output / "checkpoints", resume)
        data = TrainingData(config, context)
        Validation(config, context)  # raises what the run would
        answers = stated_answers(config.init.answers)
        model_config = config_of(config.init, _vocab_size(config.init), answers)
        if not context.is_main:
            return
        optimizer = config.optimizer
        steps = data.sampler.steps
        rows = [
            ("recipe", config.recipe.strip()),
            *[(f"train {i}", _split(entry)) for i, entry in enumerate(config.data.train, 1)],
            *[(f"validation {i}", _split(e)) for i, e in enumerate(config.data.validation, 1)],
            *_model_rows(config.init),
            (
                "global batch",
                f"{optimizer.global_batch_size} pairs: {context.world_size} ranks x "
                f"{data.micro_batches} micro batches x {data.micro_batch_size}",
            ),
            (
                "steps",
                f"{steps * optimizer.epochs:,} ({optimizer.epochs} epochs of {steps:,}), "
                f"{steps * optimizer.epochs * optimizer.global_batch_size:,} pairs",
            ),
            ("begins", "with the initial model" if checkpoint is None else f"after {checkpoint}"),
            *_cost_rows(config, model_config, data.micro_batch_size),
        ]
        for name, text in rows:
            print(f"{name:<16}{text}")


def _vocab_size(init: InitConfig) -> int:
    """Returns the number of tokens, if neither a model nor pre-trained weights state it."""
    if init.vocab_size is not None:
        return init.vocab_size
    return 0 if init.tokenizer is None else len(AutoTokenizer.from_pretrained(init.tokenizer))


def _split(entry: SplitConfig) -> str:
    weight = "" if entry.weight is None else f", weight {entry.weight:g}"
    replay = ", replayed" if entry.replay else ""
    return f"{entry.shards}, split {entry.split}{weight}{replay}"


def _model_rows(init: InitConfig) -> list[tuple[str, str]]:
    if init.model is not None:
        return [("model", init.model)]
    if init.vocab_size is None:
        tokenizer = init.tokenizer or init.text_weights
    else:
        tokenizer = f"trained on the captions, at most {init.vocab_size} tokens"
    return [
        ("image encoder", init.backbone_weights or "random weights"),
        ("text encoder", init.text_weights or "random weights"),
        ("tokenizer", str(tokenizer)),
    ]


def _cost_rows(
    config: TrainingConfig, model_config: MdetrConfig, micro_batch_size: int
) -> list[tuple[str, str]]:
    """Returns rows about parameters, memory and operations."""
    transform = config.data.train_transform
    size = (max(transform.scales), transform.max_size)
    is_fixed = len(transform.scales) == 1 and transform.crop_prob == transform.hflip_prob == 0
    captions_per_image = config.data.captions_per_image if is_fixed else 1
    with FakeTensorMode():  # tensors without storage
        model = model_class_of(model_config)(model_config).train()
        cost = forward_cost(
            model, config.optimizer.precision, micro_batch_size, captions_per_image, size
        )
        count = sum(parameter.numel() for parameter in model.parameters())
        groups = parameter_groups(model, config.optimizer)
        trained = sum(parameter.numel() for group in groups for parameter in group["params"])
    return [
        ("parameters", f"{count / 1e6:.1f} million, {trained / 1e6:.1f} of them trained"),
        (
            "training state",
            f"{_state_bytes(count, trained, config.optimizer) / 1e9:.2f} GB on each rank: weights, "
            "gradients, the optimizer's moments, moving averages",
        ),
        (
            "activations",
            f"{cost.saved_bytes / 1e9:.2f} GB for a micro batch of images of {size[1]} x {size[0]} "
            "pixels, the largest",
        ),
        ("forward pass", f"{cost.flops / 1e12:.3f} TFLOP for the same micro batch"),
    ]


def _state_bytes(count: int, trained: int, optimizer: OptimizerConfig) -> int:
    """Returns the size of weights, gradients, AdamW's two moments and the EMA, all in float32."""
    average = count if optimizer.ema_decay else 0
    return 4 * (count + 3 * trained + average)
