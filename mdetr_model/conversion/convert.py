"""Published MDETR checkpoints become models of this package, with the same outputs."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, ResNetConfig, RobertaTokenizerFast

from mdetr_model.conversion.key_mapping import PACKED, UNUSED, new_names
from mdetr_model.data.answers import CLEVR, read_answers
from mdetr_model.modeling.configuration_mdetr import (
    CLEVR_ANSWERS,
    GQA_ANSWERS,
    UNIFIED_GQA_ANSWERS,
    MdetrConfig,
    image_config_of,
    text_config_of,
)
from mdetr_model.modeling.image_processing_mdetr import MdetrImageProcessor
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding, MdetrForQuestionAnswering
from mdetr_model.modeling.processing_mdetr import MdetrProcessor

# Options of the published training program that a configuration keeps, where a file has them.
OPTIONS: dict[str, tuple[str, type]] = {
    "nheads": ("num_attention_heads", int),
    "dropout": ("dropout", float),
    "aux_loss": ("auxiliary_outputs", bool),
    "ce_loss_coef": ("token_weight", float),
    "bbox_loss_coef": ("bbox_loss_coef", float),
    "giou_loss_coef": ("giou_loss_coef", float),
    "contrastive_align_loss_coef": ("contrastive_weight", float),
    "qa_loss_coef": ("answer_weight", float),
    "eos_coef": ("eos_coef", float),
    "temperature_NCE": ("temperature", float),
    "set_cost_class": ("token_cost", float),
    "set_cost_bbox": ("box_cost", float),
    "set_cost_giou": ("giou_cost", float),
}
# Options that change what a model computes without a trace in its tensors, as they must be.
REQUIRED_OPTIONS = {"pre_norm": False, "dilation": False, "pass_pos_and_query": True}
# The tensors that every MDETR has, and that its configuration is read off.
TELLING_NAMES = (
    "query_embed.weight",
    "class_embed.weight",
    "transformer.resizer.fc.weight",
    "transformer.encoder.layers.0.linear1.weight",
    "transformer.text_encoder.embeddings.word_embeddings.weight",
    "transformer.text_encoder.embeddings.position_embeddings.weight",
    "transformer.text_encoder.embeddings.token_type_embeddings.weight",
    "transformer.text_encoder.encoder.layer.0.intermediate.dense.weight",
)
# By the channels of the stem and the number of blocks.
EFFICIENTNETS = {(40, 26): "efficientnet-b3", (48, 39): "efficientnet-b5"}
SHOWN_NAMES = 8


class CheckpointError(ValueError):
    """A file is not a published MDETR checkpoint, or not one of a kind that can be converted."""


def convert(
    checkpoint: Path,
    output: Path,
    weights: str | None = None,
    tokenizer: str | None = None,
    answers: Path | None = None,
) -> MdetrConfig:
    """Writes the model of a published checkpoint to the folder ``output``.

    Args:
        checkpoint: a ``.pth`` file as the published training program writes it.
        output: gets ``config.json`` and ``model.safetensors``.
        weights: ``model`` or ``model_ema``; default: ``model_ema`` where the file has it, which is
            what the published evaluation prefers.
        tokenizer: folder or hub name of the RoBERTa tokenizer, which the checkpoint lacks; with it
            ``output`` gets the processor, too.
        answers: the file of the answers that the heads of GQA have; see ``read_answers``.

    Returns:
        The configuration, as worked out from the file.

    Raises:
        CheckpointError: the file is something else; says what was expected and what was found.
        ValueError: the answers are not those of the checkpoint's heads.
        OSError: a file or the tokenizer cannot be read.
    """
    published, options = read_checkpoint(checkpoint, weights)
    config = configuration_of(published, options)
    config.answers = _answers(config, answers)
    # Without memory for weights of its own: the published ones are put in their place.
    with torch.device("meta"):
        model = (MdetrForQuestionAnswering if config.answer_heads else MdetrForGrounding)(config)
    state = converted_state(published, config)
    _check_fit(state, model.state_dict())
    processor = _processor(tokenizer) if tokenizer is not None else None
    model.load_state_dict(state, assign=True)
    model.save_pretrained(output)
    if processor is not None:
        processor.save_pretrained(output)
    return config


def _answers(config: MdetrConfig, path: Path | None) -> dict[str, list[str]] | None:
    heads = sorted(config.answer_heads)
    if path is not None:
        vocabulary = read_answers(path)
        if sorted(vocabulary.heads) != heads:
            raise ValueError(f"{path} is for the heads {vocabulary.heads}, the model has {heads}")
        return vocabulary.names
    return CLEVR.names if heads == sorted(CLEVR.heads) else None


def _processor(tokenizer: str) -> MdetrProcessor:
    return MdetrProcessor(MdetrImageProcessor(), RobertaTokenizerFast.from_pretrained(tokenizer))


def read_checkpoint(
    path: Path, weights: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint and the options that it was trained with, if it has them.

    Nothing in the file is executed: besides tensors and plain containers only the ``Namespace``
    of the options is accepted.

    Raises:
        CheckpointError: the file is not such a checkpoint.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # bytes that are no pickle make the unpickler raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: not a PyTorch checkpoint of tensors: {reason}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a dictionary, found {type(content).__name__}")
    if weights is None:
        weights = "model" if content.get("model_ema") is None else "model_ema"
    state = content.get(weights)
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        found = ", ".join(map(repr, list(content)[:SHOWN_NAMES])) or "nothing"
        raise CheckpointError(f"{path}: expected tensors by name under {weights!r}, found {found}")
    args = content.get("args")
    return dict(state), vars(args) if isinstance(args, argparse.Namespace) else {}


def configuration_of(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> MdetrConfig:
    """The configuration of published tensors; ``options`` say what tensors cannot.

    Raises:
        CheckpointError: the tensors or the options are not those of an MDETR, or of a variant not
            built here.
    """
    if any(name.startswith("detr.") for name in state):
        raise CheckpointError("a segmentation model (PhraseCut) has no counterpart here")
    if missing := [name for name in TELLING_NAMES if name not in state]:
        found = _listed(list(state)) or "nothing"
        raise CheckpointError(f"not an MDETR model: missing {_listed(missing)}; found {found}")
    for name, tensor in state.items():
        # Sizes are read off both axes of the telling tensors, and off the first of others.
        wrong = tensor.ndim != 2 if name in TELLING_NAMES else tensor.ndim == 0
        if wrong and not UNUSED.search(name):
            raise CheckpointError(f"{name} has shape {tuple(tensor.shape)}")
    for name, wanted in REQUIRED_OPTIONS.items():
        if options.get(name, wanted) is not wanted:
            raise CheckpointError(f"trained with {name}={options[name]}, which is not supported")

    queries, hidden = state["query_embed.weight"].shape
    fields = _fields_of_options(options)
    if "contrastive_align_projection_image.weight" in state:
        fields["contrastive_size"] = len(state["contrastive_align_projection_image.weight"])
    fields |= {
        "image_config": _image_config(state),
        "text_config": _text_config(state),
        "hidden_size": hidden,
        "encoder_layers": _count(state, r"transformer\.encoder\.layers\.(\d+)\."),
        "decoder_layers": _count(state, r"transformer\.decoder\.layers\.(\d+)\."),
        "feedforward_size": len(state["transformer.encoder.layers.0.linear1.weight"]),
        "num_queries": queries,
        "contrastive_alignment": "contrastive_align_projection_image.weight" in state,
        "predict_final": "isfinal_embed.weight" in state,
        "answer_heads": _answer_heads(state),
    }
    try:
        return MdetrConfig(**fields)
    except ValueError as error:
        raise CheckpointError(f"no MDETR model is like this: {error}") from error


def _fields_of_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a configuration keeps, by its names for them."""
    fields = {}
    for name, (ours, kind) in OPTIONS.items():
        if name in options:
            value = options[name]
            if not isinstance(value, (int, float) if kind is float else kind):
                raise CheckpointError(f"trained with {name}={value!r}, which is no {kind.__name__}")
            fields[ours] = kind(value)
    return fields


