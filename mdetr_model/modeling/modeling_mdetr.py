"""MDETR as transformers models (arXiv 2104.12763, section 2.2 and figure 2).

Shapes: B images with their captions, T tokens, Q object queries, L decoder layers, D channels.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import LongTensor, Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForVisualQuestionAnswering,
    AutoModelForZeroShotObjectDetection,
    PreTrainedModel,
    initialization,
)
from transformers.utils.generic import can_return_tuple

from mdetr_model.modeling.backbone import (
    FrozenBatchNorm2d,
    ResNetEncoder,
    image_encoder,
    initialize,
)
from mdetr_model.modeling.configuration_mdetr import MdetrConfig
from mdetr_model.modeling.grid import WordHead, mask_of_cells, pad_to_stride
from mdetr_model.modeling.heads import AlignmentHeads, AnswerHeads, FeatureResizer, ObjectHeads
from mdetr_model.modeling.outputs import MdetrModelOutput, MdetrOutput
from mdetr_model.modeling.position_encoding import sine_positions
from mdetr_model.modeling.transformer import Decoder, Encoder


class MdetrPreTrainedModel(PreTrainedModel):
    """Loading, saving and initial weights.

    With ``return_dict=False``, in the call or in the configuration, the models return the values of
    their outputs as a tuple, without those that are None.
    """

    config: MdetrConfig
    config_class = MdetrConfig
    base_model_prefix = "mdetr"
    main_input_name = "pixel_values"
    input_modalities = ["image", "text"]
    _supports_sdpa = True

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; what is not to be trained is frozen again, which loading undoes."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        for module in model.modules():
            if isinstance(module, ResNetEncoder):
                module.freeze_first_layers()
        return loaded

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Xavier for all that is linear, not only in the transformer as in DETR; normal queries.

        Text encoders and ResNets do it themselves, as models of transformers, and
        ``EfficientNetEncoder`` does.
        """
        match module:
            case nn.Linear():
                initialization.xavier_uniform_(module.weight)
            case nn.Conv2d() | nn.BatchNorm2d() | FrozenBatchNorm2d():
                initialize(module)
            case nn.Embedding():
                initialization.normal_(module.weight)
            case nn.LayerNorm():
                initialization.ones_(module.weight)
            case WordHead():  # most of all tokens name nothing in a cell
                initialization.constant_(module.bias, -math.log(len(module.bias)))
                return
        if isinstance(bias := getattr(module, "bias", None), Tensor):
            initialization.zeros_(bias)


