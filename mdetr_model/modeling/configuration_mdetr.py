"""The configuration of an MDETR model."""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from mdetr_model.data.answers import AnswerVocabulary
from mdetr_model.modeling.answer_losses import CLEVR_TYPES, GQA_TYPES
from mdetr_model.modeling.positive_map import COLUMNS

# The answer heads of the published models in the order of their queries, with their answers.
GQA_ANSWERS = (
    ("type", 5),
    ("obj", 3),
    ("rel", 1594),
    ("attr", 403),
    ("cat", 678),
    ("global", 111),
)
CLEVR_ANSWERS = (
    ("type", 3),
    ("binary", 1),
    ("reg", 20),
    ("attr", 15),
)
UNIFIED_GQA_ANSWERS = (("total", 1853),)

_RESNET = {"model_type": "resnet"}
_BASIC = {**_RESNET, "layer_type": "basic", "hidden_sizes": [64, 128, 256, 512]}
# No connection is dropped in training, as in the published EfficientNets.
_EFFICIENTNET = {"model_type": "efficientnet", "drop_connect_rate": 0.0}
IMAGE_ENCODERS: dict[str, dict[str, Any]] = {
    "resnet18": {**_BASIC, "depths": [2, 2, 2, 2]},
    "resnet34": {**_BASIC, "depths": [3, 4, 6, 3]},
    "resnet50": {**_RESNET, "depths": [3, 4, 6, 3]},
    "resnet101": {**_RESNET, "depths": [3, 4, 23, 3]},
    "efficientnet-b3": {
        **_EFFICIENTNET,
        "width_coefficient": 1.2,
        "depth_coefficient": 1.4,
        "hidden_dim": 1536,
    },
    "efficientnet-b5": {
        **_EFFICIENTNET,
        "width_coefficient": 1.6,
        "depth_coefficient": 2.2,
        "hidden_dim": 2048,
    },
}

TOKEN_TARGETS = ("normalized", "binary")

