"""The joint encoder and the decoder (paper, section 2.2 and figure 2).

Post-norm layers as in DETR: positions are added to queries and keys in every layer, never to
values. Sequences are (batch, length, channels); masks are bool, False for keys to leave out.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization

from .configuration_mdetr import MdetrConfig

BRANCH_SCALE = 0.2  # of the weights that `start_near_identity` makes small


class MdetrAttention(nn.Module):
    """Multi-head scaled dot-product attention."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.dropout = config.dropout
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.output = nn.Linear(size, size)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attends from (B, Q, D) queries to (B, S, D) keys and values: (B, Q, D).

        ``mask`` is (B, 1, 1, S), or None to attend to all keys.
        """
        attended = F.scaled_dot_product_attention(
            self._split_heads(self.query(query)),
            self._split_heads(self.key(key)),
            self._split_heads(self.value(value)),
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.output(attended.transpose(1, 2).flatten(2))

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


class MdetrEncoderLayer(nn.Module):
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

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Maps (B, S, D) to (B, S, D); ``positions`` (B, S, D), ``mask`` (B, 1, 1, S)."""
        with_positions = x + positions
        attended = self.attention(with_positions, with_positions, x, mask)
        x = self.attention_norm(x + self.dropout(attended))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


class MdetrDecoderLayer(nn.Module):
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
        mask: Tensor,
    ) -> Tensor:
        """Maps (B, Q, D) to (B, Q, D).

        Args:
            x: (B, Q, D), output of the layer before; zeros for the first.
            queries: (1, Q, D), the learned queries, which serve as positions of ``x``.
            memory: (B, S, D), the encoder's output.
            memory_with_positions: (B, S, D), the same with its positions added.
            mask: (B, 1, 1, S).
        """
        with_queries = x + queries
        attended = self.self_attention(with_queries, with_queries, x, None)
        x = self.self_attention_norm(x + self.dropout(attended))
        attended = self.cross_attention(x + queries, memory_with_positions, memory, mask)
        x = self.cross_attention_norm(x + self.dropout(attended))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


class MdetrEncoder(nn.Module):
    """Transformer encoder over the concatenated image and text sequence."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MdetrEncoderLayer(config) for _ in range(config.encoder_layers))

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Maps (B, S, D) to the memory (B, S, D); ``mask`` (B, 1, 1, S)."""
        for layer in self.layers:
            x = layer(x, positions, mask)
        return x


class MdetrDecoder(nn.Module):
    """Transformer decoder from learned queries to objects, starting from zeros."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MdetrDecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(self, queries: Tensor, memory: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Returns the normalized output (L, B, Q, D) of every layer.

        Args:
            queries: (Q, D).
            memory: (B, S, D), the encoder's output.
            positions: (B, S, D), positions of the memory.
            mask: (B, 1, 1, S).
        """
        memory_with_positions = memory + positions
        queries = queries[None]
        x = torch.zeros_like(queries).expand(memory.shape[0], -1, -1)
        outputs = []
        for layer in self.layers:
            x = layer(x, queries, memory, memory_with_positions, mask)
            outputs.append(x)
        return self.norm(torch.stack(outputs))


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
