"""MDETR as transformers models (arXiv 2104.12763, section 2.2 and figure 2).

Shapes: B images with their captions, T tokens, Q object queries, L decoder layers, D channels,
H x W locations of the feature grid.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
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

from .backbone import (
    EfficientNetEncoder,
    FrozenBatchNorm2d,
    ResNetEncoder,
    downsampled_mask,
    fold_frozen_batch_norms,
    image_encoder,
    initialize,
    pad_to_stride,
)
from .configuration_mdetr import MdetrConfig
from .criterion import MdetrCriterion
from .heads import AlignmentHeads, AnswerHeads, ObjectHeads, WordHead
from .model_card import TEMPLATE_MARK, model_card
from .outputs import MdetrModelOutput, MdetrOutput
from .position_encoding import sine_positions
from .transformer import (
    MdetrDecoder,
    MdetrEncoder,
    start_as_published,
    start_near_identity,
)


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
    _is_folded = False
    supports_gradient_checkpointing = True
    # Residual connections stay on one device.
    _no_split_modules = [
        "MdetrEncoderLayer",
        "MdetrDecoderLayer",
        "ResNetBasicLayer",
        "ResNetBottleNeckLayer",
        "EfficientNetBlock",
    ]
    # Losses are normalized by boxes, not by what the Trainer counts as items of a batch.
    accepts_loss_kwargs = False

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Loads as in transformers, and freezes again what loading makes trainable."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        for module in model.modules():
            if isinstance(module, ResNetEncoder):
                module.freeze_first_layers()
        return loaded

    def set_attn_implementation(
        self, attn_implementation: str | dict[str, Any], allow_all_kernels: bool = False
    ) -> None:
        """Sets the function of all attention; image encoders have none."""
        if isinstance(attn_implementation, str):
            attn_implementation = {"": attn_implementation, "text_config": attn_implementation}
        super().set_attn_implementation(attn_implementation, allow_all_kernels)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Resizes the token embeddings, and all else that has the size of the vocabulary."""
        embeddings = super().resize_token_embeddings(*args, **kwargs)
        self.match_vocabulary()
        return embeddings

    def fold_frozen_batch_norms(self) -> None:
        """Moves frozen batch norms into the convolutions before them, for faster inference.

        The outputs stay the same. The model can be neither trained nor saved afterwards, because
        its weights are no longer those of the configuration.
        """
        self.eval()
        for module in self.modules():
            if isinstance(module, ResNetEncoder | EfficientNetEncoder):
                fold_frozen_batch_norms(module)
        self._is_folded = True

    def train(self, mode: bool = True) -> Any:
        """Sets the mode as in torch.

        Raises:
            ValueError: batch norms are folded, and the mode is that of training.
        """
        if mode and self._is_folded:
            raise ValueError("a model with folded batch norms cannot be trained; load it again")
        return super().train(mode)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Saves as in transformers, with one size of the vocabulary.

        The text encoder may have been resized or replaced by itself.

        Raises:
            ValueError: batch norms are folded.
        """
        if self._is_folded:
            raise ValueError("a model with folded batch norms cannot be saved; load it again")
        self.match_vocabulary()
        super().save_pretrained(*args, **kwargs)

    def push_to_hub(  # type: ignore[override]  # the base class names all the options
        self,
        repo_id: str,
        *,
        metrics: Mapping[str, Any] | None = None,
        datasets: Sequence[str] = (),
        **kwargs: Any,
    ) -> str:
        """Uploads the model with a card: see ``model_card``.

        The card of a repository that has one is replaced if metrics or datasets are stated.
        """
        self._card_content = {"metrics": metrics, "datasets": datasets}
        try:
            return super().push_to_hub(repo_id, **kwargs)  # type: ignore[arg-type]  # wrapped without its signature
        finally:
            del self._card_content

    def _upload_modified_files(
        self, working_dir: Any, repo_id: str, *args: Any, **kwargs: Any
    ) -> Any:
        """Uploads a saved folder, with the model's card instead of transformers' template."""
        content = getattr(self, "_card_content", {})
        path = Path(working_dir, "README.md")
        if any(content.values()) or TEMPLATE_MARK in path.read_text(encoding="utf-8"):
            card = model_card(self.config, repo_id.rpartition("/")[2], **content)
            path.write_text(card, encoding="utf-8")
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    def match_vocabulary(self) -> None:
        """Gives the configuration and the heads the number of token embeddings."""
        vocab_size = int(self.get_input_embeddings().get_parameter("weight").shape[0])
        self.config.text_config.vocab_size = vocab_size
        for module in self.modules():
            if isinstance(module, WordHead) and len(module.bias) != vocab_size:
                module.resize(vocab_size)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initializes as published training does, unless ``identity_init`` says otherwise.

        That is torch's default for linear layers, and what ``start_as_published`` does; with
        ``identity_init``, Xavier's. Text encoders and ResNets initialize themselves, as models of
        transformers, and so does ``EfficientNetEncoder``.
        """
        match module:
            case nn.Linear() if self.config.identity_init:
                initialization.xavier_uniform_(module.weight)
            case nn.Linear():
                initialize_within_fan_in(module, module.in_features)
                return
            case nn.Conv2d() | nn.BatchNorm2d() | FrozenBatchNorm2d():
                initialize(module)
            case nn.Embedding():
                initialization.normal_(module.weight)
            case nn.LayerNorm():
                initialization.ones_(module.weight)
            case WordHead():
                initialization.constant_(module.bias, module.initial_bias)
                return
        if isinstance(bias := getattr(module, "bias", None), Tensor):
            initialization.zeros_(bias)


