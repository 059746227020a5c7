"""Mapping of the tensors of a published MDETR checkpoint to the parameters of a model."""

import re
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from mdetr_model.conversion.published_checkpoint import CheckpointError, listed

# The three projections of attention are the rows of one tensor in the published model.
PACKED = re.compile(r"\.in_proj_(weight|bias)$")
# Not used: an index that the text encoder computes itself, the pooler, training counters.
UNUSED = re.compile(r"(\.position_ids|\.text_encoder\.pooler\..*|\.num_batches_tracked)$")

_LAYER = {
    "encoder": {
        "self_attn": "attention",
        "norm1": "attention_norm",
        "norm2": "feedforward_norm",
    },
    "decoder": {
        "self_attn": "self_attention",
        "norm1": "self_attention_norm",
        "cross_attn_image": "cross_attention",
        "norm3": "cross_attention_norm",
        "norm4": "feedforward_norm",
    },
}
_FEEDFORWARD = {"linear1": "feedforward.expand", "linear2": "feedforward.contract"}
_MLP = {"0": "first", "1": "second", "2": "last"}
_RESNET_PART = {
    "conv": "convolution",
    "bn": "normalization",
    "0": "convolution",
    "1": "normalization",
}
_SQUEEZE = {"conv_reduce": "squeeze_excite.reduce", "conv_expand": "squeeze_excite.expand"}
_SEPARABLE = {
    "conv_dw": "depthwise_conv.depthwise_conv",
    "bn1": "depthwise_conv.depthwise_norm",
    "conv_pw": "projection.project_conv",
    "bn2": "projection.project_bn",
}
_INVERTED = {
    "conv_pw": "expansion.expand_conv",
    "bn1": "expansion.expand_bn",
    "conv_dw": "depthwise_conv.depthwise_conv",
    "bn2": "depthwise_conv.depthwise_norm",
    "conv_pwl": "projection.project_conv",
    "bn3": "projection.project_bn",
}
_PREFIXES = {
    "transformer.text_encoder.": "mdetr.text_encoder.",
    "transformer.resizer.fc.": "mdetr.text_projection.linear.",
    "transformer.resizer.layer_norm.": "mdetr.text_projection.norm.",
    "transformer.decoder.norm.": "mdetr.decoder.norm.",
    "input_proj.": "mdetr.image_projection.",
    "query_embed.": "mdetr.queries.",
    "qa_embed.": "answer_queries.",
    "class_embed.": "object_heads.tokens.",
    "isfinal_embed.": "object_heads.is_final.",
    "contrastive_align_projection_image.": "alignment_heads.queries.",
    "contrastive_align_projection_text.": "alignment_heads.tokens.",
}


def convert_state_dict(
    published: Mapping[str, Tensor], answer_heads: Sequence[str]
) -> dict[str, Tensor]:
    """Returns the tensors under the names of ``MdetrForGrounding``'s parameters.

    Args:
        published: all tensors of a checkpoint, by name.
        answer_heads: the names of the answer heads, in the order of the configuration.

    Raises:
        CheckpointError: a tensor has no counterpart; the message names it.
    """
    used = {name: tensor for name, tensor in published.items() if not UNUSED.search(name)}
    blocks = _block_indices(used)
    names = {name: _new_name(name, blocks, answer_heads) for name in used}
    if unexpected := [name for name, new in names.items() if new is None]:
        raise CheckpointError(f"unexpected tensors: {listed(unexpected)}")
    state: dict[str, Tensor] = {}
    for name, tensor in used.items():
        new_name = str(names[name])
        if packed := PACKED.search(new_name):
            projections = zip(("query", "key", "value"), tensor.tensor_split(3), strict=True)
            for projection, rows in projections:
                state[PACKED.sub(f".{projection}.{packed[1]}", new_name)] = rows.clone()
        else:
            state[new_name] = tensor
    return state


def _block_indices(names: Iterable[str]) -> dict[tuple[int, int], int]:
    """Returns the index of each EfficientNet block among all, by stage and number in the stage."""
    matches = (re.search(r"\.blocks\.(\d+)\.(\d+)\.", name) for name in names)
    blocks = sorted({(int(m[1]), int(m[2])) for m in matches if m})
    return {block: index for index, block in enumerate(blocks)}


def _new_name(
    name: str, blocks: Mapping[tuple[int, int], int], answer_heads: Sequence[str]
) -> str | None:
    """Returns the name of a parameter, or None if the published name is not one of MDETR's."""
    for old, new in _PREFIXES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    if name.startswith("backbone.0.body."):
        inner = name.removeprefix("backbone.0.body.")
        encoder = _efficientnet_name(inner, blocks) if blocks else _resnet_name(inner)
        return encoder and f"mdetr.image_encoder.{encoder}"
    if m := re.fullmatch(r"transformer\.(encoder|decoder)\.layers\.(\d+)\.(\w+)\.(.+)", name):
        part = (_LAYER[m[1]] | _FEEDFORWARD).get(m[3])
        inner = m[4].replace("out_proj.", "output.")
        return part and f"mdetr.{m[1]}.layers.{m[2]}.{part}.{inner}"
    if m := re.fullmatch(r"bbox_embed\.layers\.([012])\.(\w+)", name):
        return f"object_heads.box.{_MLP[m[1]]}.{m[2]}"
    if m := re.fullmatch(r"answer_(?:(\w+)_)?head\.(?:layers\.([012])\.)?(\w+)", name):
        head = m[1] or "total"
        if head not in answer_heads:
            return None
        layer = f"{_MLP[m[2]]}." if m[2] else ""
        return f"answer_heads.heads.{answer_heads.index(head)}.{layer}{m[3]}"
    return None


def _resnet_name(name: str) -> str | None:
    if m := re.fullmatch(r"(conv|bn)1\.(\w+)", name):
        return f"backbone.embedder.embedder.{_RESNET_PART[m[1]]}.{m[2]}"
    if m := re.fullmatch(r"layer([1-4])\.(\d+)\.(.+)", name):
        layer = f"backbone.encoder.stages.{int(m[1]) - 1}.layers.{m[2]}"
        if n := re.fullmatch(r"(conv|bn)([123])\.(\w+)", m[3]):
            return f"{layer}.layer.{int(n[2]) - 1}.{_RESNET_PART[n[1]]}.{n[3]}"
        if n := re.fullmatch(r"downsample\.([01])\.(\w+)", m[3]):
            return f"{layer}.shortcut.{_RESNET_PART[n[1]]}.{n[2]}"
    return None


def _efficientnet_name(name: str, blocks: Mapping[tuple[int, int], int]) -> str | None:
    if m := re.fullmatch(r"(conv_stem|bn1)\.(\w+)", name):
        return f"stem.{'convolution' if m[1] == 'conv_stem' else 'batchnorm'}.{m[2]}"
    if m := re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(?:se\.)?(\w+)\.(\w+)", name):
        stage, block = int(m[1]), int(m[2])
        part = ((_INVERTED if stage else _SEPARABLE) | _SQUEEZE).get(m[3])
        return part and f"blocks.{blocks[stage, block]}.{part}.{m[4]}"
    return None