class MdetrModel(MdetrPreTrainedModel):
    """From an image and a caption to what the decoder says about each query."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__(config)
        self.image_encoder = image_encoder(
            config.image_config, config.frozen_batch_norm, config.frozen_first_layers
        )
        self.image_projection = nn.Conv2d(self.image_encoder.channels, config.hidden_size, 1)
        self.text_encoder = AutoModel.from_config(config.text_config)
        # Nothing reads the pooled text; its weights would be parameters without a gradient.
        self.text_encoder.pooler = None
        self.text_projection = FeatureResizer(config)
        self.queries = nn.Embedding(config.num_queries, config.hidden_size)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.post_init()
        # Queries start from zero. A bias of zero would leave zeros for the first layer norm, whose
        # gradient is then 300 times that of the rest. ``_init_weights`` cannot tell it from others.
        initialization.normal_(self.decoder.get_parameter("layers.0.self_attention.output.bias"))

    def get_input_embeddings(self) -> nn.Module:
        """The token embeddings of the text encoder."""
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces them, as ``resize_token_embeddings`` does."""
        self.text_encoder.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        input_ids: LongTensor,
        pixel_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        extra_queries: Tensor | None = None,
        image_index: LongTensor | None = None,
    ) -> MdetrModelOutput:
        """Everything up to the heads.

        Args:
            pixel_values: (B, 3, H, W), normalized, padded on the right and at the bottom.
            input_ids: (B, T).
            pixel_mask: (B, H, W), 1 on the image and 0 on its padding; default: no padding.
            attention_mask: (B, T), 1 for tokens and 0 for padding; default: no padding.
            extra_queries: (N, D), decoded behind the object queries.
            image_index: (B,), which of the images each caption is about: there may be fewer
                images than captions, and each is encoded once. Default: one each.

        Raises:
            ValueError: the numbers of images, captions and ``image_index`` do not fit.
        """
        _check_images(pixel_values, input_ids, image_index)
        image, image_mask = self.encode_images(pixel_values, pixel_mask)
        if image_index is not None:
            image, image_mask = image[image_index], image_mask[image_index]
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        text = self.encode_captions(input_ids, attention_mask)
        return self.join(image, image_mask, text, attention_mask, extra_queries)

    def encode_images(
        self, pixel_values: Tensor, pixel_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Images before they meet a caption; the arguments are those of ``forward``.

        Returns:
            Their cells (B, H·W, D), and which of these (B, H, W) are on the image.
        """
        encoder_mask = None
        if self.config.mask_padding:
            cell = self.image_encoder.stride
            pixel_values, pixel_mask = pad_to_stride(pixel_values, pixel_mask, cell)
            encoder_mask = pixel_mask[:, None].to(pixel_values.dtype)
        features = self.image_encoder(pixel_values, encoder_mask)
        image = self.image_projection(features).flatten(2).transpose(1, 2)
        return image, mask_of_cells(pixel_mask, features)

    def encode_captions(self, input_ids: LongTensor, attention_mask: Tensor) -> Tensor:
        """Captions before they meet an image: their tokens (B, T, D)."""
        encoded = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask)
        return self.text_projection(encoded.last_hidden_state)

    def join(
        self,
        image: Tensor,
        image_mask: Tensor,
        text: Tensor,
        attention_mask: Tensor,
        extra_queries: Tensor | None = None,
    ) -> MdetrModelOutput:
        """The joint transformer, on encoded images and captions, one each."""
        image_features = image
        positions = sine_positions(image_mask, self.config.hidden_size).to(image.dtype)
        if self.config.positions_at_input:
            image = image + positions

        joint = torch.cat([image, text], dim=1)
        mask = torch.cat([image_mask.flatten(1), attention_mask.bool()], dim=1)[:, None, None]
        # The text encoder has placed its tokens already.
        cells = image.shape[1]
        positions = F.pad(positions, (0, 0, 0, text.shape[1]))
        memory = self.encoder(joint, positions, mask)

        queries = self.queries.weight
        if extra_queries is not None:
            queries = torch.cat([queries, extra_queries])
        layers = self.decoder(queries, memory, positions, mask)
        return MdetrModelOutput(
            last_hidden_state=layers[-1],
            layer_hidden_states=layers,
            text_memory=memory[:, cells:],
            image_memory=memory[:, :cells] + positions[:, :cells],
            image_features=image_features,
            image_mask=image_mask,
        )


class MdetrForGrounding(MdetrPreTrainedModel):
    """MDETR as a detector that is told by a caption what to find."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__(config)
        self.mdetr = MdetrModel(config)
        self.object_heads = ObjectHeads(config)
        self.alignment_heads = AlignmentHeads(config) if config.contrastive_alignment else None
        self.word_head = WordHead(config) if config.word_loss_coef else None
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        input_ids: LongTensor,
        pixel_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Mapping[str, Any] | None = None,
        image_index: LongTensor | None = None,
    ) -> MdetrOutput:
        """Objects of the image that the caption speaks of, as ``MdetrModel`` takes them.

        ``labels`` are what ``losses.MdetrCriterion`` takes; with them there are losses.

        Raises:
            ValueError: as in ``MdetrModel``, or labels are missing or not for as many captions.
        """
        decoded = self.mdetr(
            pixel_values,
            input_ids,
            pixel_mask,
            attention_mask,
            image_index=image_index,
            return_dict=True,
        )
        found = self._objects(decoded.layer_hidden_states, decoded.text_memory)
        if labels is not None:
            found |= self._cells(decoded)
        return self._with_losses(MdetrOutput(**found, input_ids=input_ids), labels)

    def _objects(self, layers: Tensor, text_memory: Tensor) -> dict[str, Any]:
        """Predictions for decoded queries (L, B, Q, D), by their names in ``MdetrOutput``."""
        if not self.config.auxiliary_outputs:
            layers = layers[-1:]
        logits, boxes, final = self.object_heads(layers)
        by_layer = {"logits": logits, "pred_boxes": boxes}
        if final is not None:
            by_layer["is_final"] = final
        found = {}
        if self.alignment_heads is not None:
            by_layer["proj_queries"], found["proj_tokens"] = self.alignment_heads(
                layers, text_memory
            )
        found |= {name: values[-1] for name, values in by_layer.items()}
        if self.config.auxiliary_outputs:
            found |= {f"layer_{name}": values for name, values in by_layer.items()}
        return found

    def _cells(self, decoded: MdetrModelOutput) -> dict[str, Any]:
        """What is said of cells, where that is trained: of the encoder's, and before it."""
        found: dict[str, Any] = {}
        if self.config.grid_loss_coef:
            names = ("cell_logits", "cell_pred_boxes", "cell_is_final")
            cells = decoded.image_memory
            found |= zip(names, self.object_heads(cells), strict=True)
            if self.alignment_heads is not None:
                found["cell_proj_queries"], _ = self.alignment_heads(cells, decoded.text_memory)
        if self.word_head is not None:
            found["cell_features"] = decoded.image_features
        return {**found, "cell_mask": decoded.image_mask} if found else {}

    def _with_losses(self, outputs: MdetrOutput, labels: Mapping[str, Any] | None) -> MdetrOutput:
        if labels is None:
            return outputs
        losses = self._losses(outputs, labels)
        return MdetrOutput(loss=losses.pop("loss"), loss_dict=losses, **outputs)

    # The assignment is made on the host, which no graph can hold; tracing what surrounds it takes
    # minutes and gains nothing.
    @torch.compiler.disable
    def _losses(self, outputs: MdetrOutput, labels: Mapping[str, Any]) -> dict[str, Tensor]:
        # Matching needs scipy, which inference does not.
        from mdetr_model.modeling.losses import MdetrCriterion, criterion_options

        _check_batch(labels, len(outputs["logits"]))
        criterion = MdetrCriterion(criterion_options(self.config), self.word_head)
        return criterion(outputs, labels)


