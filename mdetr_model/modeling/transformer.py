"""The joint encoder and the decoder (paper, section 2.2 and figure 2).

Post-norm layers as in DETR: positions are added to queries and keys in every layer, never to
values. Sequences are (batch, length, channels); masks are bool and True where attention may look.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdetr_model.modeling.configuration_mdetr import MdetrConfig


class Attention(nn.Module):
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
        """From (B, Q, D) queries to (B, Q, D), over (B, S, D) keys and values.

        ``mask`` is (B, 1, 1, S), or None where everything may be looked at.
        """
        mixed = F.scaled_dot_product_attention(
            self._split(self.query(query)),
            self._split(self.key(key)),
            self._split(self.value(value)),
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(B, S, D) to (B, heads, S, D / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.hidden_size, config.feedforward_size)
        self.dropout = nn.Dropout(config.dropout)
        self.contract = nn.Linear(config.feedforward_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, S, D) to (B, S, D)."""
        return self.contract(self.dropout(F.relu(self.expand(x))))


class EncoderLayer(nn.Module):
    """Self attention over image and text together, then the feed-forward part."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.feedforward = FeedForward(config)
        self.feedforward_norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """From (B, S, D) to (B, S, D); ``positions`` (B, S, D), ``mask`` (B, 1, 1, S)."""
        placed = x + positions
        x = self.attention_norm(x + self.dropout(self.attention(placed, placed, x, mask)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


class DecoderLayer(nn.Module):
    """Self attention of the queries, attention to the encoder's memory, feed-forward part."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.self_attention = Attention(config)
        self.self_attention_norm = nn.LayerNorm(config.hidden_size)
        self.cross_attention = Attention(config)
        self.cross_attention_norm = nn.LayerNorm(config.hidden_size)
        self.feedforward = FeedForward(config)
        self.feedforward_norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, queries: Tensor, memory: Tensor, placed_memory: Tensor, mask: Tensor
    ) -> Tensor:
        """From (B, Q, D) to (B, Q, D).

        Args:
            x: (B, Q, D), what the queries have gathered so far.
            queries: (1, Q, D), the learned queries, used as positions of ``x``.
            memory: (B, S, D), the encoder's output.
            placed_memory: (B, S, D), the same with positions added.
            mask: (B, 1, 1, S).
        """
        placed = x + queries
        x = self.self_attention_norm(x + self.dropout(self.self_attention(placed, placed, x, None)))
        seen = self.cross_attention(x + queries, placed_memory, memory, mask)
        x = self.cross_attention_norm(x + self.dropout(seen))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


class Encoder(nn.Module):
    """Layers over the concatenated image and text sequence."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """From (B, S, D) to the memory (B, S, D); ``mask`` (B, 1, 1, S)."""
        for layer in self.layers:
            x = layer(x, positions, mask)
        return x


class Decoder(nn.Module):
    """Layers that turn learned queries into objects, starting from zero."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(self, queries: Tensor, memory: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """The normed output of every layer, (L, B, Q, D).

        Args:
            queries: (Q, D).
            memory: (B, S, D), the encoder's output.
            positions: (B, S, D), positions of the memory.
            mask: (B, 1, 1, S).
        """
        placed_memory = memory + positions
        queries = queries[None]
        x = torch.zeros_like(queries).expand(memory.shape[0], -1, -1)
        outputs = []
        for layer in self.layers:
            x = layer(x, queries, memory, placed_memory, mask)
            outputs.append(x)
        return self.norm(torch.stack(outputs))
