"""The joint encoder and the decoder (paper, section 2.2 and figure 2).

Post-norm layers as in DETR: positions are added to queries and keys in every layer, never to
values. Sequences are (batch, length, channels); masks are bool, False for keys to leave out.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_mdetr import MdetrConfig

BRANCH_SCALE = 0.2  # of the weights that `start_near_identity` makes small


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attends as the other functions that ``attn_implementation`` names, and returns the weights.

    Args:
        module: the attention, whose mode decides about dropout.
        query: (B, heads, Q, D / heads)
        key, value: (B, heads, S, D / heads)
        attention_mask: (B, 1, 1, S), False for keys to leave out.
        scaling: factor of the scores.
        dropout: of the weights.

    Returns:
        (B, Q, heads, D / heads), and the weights (B, heads, Q, S) before their dropout.
    """
    scores = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    attended = F.dropout(weights, dropout, training=module.training) @ value
    return attended.transpose(1, 2), weights


class MdetrAttention(nn.Module):
    """Multi-head scaled dot-product attention, by the function of ``attn_implementation``."""

    is_causal = False

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.config = config
        self.heads = config.num_attention_heads
        self.scaling = (size // self.heads) ** -0.5
        self.dropout = config.dropout
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.output = nn.Linear(size, size)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attends from (B, Q, D) queries to (B, S, D) keys and values: (B, Q, D).

        ``mask`` is (B, 1, 1, S), or None to attend to all keys. The second value are the weights
        (B, heads, Q, S) if they are asked for, for which the eager function is used.
        """
        attention: Any = eager_attention_forward
        if not output_attentions:
            attention = ALL_ATTENTION_FUNCTIONS.get_interface(
                self.config._attn_implementation, eager_attention_forward
            )
        attended, weights = attention(
            self,
            self._split_heads(self.query(query)),
            self._split_heads(self.key(key)),
            self._split_heads(self.value(value)),
            mask,
            scaling=self.scaling,
            dropout=self.dropout if self.training else 0.0,
            is_causal=False,
        )
        return self.output(attended.flatten(2)), weights if output_attentions else None

    def _split_heads(self, x: Tensor) -> Tensor:
        """Reshapes (B, S, D) to (B, heads, S, D / heads)."""
        return x.reshape(*x.shape[:-1], self.heads, -1).transpose(1, 2)


class MdetrFeedForward(nn.Module):
    """Two linear layers with a ReLU between them."""

    def __init__(self, size: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(size, ffn_dim)
        self.dropout = nn.Dropout(dropout)
        self.contract = nn.Linear(ffn_dim, size)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, S, D) to (B, S, D)."""
        return self.contract(self.dropout(F.relu(self.expand(x))))


class MdetrEncoderLayer(GradientCheckpointingLayer):
    """Self attention over image and text together, then a feed-forward network."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.attention = MdetrAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.feedforward = MdetrFeedForward(
            config.hidden_size, config.encoder_ffn_dim, config.dropout
        )
        self.feedforward_norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, output_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Maps (B, S, D) to (B, S, D); ``positions`` (B, S, D); ``mask`` (B, 1, 1, S) or None.

        The second value are the weights of the attention, if they are asked for.
        """
        with_positions = x + positions
        attended, weights = self.attention(
            with_positions, with_positions, x, mask, output_attentions
        )
        x = self.attention_norm(x + self.dropout(attended))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x))), weights


class MdetrDecoderLayer(GradientCheckpointingLayer):
    """Self attention of the queries, cross attention to the memory, feed-forward network."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.self_attention = MdetrAttention(config)
        self.self_attention_norm = nn.LayerNorm(config.hidden_size)
        self.cross_attention = MdetrAttention(config)
        self.cross_attention_norm = nn.LayerNorm(config.hidden_size)
        self.feedforward = MdetrFeedForward(
            config.hidden_size, config.decoder_ffn_dim, config.dropout
        )
        self.feedforward_norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        queries: Tensor,
        memory: Tensor,
        memory_with_positions: Tensor,
        mask: Tensor | None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Maps (B, Q, D) to (B, Q, D).

        Args:
            x: (B, Q, D), output of the layer before; zeros for the first.
            queries: (1, Q, D), the learned queries, which serve as positions of ``x``.
            memory: (B, S, D), the encoder's output.
            memory_with_positions: (B, S, D), the same with its positions added.
            mask: (B, 1, 1, S), or None without padding.
            output_attentions: whether the weights of both attentions are returned as well.
        """
        with_queries = x + queries
        attended, self_weights = self.self_attention(
            with_queries, with_queries, x, None, output_attentions
        )
        x = self.self_attention_norm(x + self.dropout(attended))
        attended, cross_weights = self.cross_attention(
            x + queries, memory_with_positions, memory, mask, output_attentions
        )
        x = self.cross_attention_norm(x + self.dropout(attended))
        x = self.feedforward_norm(x + self.dropout(self.feedforward(x)))
        return x, self_weights, cross_weights


