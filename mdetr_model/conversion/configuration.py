"""The configuration of a published checkpoint, inferred from its tensors and training options."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, ResNetConfig

from mdetr_model.conversion.key_mapping import UNUSED
from mdetr_model.conversion.published_checkpoint import CheckpointError, listed
from mdetr_model.modeling.answer_types import (
    CLEVR_ANSWER_HEADS,
    GQA_ANSWER_HEADS,
    UNIFIED_GQA_ANSWER_HEADS,
)
from mdetr_model.modeling.configuration_mdetr import (
    MdetrConfig,
    backbone_config_for,
    text_config_for,
)

# Options of the published training program, with the names and types of the configuration's fields.
CONFIG_FIELDS: dict[str, tuple[str, type]] = {
    "nheads": ("num_attention_heads", int),
    "dropout": ("dropout", float),
    "aux_loss": ("auxiliary_loss", bool),
    "ce_loss_coef": ("ce_loss_coef", float),
    "bbox_loss_coef": ("bbox_loss_coef", float),
    "giou_loss_coef": ("giou_loss_coef", float),
    "contrastive_align_loss_coef": ("contrastive_align_loss_coef", float),
    "qa_loss_coef": ("qa_loss_coef", float),
    "eos_coef": ("eos_coef", float),
    "temperature_NCE": ("temperature_nce", float),
    "set_cost_class": ("class_cost", float),
    "set_cost_bbox": ("bbox_cost", float),
    "set_cost_giou": ("giou_cost", float),
}
# Values of options that change what a model computes but not its tensors.
REQUIRED_OPTIONS = {"pre_norm": False, "dilation": False, "pass_pos_and_query": True}
# Tensors of every MDETR; the configuration is inferred from their shapes, of both axes.
REQUIRED_TENSORS = (
    "query_embed.weight",
    "class_embed.weight",
    "transformer.resizer.fc.weight",
    "transformer.encoder.layers.0.linear1.weight",
    "transformer.decoder.layers.0.linear1.weight",
    "transformer.text_encoder.embeddings.word_embeddings.weight",
    "transformer.text_encoder.embeddings.position_embeddings.weight",
    "transformer.text_encoder.embeddings.token_type_embeddings.weight",
    "transformer.text_encoder.encoder.layer.0.intermediate.dense.weight",
)
# EfficientNets by channels of the stem and number of blocks.
EFFICIENTNETS = {(40, 26): "efficientnet-b3", (48, 39): "efficientnet-b5"}


def config_from_checkpoint(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> MdetrConfig:
    """Returns the configuration of a published model.

    Args:
        state: its tensors by name.
        options: of its training, for what the tensors do not show.

    Raises:
        CheckpointError: the tensors or the options are not those of an MDETR, or of a variant that
            is not supported.
    """
    if any(name.startswith("detr.") for name in state):
        raise CheckpointError("a segmentation model (PhraseCut) is not supported")
    if missing := [name for name in REQUIRED_TENSORS if name not in state]:
        names = listed(list(state)) or "nothing"
        raise CheckpointError(f"not an MDETR model: missing {listed(missing)}; found {names}")
    for name, tensor in state.items():
        # Of the other tensors, only the size of the first axis is used.
        wrong = tensor.ndim != 2 if name in REQUIRED_TENSORS else tensor.ndim == 0
        if wrong and not UNUSED.search(name):
            raise CheckpointError(f"{name} has shape {tuple(tensor.shape)}")
    for name, supported in REQUIRED_OPTIONS.items():
        if options.get(name, supported) is not supported:
            raise CheckpointError(f"trained with {name}={options[name]}, which is not supported")

    queries, hidden = state["query_embed.weight"].shape
    fields = _fields_from_options(options)
    if "contrastive_align_projection_image.weight" in state:
        fields["projection_dim"] = len(state["contrastive_align_projection_image.weight"])
    fields |= {
        "token_targets": "binary",  # no option of the published program, see soft_token_targets
        "backbone_config": _backbone_config(state),
        "text_config": _text_config(state),
        "hidden_size": hidden,
        "encoder_layers": _count(state, r"transformer\.encoder\.layers\.(\d+)\."),
        "decoder_layers": _count(state, r"transformer\.decoder\.layers\.(\d+)\."),
        "encoder_ffn_dim": len(state["transformer.encoder.layers.0.linear1.weight"]),
        "decoder_ffn_dim": len(state["transformer.decoder.layers.0.linear1.weight"]),
        "num_queries": queries,
        "contrastive_align_loss": "contrastive_align_projection_image.weight" in state,
        "predict_final": "isfinal_embed.weight" in state,
        "answer_heads": _answer_heads(state),
    }
    try:
        return MdetrConfig(**fields)
    except ValueError as error:
        raise CheckpointError(f"invalid configuration: {error}") from error


def _fields_from_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of the configuration that are options of the training program."""
    fields = {}
    for name, (field, kind) in CONFIG_FIELDS.items():
        if name in options:
            value = options[name]
            if not isinstance(value, (int, float) if kind is float else kind):
                raise CheckpointError(
                    f"trained with {name}={value!r}, which is not {kind.__name__}"
                )
            fields[field] = kind(value)
    return fields


def _backbone_config(state: Mapping[str, Tensor]) -> PreTrainedConfig:
    stem = state.get("backbone.0.body.conv_stem.weight")
    if stem is not None:
        blocks = {m[0] for m in (re.search(r"\.blocks\.\d+\.\d+\.", name) for name in state) if m}
        name = EFFICIENTNETS.get((len(stem), len(blocks)))
        if name is None:
            raise CheckpointError(
                f"an EfficientNet of {len(blocks)} blocks on {len(stem)} channels is neither B3 "
                "nor B5"
            )
        return backbone_config_for(name)
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
        raise CheckpointError(f"a text encoder of {hidden} channels is not a published RoBERTa")
    config = text_config_for("roberta-base")
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
    """Returns the answer heads in the order of their queries, with the sizes of their outputs."""
    if "qa_embed.weight" not in state:
        return []
    heads: tuple[tuple[str, int], ...]
    if "answer_head.weight" in state:
        heads = UNIFIED_GQA_ANSWER_HEADS
    elif "answer_binary_head.weight" in state:
        heads = CLEVR_ANSWER_HEADS
    else:
        heads = GQA_ANSWER_HEADS
    sizes = {}
    for name, tensor in state.items():
        if m := re.fullmatch(r"answer_(?:(\w+)_)?head\.(?:layers\.2\.)?weight", name):
            sizes[m[1] or "total"] = len(tensor)
    return [(head, sizes.get(head, answers)) for head, answers in heads]


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Returns the number of different layers whose tensors' names match ``pattern``."""
    return len({m[1] for m in (re.match(pattern, name) for name in state) if m})