def converted_state(published: Mapping[str, Tensor], config: MdetrConfig) -> dict[str, Tensor]:
    """The tensors by the names of this package.

    Raises:
        CheckpointError: a tensor has no counterpart; says which.
    """
    used = {name: tensor for name, tensor in published.items() if not UNUSED.search(name)}
    names = new_names(used, [head for head, _ in config.answer_heads])
    unknown = [name for name, new in names.items() if new is None]
    if unknown:
        raise CheckpointError(f"unexpected tensors: {_listed(unknown)}")
    state: dict[str, Tensor] = {}
    for name, tensor in used.items():
        new = str(names[name])
        if kind := PACKED.search(new):
            parts = zip(("query", "key", "value"), tensor.tensor_split(3), strict=True)
            state |= {PACKED.sub(f".{p}.{kind[1]}", new): rows.clone() for p, rows in parts}
        else:
            state[new] = tensor
    return state


def _image_config(state: Mapping[str, Tensor]) -> PreTrainedConfig:
    stem = state.get("backbone.0.body.conv_stem.weight")
    if stem is not None:
        blocks = {m[0] for m in (re.search(r"\.blocks\.\d+\.\d+\.", name) for name in state) if m}
        name = EFFICIENTNETS.get((len(stem), len(blocks)))
        if name is None:
            raise CheckpointError(
                f"an EfficientNet of {len(blocks)} blocks on {len(stem)} channels is neither B3 "
                "nor B5"
            )
        return image_config_of(name)
    if "backbone.0.body.layer1.0.bn1.running_mean" not in state:
        raise CheckpointError(
            "the image encoder is neither a ResNet with batch norm nor EfficientNet"
        )
    bottleneck = "backbone.0.body.layer1.0.conv3.weight" in state
    last = "conv3" if bottleneck else "conv2"
    stages = [f"backbone.0.body.layer{stage}." for stage in (1, 2, 3, 4)]
    firsts = [f"{stage}0.{last}.weight" for stage in stages]
    for name in ("backbone.0.body.conv1.weight", *firsts):
        if name not in state:
            raise CheckpointError(f"a ResNet without {name}")
    return ResNetConfig(
        layer_type="bottleneck" if bottleneck else "basic",
        embedding_size=len(state["backbone.0.body.conv1.weight"]),
        depths=[_count(state, re.escape(stage) + r"(\d+)\.") for stage in stages],
        hidden_sizes=[len(state[name]) for name in firsts],
    )


