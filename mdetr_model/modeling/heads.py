"""What is read off the decoder: objects, their alignment with the caption, and answers."""

import torch.nn.functional as F
from torch import Tensor, nn

from mdetr_model.modeling.configuration_mdetr import MdetrConfig


class Mlp(nn.Module):
    """Three linear layers with ReLUs between them."""

    def __init__(self, size: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(size, size)
        self.second = nn.Linear(size, size)
        self.last = nn.Linear(size, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """From (..., size) to (..., outputs)."""
        return self.last(F.relu(self.second(F.relu(self.first(x)))))


class FeatureResizer(nn.Module):
    """Projects text features to the transformer's size: linear, layer norm, dropout."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.text_config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=1e-12)
        self.dropout = nn.Dropout(config.resizer_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, T, text size) to (B, T, D)."""
        return self.dropout(self.norm(self.linear(x)))


class ObjectHeads(nn.Module):
    """Soft token prediction and box of every query (paper, section 2.2.2)."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.tokens = nn.Linear(config.hidden_size, config.num_token_positions)
        self.box = Mlp(config.hidden_size, 4)
        self.is_final = nn.Linear(config.hidden_size, 1) if config.predict_final else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """From (..., Q, D) to token logits, boxes and finality.

        Returns:
            Logits (..., Q, 256) over the positions of the caption's tokens, the last for
            "no object"; boxes (..., Q, 4) as cxcywh in shares of the image, 0 to 1; and, where
            the model has the head, logits (..., Q) that a box is referred to by the whole caption
            and not only on the way to it (CLEVR-Ref+).
        """
        final = self.is_final(x).squeeze(-1) if self.is_final is not None else None
        return self.tokens(x), self.box(x).sigmoid(), final


class AlignmentHeads(nn.Module):
    """Projections of queries and tokens into the space of the contrastive alignment loss."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.queries = nn.Linear(config.hidden_size, config.contrastive_size)
        self.tokens = nn.Linear(config.hidden_size, config.contrastive_size)

    def forward(self, queries: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors of (..., Q, D) queries and (B, T, D) tokens: (..., Q, 64), (B, T, 64)."""
        return (
            F.normalize(self.queries(queries), dim=-1),
            F.normalize(self.tokens(tokens), dim=-1),
        )


class AnswerHeads(nn.Module):
    """One head an answer type, each reading its own query (paper, sections 4.1 and 4.4).

    ``config.answer_heads`` names them in the order of their queries. With several of them, ``type``
    says which of the others answers the question; ``total`` is the unified head of GQA.
    """

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.names = [name for name, _ in config.answer_heads]
        self.heads = nn.ModuleList(
            Mlp(config.hidden_size, answers)
            if name in config.mlp_answer_heads
            else nn.Linear(config.hidden_size, answers)
            for name, answers in config.answer_heads
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """From (B, heads, D) to logits by head: (B, answers), or (B,) for yes or no."""
        logits = [head(query) for head, query in zip(self.heads, x.unbind(1), strict=True)]
        return {
            name: value.squeeze(-1) if name == "binary" else value
            for name, value in zip(self.names, logits, strict=True)
        }
