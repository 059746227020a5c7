"""Configuration of an MDETR model."""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .answer_types import answer_heads_for, check_answer_heads

_RESNET = {"model_type": "resnet"}
_BASIC = {**_RESNET, "layer_type": "basic", "hidden_sizes": [64, 128, 256, 512]}
# No block is dropped in training (stochastic depth), as in the published EfficientNets.
_EFFICIENTNET = {"model_type": "efficientnet", "drop_connect_rate": 0.0}
BACKBONES: dict[str, dict[str, Any]] = {
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
    # 512 positions, after two that RoBERTa reserves for padding.
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
    """Configuration of an MDETR model; the defaults are the paper's model with ResNet-101.

    Attributes:
        backbone_config: a ResNet or EfficientNet configuration, or a name in ``BACKBONES``. The
            ``drop_connect_rate`` of an EfficientNet is not used: published training drops nothing,
            and transformers would drop single values instead of blocks.
        text_config: configuration of a text encoder that ``AutoModel`` knows, or a name in
            ``TEXT_ENCODERS``.
        frozen_batch_norm: whether batch norm of the image encoder keeps the statistics and weights
            that it was loaded with; False to train from scratch.
        frozen_first_layers: whether the stem and the first stage of a ResNet are not trained, as
            in DETR.
        hidden_size: channels of the joint transformer; a multiple of four, for the position
            encoding, and of ``num_attention_heads``.
        num_attention_heads, encoder_layers, decoder_layers, encoder_ffn_dim, decoder_ffn_dim,
            dropout: of the joint transformer.
        resizer_dropout: dropout after the projection of the text features.
        num_queries: the largest number of objects that can be predicted for an image.
        contrastive_align_loss: whether there are projections for the contrastive alignment loss.
        projection_dim: channels of these projections.
        predict_final: whether a head distinguishes the boxes that the whole caption refers to from
            those that it only mentions (CLEVR-Ref+).
        answer_heads: name and number of outputs of each answer head, in the order of their queries;
            only ``MdetrForQuestionAnswering`` has them. Either ``total`` alone, or ``type`` with
            all heads that it chooses from, in any order (see ``answer_types.py``). A list, because
            the keys of a configuration file are sorted.
        mlp_answer_heads: which of these have three layers instead of one.
        answers: for each head but ``type``, the answers that its outputs stand for, in order; None
            if they are not known.
        mask_padding: whether the image encoder ignores the padding of images, so that outputs do
            not depend on the rest of the batch. The published models were trained without, and
            reproduce their published outputs only without.
        auxiliary_loss: whether the predictions of all decoder layers are returned and have
            losses, or only those of the last one.
        positions_at_input: whether the position encoding is also added to the image tokens once, at
            the input of the encoder. DETR adds it to queries and keys only, so the values that
            attention mixes do not contain positions, and a small model learns to localize late.
        identity_init: whether a joint transformer with random weights starts near the identity (see
            ``start_near_identity``), and projections and heads with larger weights, instead of as
            published. For training from random weights.
        ce_loss_coef, bbox_loss_coef, giou_loss_coef, contrastive_align_loss_coef,
            isfinal_loss_coef, qa_loss_coef: weights of the losses. Published training on GQA has a
            ``qa_loss_coef`` of 25.
        eos_coef: weight of queries without a box in the soft token loss.
        grid_loss_coef: weight of the same losses on the locations of the feature grid: the
            encoder's output at the center of a box predicts the box and its tokens, with the heads
            of the queries. It is what the queries attend to, without position encodings, so boxes
            are predicted from it only with ``positions_at_input``. 0, as published: none. For
            training from random weights.
        word_loss_coef: weight of a loss on the image features before the encoder: those at the
            center of a box predict which tokens of the vocabulary name the box. 0, as published:
            none. ImageNet weights distinguish colors; an image encoder trained from scratch does
            not as long as shapes suffice to distinguish most objects.
        temperature_nce: temperature of the contrastive alignment loss.
        token_targets: "normalized" for the paper's distribution over the tokens of a box,
            "binary" for the 0/1 rows of the published training.
        class_cost, bbox_cost, giou_cost: weights of the matching costs.

    Raises:
        ValueError: an option has a value that no model can be built or trained with.
    """

    model_type = "mdetr"
    # Outputs that have no row for each caption, or rows whose sizes differ between batches.
    keys_to_ignore_at_inference = [
        "loss_dict",
        *(f"layer_{name}" for name in ("logits", "pred_boxes", "proj_queries", "is_final")),
        *(f"grid_{name}" for name in ("logits", "pred_boxes", "proj_queries", "is_final")),
        "grid_features",
        "grid_mask",
        *(
            f"{part}_{states}"
            for part in ("encoder", "decoder")
            for states in ("hidden_states", "attentions")
        ),
        "cross_attentions",
    ]
    sub_configs_defaults = {
        "backbone_config": SubConfigSpec(AutoConfig, model_type="resnet"),
        "text_config": SubConfigSpec(AutoConfig, model_type="roberta"),
    }

    backbone_config: Any = None
    text_config: Any = None
    frozen_batch_norm: bool = True
    frozen_first_layers: bool = True
    hidden_size: int = 256
    num_attention_heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    encoder_ffn_dim: int = 2048
    decoder_ffn_dim: int = 2048
    dropout: float = 0.1
    resizer_dropout: float = 0.1
    num_queries: int = 100
    contrastive_align_loss: bool = True
    projection_dim: int = 64
    predict_final: bool = False
    answer_heads: list[Any] | tuple[Any, ...] = ()
    mlp_answer_heads: list[str] | tuple[str, ...] = ("reg",)
    answers: dict[str, list[str]] | None = None
    mask_padding: bool = False
    auxiliary_loss: bool = True
    positions_at_input: bool = False
    identity_init: bool = False
    ce_loss_coef: float = 1.0
    bbox_loss_coef: float = 5.0
    giou_loss_coef: float = 2.0
    contrastive_align_loss_coef: float = 1.0
    isfinal_loss_coef: float = 1.0
    qa_loss_coef: float = 1.0
    eos_coef: float = 0.1
    grid_loss_coef: float = 0.0
    word_loss_coef: float = 0.0
    temperature_nce: float = 0.07
    token_targets: str = "normalized"
    class_cost: float = 1.0
    bbox_cost: float = 5.0
    giou_cost: float = 2.0

    def __post_init__(self, **kwargs: Any) -> None:
        # Unknown fields become attributes that nothing reads.
        if "image_config" in kwargs:
            raise ValueError(
                "image_config is a field of version 0.1.0, whose models cannot be loaded: convert "
                "the published checkpoint again, or train again"
            )
        self.backbone_config = self.backbone_config or "resnet101"
        if isinstance(self.backbone_config, str):
            self.backbone_config = backbone_config_for(self.backbone_config)
        self.text_config = self.text_config or "roberta-base"
        if isinstance(self.text_config, str):
            self.text_config = text_config_for(self.text_config)
        self.answer_heads = [[name, outputs] for name, outputs in self.answer_heads]
        self.mlp_answer_heads = list(self.mlp_answer_heads)
        for name in ("hidden_size", "num_attention_heads", "decoder_layers", "num_queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be at least 1")
        if self.hidden_size % 4 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}, with {self.num_attention_heads} attention "
                "heads; it has to be a multiple of 4 and of the number of heads"
            )
        check_answer_heads(self.answer_heads)
        if self.answers is not None:
            heads = answer_heads_for(self.answers)
            if sorted(heads) != sorted(self.answer_heads):
                raise ValueError(f"answers are for the heads {heads}, not {self.answer_heads}")
        if self.token_targets not in TOKEN_TARGETS:
            known = " or ".join(map(repr, TOKEN_TARGETS))
            raise ValueError(f"token_targets is {self.token_targets!r}; it has to be {known}")
        super().__post_init__(**kwargs)


def backbone_config_for(name: str) -> PreTrainedConfig:
    """Returns the configuration of an image encoder of ``BACKBONES``.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}; expected one of {', '.join(BACKBONES)}")
    return AutoConfig.for_model(**BACKBONES[name])


def text_config_for(name: str) -> PreTrainedConfig:
    """Returns the configuration of a text encoder of ``TEXT_ENCODERS``.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in TEXT_ENCODERS:
        raise ValueError(
            f"unknown text encoder {name!r}; expected one of {', '.join(TEXT_ENCODERS)}"
        )
    return AutoConfig.for_model(**TEXT_ENCODERS[name])


AutoConfig.register("mdetr", MdetrConfig)