def _text_config(state: Mapping[str, Tensor]) -> PreTrainedConfig:
    prefix = "transformer.text_encoder."
    vocabulary, hidden = state[prefix + "embeddings.word_embeddings.weight"].shape
    if not hidden or hidden % 64:
        raise CheckpointError(f"a text encoder of {hidden} channels is no published RoBERTa")
    config = text_config_of("roberta-base")
    config.vocab_size = vocabulary
    config.hidden_size = hidden
    # All published RoBERTas have heads of 64 channels.
    config.num_attention_heads = hidden // 64
    config.num_hidden_layers = _count(state, re.escape(prefix) + r"encoder\.layer\.(\d+)\.")
    config.intermediate_size = len(state[prefix + "encoder.layer.0.intermediate.dense.weight"])
    config.max_position_embeddings = len(state[prefix + "embeddings.position_embeddings.weight"])
    config.type_vocab_size = len(state[prefix + "embeddings.token_type_embeddings.weight"])
    return config


def _answer_heads(state: Mapping[str, Tensor]) -> list[tuple[str, int]]:
    """Answer heads in the order of their queries, with as many answers as the tensors have."""
    if "qa_embed.weight" not in state:
        return []
    heads: tuple[tuple[str, int], ...]
    if "answer_head.weight" in state:
        heads = UNIFIED_GQA_ANSWERS
    elif "answer_binary_head.weight" in state:
        heads = CLEVR_ANSWERS
    else:
        heads = GQA_ANSWERS
    sizes = {}
    for name, tensor in state.items():
        if m := re.fullmatch(r"answer_(?:(\w+)_)?head\.(?:layers\.2\.)?weight", name):
            sizes[m[1] or "total"] = len(tensor)
    return [(head, sizes.get(head, answers)) for head, answers in heads]


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbers follow upon each other in the names that begin with ``pattern``."""
    return len({m[1] for m in (re.match(pattern, name) for name in state) if m})


def _check_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    problems = []
    if missing := sorted(expected.keys() - state.keys()):
        problems.append(f"missing tensors: {_listed(missing)}")
    if unexpected := sorted(state.keys() - expected.keys()):
        problems.append(f"unexpected tensors: {_listed(unexpected)}")
    for name in sorted(expected.keys() & state.keys()):
        if not state[name].is_floating_point():
            problems.append(f"{name} is of {state[name].dtype}")
        if state[name].shape != expected[name].shape:
            wanted, found = tuple(expected[name].shape), tuple(state[name].shape)
            problems.append(f"{name} has shape {found}, expected {wanted}")
    if problems:
        raise CheckpointError("\n".join(problems[:SHOWN_NAMES]))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