_ROBERTA = {
    "model_type": "roberta",
    # 512 positions, behind two that RoBERTa leaves to padding.
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
TEXT_ENCODERS: dict[str, dict[str, Any]] = {
    "roberta-base": _ROBERTA,
    "distilroberta-base": {**_ROBERTA, "num_hidden_layers": 6},
    "roberta-large": {
        **_ROBERTA,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}


class MdetrConfig(PreTrainedConfig):
    """What an MDETR model is made of; the defaults are the paper's model with ResNet-101.

    Attributes:
        image_config: a ResNet or EfficientNet configuration, or the name of one in
            ``IMAGE_ENCODERS``.
        text_config: the configuration of a text encoder that ``AutoModel`` knows, or the name of
            one in ``TEXT_ENCODERS``.
        frozen_batch_norm: whether batch norm of the image encoder keeps the statistics and weights
            it was loaded with; False to train from scratch.
        frozen_first_layers: whether the stem and the first stage of a ResNet are not trained, as
            in DETR.
        hidden_size, num_attention_heads, encoder_layers, decoder_layers, feedforward_size,
            dropout: of the joint transformer. The size is a multiple of four, for positions, and
            of the number of attention heads.
        resizer_dropout: behind the projection of the text features.
        num_queries: how many objects an image can have at most.
        num_token_positions: outputs of the soft token head; the last means "no object". Always
            256, as many as token maps have columns; in the file so that one can read it there.
        contrastive_alignment: whether there are projections for that loss.
        contrastive_size: the size of these projections.
        predict_final: whether there is a head that tells the boxes which the whole caption refers
            to from those that it mentions (CLEVR-Ref+).
        answer_heads: name and number of answers of each head, in the order of the queries that are
            added to the object queries; only ``MdetrForQuestionAnswering`` has them. They are
            those of ``answer_losses``: ``total`` alone, or ``type`` with all that it tells apart,
            in any order. A sequence, because the keys of a configuration file are sorted.
        mlp_answer_heads: which of these are three layers instead of one.
        answers: of each head but ``type``, what its outputs stand for, in their order; None where
            that is not known. See ``answers.AnswerVocabulary``.
        mask_padding: whether the image encoder ignores the padding of images, so that outputs do
            not depend on what else is in a batch. The published models were trained without, and
            have their published outputs only without it.
        auxiliary_outputs: whether the predictions of all decoder layers are returned, and have
            losses, or only those of the last one.
        positions_at_input: whether positions are also added to the image tokens once, before the
            encoder. In DETR they are only added to the queries and keys of attention, so what a
            token carries does not tell where it is; a small model learns that late.
        token_weight, bbox_loss_coef, giou_loss_coef, contrastive_weight, final_weight, answer_weight:
            how the losses are added up.
        eos_coef: of queries without a box in the soft token loss.
        grid_loss_coef: of the same losses, all of them, on the cells of the encoder's memory: the cell
            that a box's center lies in is to name and to place it. 0, as published: none. It is
            only for training, where the model begins with random weights.
        word_loss_coef: of a loss on the cells of the image features, before any text is read: the cell
            that a box's center lies in is to tell of each token that there is whether it names the
            box. 0, as published: none. Image encoders with weights of ImageNet see colors; one
            from nothing does not, where most objects can be told by their shape.
        temperature: of the contrastive alignment loss.
        token_targets: "normalized" for the paper's distribution over the tokens of a box,
            "binary" for the 0/1 rows of the published training.
        token_cost, box_cost, giou_cost: weights of the matching.

    Raises:
        ValueError: an option has a value that no model can be built or trained with.
    """

    model_type = "mdetr"
    sub_configs_defaults = {
        "image_config": SubConfigSpec(AutoConfig, model_type="resnet"),
        "text_config": SubConfigSpec(AutoConfig, model_type="roberta"),
    }

    image_config: Any = None
    text_config: Any = None
    frozen_batch_norm: bool = True
    frozen_first_layers: bool = True
    hidden_size: int = 256
    num_attention_heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    feedforward_size: int = 2048
    dropout: float = 0.1
    resizer_dropout: float = 0.1
    num_queries: int = 100
    num_token_positions: int = COLUMNS
    contrastive_alignment: bool = True
    contrastive_size: int = 64
    predict_final: bool = False
    answer_heads: list[Any] | tuple[Any, ...] = ()
    mlp_answer_heads: list[str] | tuple[str, ...] = ("reg",)
    answers: dict[str, list[str]] | None = None
    mask_padding: bool = False
    auxiliary_outputs: bool = True
    positions_at_input: bool = False
    token_weight: float = 1.0
    bbox_loss_coef: float = 5.0
    giou_loss_coef: float = 2.0
    contrastive_weight: float = 1.0
    final_weight: float = 1.0
    answer_weight: float = 1.0
    eos_coef: float = 0.1
    grid_loss_coef: float = 0.0
    word_loss_coef: float = 0.0
    temperature: float = 0.07
    token_targets: str = "normalized"
    token_cost: float = 1.0
    box_cost: float = 5.0
    giou_cost: float = 2.0

    def __post_init__(self, **kwargs: Any) -> None:
        image, text = self.image_config or "resnet101", self.text_config or "roberta-base"
        self.image_config = image_config_of(image) if isinstance(image, str) else image
        self.text_config = text_config_of(text) if isinstance(text, str) else text
        self.answer_heads = [[name, answers] for name, answers in self.answer_heads]
        self.mlp_answer_heads = list(self.mlp_answer_heads)
        if self.num_token_positions != COLUMNS:
            raise ValueError(
                f"num_token_positions is {self.num_token_positions}; token maps and processors "
                f"have {COLUMNS} positions"
            )
        for name in ("hidden_size", "num_attention_heads", "decoder_layers", "num_queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be at least 1")
        if self.hidden_size % 4 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}, with {self.num_attention_heads} attention "
                "heads; it has to be a multiple of 4 and of the number of heads"
            )
        _check_answer_heads(self.answer_heads)
        if self.answers is not None:
            heads = AnswerVocabulary({head: tuple(of) for head, of in self.answers.items()}).heads
            if sorted(heads) != sorted(self.answer_heads):
                raise ValueError(f"answers are for the heads {heads}, not {self.answer_heads}")
        if self.token_targets not in TOKEN_TARGETS:
            known = " or ".join(map(repr, TOKEN_TARGETS))
            raise ValueError(f"token_targets is {self.token_targets!r}; it has to be {known}")
        super().__post_init__(**kwargs)


def _check_answer_heads(heads: list[list[Any]]) -> None:
    sets = (("total",), ("type", *CLEVR_TYPES), ("type", *GQA_TYPES))
    names = sorted(name for name, _ in heads)
    if names and names not in map(sorted, sets):
        known = "; or ".join(map(", ".join, sets))
        raise ValueError(f"answer_heads are {', '.join(names)}; they have to be {known}")
    for name, answers in heads:
        if name == "type" and answers != len(heads) - 1:
            raise ValueError(
                f"the answer head type has {answers} answers for {len(heads) - 1} types"
            )
        if name == "binary" and answers != 1:
            raise ValueError(f"the answer head binary has {answers} outputs instead of 1")


def image_config_of(name: str) -> PreTrainedConfig:
    """The configuration of an image encoder of ``IMAGE_ENCODERS``.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in IMAGE_ENCODERS:
        raise ValueError(f"no image encoder is called {name!r}; {', '.join(IMAGE_ENCODERS)} are")
    return AutoConfig.for_model(**IMAGE_ENCODERS[name])


def text_config_of(name: str) -> PreTrainedConfig:
    """The configuration of a text encoder of ``TEXT_ENCODERS``.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in TEXT_ENCODERS:
        raise ValueError(f"no text encoder is called {name!r}; {', '.join(TEXT_ENCODERS)} are")
    return AutoConfig.for_model(**TEXT_ENCODERS[name])


AutoConfig.register("mdetr", MdetrConfig)
