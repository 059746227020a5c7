"""Heads of the model: objects, their alignment with the caption, answers, words."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_mdetr import MdetrConfig
from .positive_map import NUM_TOKEN_POSITIONS


class MLPHead(nn.Module):
    """Three linear layers with ReLUs between them."""

    def __init__(self, size: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(size, size)
        self.second = nn.Linear(size, size)
        self.last = nn.Linear(size, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., size) to (..., outputs)."""
        return self.last(F.relu(self.second(F.relu(self.first(x)))))


class ObjectHeads(nn.Module):
    """Soft token prediction and box of every query (paper, section 2.2.2)."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.tokens = nn.Linear(config.hidden_size, NUM_TOKEN_POSITIONS)
        self.box = MLPHead(config.hidden_size, 4)
        self.is_final = nn.Linear(config.hidden_size, 1) if config.predict_final else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Maps (..., Q, D) to predictions.

        Returns:
            Logits (..., Q, 256) over the positions of the caption's tokens, the last for
            "no object"; boxes (..., Q, 4) as cxcywh relative to the image, 0 to 1; and, if the
            model has the head, logits (..., Q) that the whole caption refers to the object, rather
            than only mentions it (CLEVR-Ref+).
        """
        is_final = self.is_final(x).squeeze(-1) if self.is_final is not None else None
        return self.tokens(x), self._boxes(x), is_final

    def _boxes(self, x: Tensor) -> Tensor:
        """Predicts boxes in the precision of the weights, also under autocast and with TF32.

        bfloat16 has steps of 1/256 below 1, which are 5 pixels of 1333, and TF32 of 1/2048.
        """
        if torch.compiler.is_compiling():
            return self._boxes_as_cast(x)
        with _without_tf32():
            return self._boxes_as_cast(x)

    def _boxes_as_cast(self, x: Tensor) -> Tensor:
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            return self.box(x).sigmoid()
        with torch.autocast(device, enabled=False):
            return self.box(x.to(self.box.first.weight.dtype)).sigmoid()


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Computes products of float32 matrices in float32 inside the block."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    if before == "tf32":
        matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        if before == "tf32":
            matmul.fp32_precision = before


class AlignmentHeads(nn.Module):
    """Projections of queries and tokens into the space of the contrastive alignment loss."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.queries = nn.Linear(config.hidden_size, config.projection_dim)
        self.tokens = nn.Linear(config.hidden_size, config.projection_dim)

    def forward(self, queries: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (..., Q, D) queries and (B, T, D) tokens to unit vectors (..., Q, E), (B, T, E)."""
        return (
            F.normalize(self.queries(queries), dim=-1),
            F.normalize(self.tokens(tokens), dim=-1),
        )


class AnswerHeads(nn.Module):
    """One head for each answer type, each with its own query (paper, sections 4.1 and 4.4).

    ``config.answer_heads`` names them in the order of their queries; see ``answer_types.py``.
    """

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.names = [name for name, _ in config.answer_heads]
        self.heads = nn.ModuleList(
            MLPHead(config.hidden_size, outputs)
            if name in config.mlp_answer_heads
            else nn.Linear(config.hidden_size, outputs)
            for name, outputs in config.answer_heads
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps (B, heads, D) to logits by head: (B, answers), or (B,) for yes or no."""
        logits = [head(query) for head, query in zip(self.heads, x.unbind(1), strict=True)]
        return {
            name: value.squeeze(-1) if name == "binary" else value
            for name, value in zip(self.names, logits, strict=True)
        }


class WordHead(nn.Module):
    """Predicts the words that name the object at a grid location, from its image features alone.

    For training with a ``word_loss_coef`` only.
    """

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.words = nn.Linear(config.hidden_size, config.text_config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.text_config.vocab_size))

    @property
    def initial_bias(self) -> float:
        """The bias of random weights: at most grid locations, most tokens are negatives."""
        return -math.log(len(self.bias))

    @torch.no_grad()
    def resize(self, vocab_size: int) -> None:
        """Changes the number of tokens; new ones get random weights."""
        words, bias = self.words, self.bias
        self.words = nn.Linear(words.in_features, vocab_size, bias=False).to(words.weight)
        self.bias = nn.Parameter(bias.new_empty(vocab_size))
        nn.init.xavier_uniform_(self.words.weight)
        nn.init.constant_(self.bias, self.initial_bias)
        tokens = min(vocab_size, len(bias))
        self.words.weight[:tokens] = words.weight[:tokens]
        self.bias[:tokens] = bias[:tokens]

    def forward(self, x: Tensor) -> Tensor:
        """Maps features (..., D) to logits (..., W) over the vocabulary of the text encoder."""
        return self.words(self.norm(x)) + self.bias