class MdetrForQuestionAnswering(MdetrForGrounding):
    """MDETR with answer queries: it answers the question and finds what the question speaks of.

    Raises:
        ValueError: the configuration has no answer heads.
    """

    def __init__(self, config: MdetrConfig) -> None:
        if not config.answer_heads:
            raise ValueError("a model for question answering needs answer_heads")
        super().__init__(config)
        self.answer_queries = nn.Embedding(len(config.answer_heads), config.hidden_size)
        self.answer_heads = AnswerHeads(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        input_ids: LongTensor,
        pixel_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Mapping[str, Any] | None = None,
        image_index: LongTensor | None = None,
    ) -> MdetrOutput:
        """Answers to the questions, and the objects that they speak of; see the base class."""
        decoded = self.mdetr(
            pixel_values,
            input_ids,
            pixel_mask,
            attention_mask,
            self.answer_queries.weight,
            image_index,
            return_dict=True,
        )
        objects, answers = decoded.layer_hidden_states.split(
            [self.config.num_queries, len(self.config.answer_heads)], dim=2
        )
        found = self._objects(objects, decoded.text_memory)
        if labels is not None:
            found |= self._cells(decoded)
        # The published models read answers off the first decoder layer, not off the last one.
        given = self.answer_heads(answers[0])
        outputs = MdetrOutput(**found, answers=given, input_ids=input_ids)
        return self._with_losses(outputs, labels)


def _check_images(pixels: Tensor, input_ids: Tensor, image_index: Tensor | None) -> None:
    """Only by their shapes: to look at values would break the graph in two."""
    images, captions = pixels.shape[0], input_ids.shape[0]
    if image_index is None and images != captions:
        raise ValueError(f"{images} images and {captions} captions, without image_index")
    if image_index is not None and image_index.shape != (captions,):
        raise ValueError(
            f"image_index of shape {tuple(image_index.shape)}, for {captions} captions"
        )


def _check_batch(labels: Mapping[str, Any], captions: int) -> None:
    """That they are for as many captions; whether any are missing the losses say."""
    by_caption = {
        name: labels.get(name) for name in ("boxes", "box_mask", "positive_map", "is_final")
    }
    by_caption |= labels.get("answers") or {}
    for name, values in by_caption.items():
        if values is not None and len(values) != captions:
            raise ValueError(f"labels: {name} for {len(values)} captions instead of {captions}")


AutoModel.register(MdetrConfig, MdetrModel)
AutoModelForZeroShotObjectDetection.register(MdetrConfig, MdetrForGrounding)
AutoModelForVisualQuestionAnswering.register(MdetrConfig, MdetrForQuestionAnswering)