class EncoderOutput(NamedTuple):
    """Output of the encoder: (B, S, D), and by layer what was asked for.

    Attributes:
        memory: (B, S, D)
        hidden_states: the input, and the output (B, S, D) of each layer.
        attentions: (B, heads, S, S) of each layer.
    """

    memory: Tensor
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor | None, ...] | None


class DecoderOutput(NamedTuple):
    """Output of the decoder, and by layer what was asked for.

    Attributes:
        layers: (L, B, Q, D), the normalized output of each layer.
        hidden_states: the input, and the output (B, Q, D) of each layer before that norm.
        attentions: (B, heads, Q, Q) of each layer.
        cross_attentions: (B, heads, Q, S) of each layer.
    """

    layers: Tensor
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor | None, ...] | None
    cross_attentions: tuple[Tensor | None, ...] | None


class MdetrEncoder(nn.Module):
    """Transformer encoder over the concatenated image and text sequence."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MdetrEncoderLayer(config) for _ in range(config.encoder_layers))

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> EncoderOutput:
        """Maps (B, S, D) to the memory (B, S, D); ``mask`` (B, 1, 1, S) or None."""
        states, attentions = [x], []
        for layer in self.layers:
            x, weights = layer(x, positions, mask, output_attentions)
            attentions.append(weights)
            if output_hidden_states:
                states.append(x)
        return EncoderOutput(
            memory=x,
            hidden_states=tuple(states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )


class MdetrDecoder(nn.Module):
    """Transformer decoder from learned queries to objects, starting from zeros."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MdetrDecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(
        self,
        queries: Tensor,
        memory: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> DecoderOutput:
        """Decodes the queries.

        Args:
            queries: (Q, D).
            memory: (B, S, D), the encoder's output.
            positions: (B, S, D), positions of the memory.
            mask: (B, 1, 1, S), or None without padding.
            output_attentions, output_hidden_states: what is returned for each layer.
        """
        memory_with_positions = memory + positions
        queries = queries[None]
        states = [torch.zeros_like(queries).expand(memory.shape[0], -1, -1)]
        attentions, cross_attentions = [], []
        for layer in self.layers:
            x, self_weights, cross_weights = layer(
                states[-1], queries, memory, memory_with_positions, mask, output_attentions
            )
            states.append(x)
            attentions.append(self_weights)
            cross_attentions.append(cross_weights)
        return DecoderOutput(
            layers=self.norm(torch.stack(states[1:])),
            hidden_states=tuple(states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
            cross_attentions=tuple(cross_attentions) if output_attentions else None,
        )


@torch.no_grad()
def start_as_published(encoder: MdetrEncoder, decoder: MdetrDecoder) -> None:
    """Draws the matrices of attention and feed-forward networks as published training does.

    They are Xavier's uniform ones. Query, key and value are one matrix (3 D, D) there, so their
    weights are smaller than those of single matrices, by the square root of 2. The biases of
    attention are zero, those of feed-forward networks are left as they are.
    """
    for module in [*encoder.modules(), *decoder.modules()]:
        match module:
            case MdetrFeedForward():
                initialization.xavier_uniform_(module.expand.weight)
                initialization.xavier_uniform_(module.contract.weight)
            case MdetrAttention():
                size = module.output.in_features
                bound = math.sqrt(6 / (size + 3 * size))
                for part in (module.query, module.key, module.value):
                    initialization.uniform_(part.weight, -bound, bound)
                initialization.xavier_uniform_(module.output.weight)
                for part in (module.query, module.key, module.value, module.output):
                    initialization.zeros_(part.bias)


@torch.no_grad()
def start_near_identity(encoder: MdetrEncoder, decoder: MdetrDecoder) -> None:
    """Makes random weights map image features to the memory, and the memory to the queries.

    The encoder's branches and all feed-forward networks start small beside the residual
    connections, and a cross attention starts by copying what it attends to: its output projection
    is the transpose of an orthogonal value projection. Heads that read the memory, where the losses
    of the grid train them, can then read the queries as well. With Xavier's initialization, queries
    begin to follow objects long after the grid has found them.
    """
    for module in [*encoder.modules(), *decoder.modules()]:
        match module:
            case MdetrFeedForward():
                module.contract.weight.mul_(BRANCH_SCALE)
            case MdetrEncoderLayer():
                module.attention.output.weight.mul_(BRANCH_SCALE)
            case MdetrDecoderLayer():
                weight = module.cross_attention.value.weight
                # In float32: orthogonal matrices cannot be computed in 16 bits.
                value = torch.empty_like(weight, dtype=torch.float32)
                nn.init.orthogonal_(value)
                weight.copy_(value)
                module.cross_attention.output.weight.copy_(value.T)