@torch.no_grad()
def initialize_within_fan_in(module: nn.Module, fan_in: int) -> None:
    """Draws weights and biases uniformly within the inverse square root of the fan-in.

    This is torch's default for linear layers and convolutions.
    """
    bound = 1 / math.sqrt(fan_in)
    for parameter in module.parameters(recurse=False):
        initialization.uniform_(parameter, -bound, bound)


class FeatureResizer(nn.Module):
    """Projects text features to the transformer's size: linear, layer norm, dropout."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.text_config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=1e-12)
        self.dropout = nn.Dropout(config.resizer_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, T, text size) to (B, T, D)."""
        return self.dropout(self.norm(self.linear(x)))


class MdetrModel(MdetrPreTrainedModel):
    """The model without heads: from images and captions to the decoder's output for each query."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__(config)
        self.image_encoder = image_encoder(
            config.backbone_config, config.frozen_batch_norm, config.frozen_first_layers
        )
        self.image_projection = nn.Conv2d(self.image_encoder.channels, config.hidden_size, 1)
        self.text_encoder = AutoModel.from_config(config.text_config)
        # The pooled output is not used; the pooler's weights would not get a gradient.
        self.text_encoder.pooler = None
        self.text_projection = FeatureResizer(config)
        self.queries = nn.Embedding(config.num_queries, config.hidden_size)
        self.encoder = MdetrEncoder(config)
        self.decoder = MdetrDecoder(config)
        self.post_init()
        # ``_init_weights`` gets modules without their names, so it cannot treat these differently.
        if config.identity_init:
            # Queries start from zero. With a bias of zero, as published, the input of the first
            # layer norm is zero, and its gradient 300 times that of other layers.
            bias = self.decoder.get_parameter("layers.0.self_attention.output.bias")
            initialization.normal_(bias)
            start_near_identity(self.encoder, self.decoder)
        else:
            initialize_within_fan_in(self.image_projection, self.image_projection.in_channels)
            start_as_published(self.encoder, self.decoder)

    def get_input_embeddings(self) -> nn.Module:
        """Returns the token embeddings of the text encoder."""
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the token embeddings, as ``resize_token_embeddings`` does."""
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
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MdetrModelOutput:
        """Encodes images and captions, jointly, and decodes the queries.

        Args:
            pixel_values: (B, 3, H, W), normalized, padded on the right and at the bottom.
            input_ids: (B, T).
            pixel_mask: (B, H, W), 1 on the image and 0 on its padding; default: no padding.
            attention_mask: (B, T), 1 for tokens and 0 for padding; default: no padding.
            extra_queries: (N, D), decoded after the object queries.
            image_index: (B,), the image of each caption: there may be fewer images than captions,
                and each is encoded once. Default: one image for each caption.
            output_attentions, output_hidden_states: whether the output has those of the joint
                transformer; default: as the configuration states.

        Raises:
            ValueError: the numbers of images, captions and ``image_index`` do not match.
        """
        _check_image_index(pixel_values, input_ids, image_index)
        image, grid_mask = self.encode_images(pixel_values, pixel_mask)
        if image_index is not None:
            image, grid_mask = image[image_index], grid_mask[image_index]
        text = self.encode_captions(input_ids, attention_mask)
        if attention_mask is None and pixel_mask is not None:
            attention_mask = torch.ones_like(input_ids)
        if output_attentions is None:
            output_attentions = bool(self.config.output_attentions)
        if output_hidden_states is None:
            output_hidden_states = bool(self.config.output_hidden_states)
        return self.fuse_and_decode(
            image,
            grid_mask,
            text,
            attention_mask,
            extra_queries,
            output_attentions,
            output_hidden_states,
        )

    def encode_images(
        self, pixel_values: Tensor, pixel_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encodes images without captions; the arguments are those of ``forward``.

        Returns:
            Features (B, H·W, D) of the grid locations, and the mask (B, H, W) of those that are on
            the image.
        """
        encoder_mask = None
        if self.config.mask_padding:
            stride = self.image_encoder.stride
            pixel_values, pixel_mask = pad_to_stride(pixel_values, pixel_mask, stride)
            encoder_mask = pixel_mask[:, None].to(pixel_values.dtype)
        features = self.image_encoder(pixel_values, encoder_mask)
        image = self.image_projection(features).flatten(2).transpose(1, 2)
        return image, downsampled_mask(pixel_mask, features)

    def encode_captions(
        self, input_ids: LongTensor, attention_mask: Tensor | None = None
    ) -> Tensor:
        """Encodes captions without images: returns features (B, T, D) of their tokens."""
        if attention_mask is not None and self.text_encoder.config._attn_implementation == "sdpa":
            # Of a mask (B, T), transformers reads whether all of it is 1, for which a GPU has to
            # finish the image encoder; a mask with four dimensions is used as it is.
            attention_mask = attention_mask.bool()[:, None, None]
        encoded = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask)
        return self.text_projection(encoded.last_hidden_state)

    def fuse_and_decode(
        self,
        image: Tensor,
        grid_mask: Tensor,
        text: Tensor,
        attention_mask: Tensor | None,
        extra_queries: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> MdetrModelOutput:
        """Runs the joint transformer on encoded images and captions, one image for each caption.

        Without ``attention_mask``, neither images nor captions have padding, and attention has no
        mask: then torch may choose the kernels that take none, which are the fastest.
        """
        image_features = image
        positions = sine_positions(grid_mask, self.config.hidden_size).to(image.dtype)
        if self.config.positions_at_input:
            image = image + positions

        joint = torch.cat([image, text], dim=1)
        mask = None
        if attention_mask is not None:
            mask = torch.cat([grid_mask.flatten(1), attention_mask.bool()], dim=1)[:, None, None]
        # The text encoder has added positions to its tokens already.
        locations = image.shape[1]
        positions = F.pad(positions, (0, 0, 0, text.shape[1]))
        encoded = self.encoder(joint, positions, mask, output_attentions, output_hidden_states)
        memory = encoded.memory

        queries = all_embeddings(self.queries, memory.device)
        if extra_queries is not None:
            queries = torch.cat([queries, extra_queries])
        decoded = self.decoder(
            queries, memory, positions, mask, output_attentions, output_hidden_states
        )
        return MdetrModelOutput(
            last_hidden_state=decoded.layers[-1],
            intermediate_hidden_states=decoded.layers,
            text_memory=memory[:, locations:],
            image_memory=memory[:, :locations],
            image_features=image_features,
            grid_mask=grid_mask,
            encoder_hidden_states=encoded.hidden_states,
            encoder_attentions=encoded.attentions,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
        )


def all_embeddings(embedding: nn.Embedding, device: torch.device) -> Tensor:
    """Returns all rows of an embedding.

    The module is called, so that its weights are where its hooks bring them: with offloading, they
    are not in memory before.
    """
    return embedding(torch.arange(embedding.num_embeddings, device=device))


class MdetrForGrounding(MdetrPreTrainedModel):
    """MDETR as a detector of the objects that a caption refers to."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__(config)
        self.mdetr = MdetrModel(config)
        self.object_heads = ObjectHeads(config)
        self.alignment_heads = AlignmentHeads(config) if config.contrastive_align_loss else None
        self.word_head = WordHead(config) if config.word_loss_coef else None
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        input_ids: LongTensor,
        pixel_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        image_index: LongTensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MdetrOutput:
        """Predicts the objects of the image that the caption refers to.

        Args:
            pixel_values, input_ids, pixel_mask, attention_mask, image_index, output_attentions,
                output_hidden_states: see ``MdetrModel``.
            labels: see ``MdetrCriterion``; if given, losses are computed. In training on several
                ranks, all of them have to compute losses together, because they sum their numbers
                of boxes; in evaluation mode, a rank may compute them alone.

        Raises:
            ValueError: as in ``MdetrModel``, or labels are missing or of another form.
        """
        decoded = self.mdetr(
            pixel_values,
            input_ids,
            pixel_mask,
            attention_mask,
            image_index=image_index,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        predictions = self._object_predictions(
            decoded.intermediate_hidden_states, decoded.text_memory
        )
        if labels is not None:
            predictions |= self._grid_predictions(decoded)
        predictions |= decoded.layer_states()
        return self._add_losses(MdetrOutput(**predictions, input_ids=input_ids), labels)

    def _object_predictions(self, layers: Tensor, text_memory: Tensor) -> dict[str, Any]:
        """Returns the predictions of decoded queries (L, B, Q, D) as fields of ``MdetrOutput``."""
        if not self.config.auxiliary_loss:
            layers = layers[-1:]
        logits, boxes, is_final = self.object_heads(layers)
        by_layer = {"logits": logits, "pred_boxes": boxes}
        if is_final is not None:
            by_layer["is_final"] = is_final
        predictions = {}
        if self.alignment_heads is not None:
            by_layer["proj_queries"], predictions["proj_tokens"] = self.alignment_heads(
                layers, text_memory
            )
        predictions |= {name: values[-1] for name, values in by_layer.items()}
        if self.config.auxiliary_loss:
            predictions |= {f"layer_{name}": values for name, values in by_layer.items()}
        return predictions

    def _grid_predictions(self, decoded: MdetrModelOutput) -> dict[str, Any]:
        """Returns the predictions at grid locations, if there are losses on them."""
        predictions: dict[str, Any] = {}
        if self.config.grid_loss_coef:
            names = ("grid_logits", "grid_pred_boxes", "grid_is_final")
            memory = decoded.image_memory
            predictions |= zip(names, self.object_heads(memory), strict=True)
            if self.alignment_heads is not None:
                predictions["grid_proj_queries"], _ = self.alignment_heads(
                    memory, decoded.text_memory
                )
        if self.word_head is not None:
            predictions["grid_features"] = decoded.image_features
        return {**predictions, "grid_mask": decoded.grid_mask} if predictions else {}

    def _add_losses(
        self, outputs: MdetrOutput, labels: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
    ) -> MdetrOutput:
        if labels is None:
            return outputs
        losses = self._losses(outputs, labels)
        return MdetrOutput(loss=losses.pop("loss"), loss_dict=losses, **outputs)

    # The assignment runs on the host, which a graph cannot contain; tracing the rest takes minutes
    # without a speed-up.
    @torch.compiler.disable
    def _losses(
        self, outputs: MdetrOutput, labels: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> dict[str, Tensor]:
        criterion = MdetrCriterion(self.config, self.word_head, all_ranks=self.training)
        return criterion(outputs, labels)


class MdetrForQuestionAnswering(MdetrForGrounding):
    """MDETR with answer queries: answers the question and finds the objects that it refers to.

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
        labels: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        image_index: LongTensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MdetrOutput:
        """Predicts answers to questions, and the objects that they refer to; see the base class."""
        decoded = self.mdetr(
            pixel_values,
            input_ids,
            pixel_mask,
            attention_mask,
            all_embeddings(self.answer_queries, input_ids.device),
            image_index,
            output_attentions,
            output_hidden_states,
            return_dict=True,
        )
        object_layers, answer_layers = decoded.intermediate_hidden_states.split(
            [self.config.num_queries, len(self.config.answer_heads)], dim=2
        )
        predictions = self._object_predictions(object_layers, decoded.text_memory)
        if labels is not None:
            predictions |= self._grid_predictions(decoded)
        predictions |= decoded.layer_states()
        # The published models predict answers from the first decoder layer, not from the last one.
        answers = self.answer_heads(answer_layers[0])
        outputs = MdetrOutput(**predictions, answers=answers, input_ids=input_ids)
        return self._add_losses(outputs, labels)


def _check_image_index(pixels: Tensor, input_ids: Tensor, image_index: Tensor | None) -> None:
    """Checks shapes only: reading values would break the graph of torch.compile."""
    images, captions = pixels.shape[0], input_ids.shape[0]
    if image_index is None and images != captions:
        raise ValueError(f"{images} images and {captions} captions, without image_index")
    if image_index is not None and image_index.shape != (captions,):
        raise ValueError(
            f"image_index of shape {tuple(image_index.shape)}, for {captions} captions"
        )


AutoModel.register(MdetrConfig, MdetrModel)
AutoModelForZeroShotObjectDetection.register(MdetrConfig, MdetrForGrounding)
AutoModelForVisualQuestionAnswering.register(MdetrConfig, MdetrForQuestionAnswering)
