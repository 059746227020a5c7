"""The model that training begins with, and the processor that goes with it."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from mdetr_model.backbone import ResNetEncoder
from mdetr_model.configuration import MdetrConfig
from mdetr_model.image_processing import MdetrImageProcessor
from mdetr_model.modeling import MdetrForGrounding
from mdetr_model.processing import MdetrProcessor
from mdetr_model.training_config import Start, View


def starting_model(
    start: Start, view: View, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[MdetrForGrounding, MdetrProcessor]:
    """The model and its processor; weights are float32, whatever they were stored as.

    Args:
        start: what it is made of.
        view: how the processor will see pictures.
        tokenizer: one that was trained for this model, where ``start`` asks for that.

    Raises:
        ValueError: the parts do not fit together, or the model answers questions or tells what is
            final, which cannot be trained on pairs yet.
        OSError: a folder or hub model cannot be read.
    """
    size = {"shortest_edge": view.shortest, "longest_edge": view.longest}
    if start.folder is not None:
        config = MdetrConfig.from_pretrained(start.folder, **start.config)
        _refuse_what_has_no_labels(config)
        processor = MdetrProcessor.from_pretrained(start.folder)
        processor.image_processor.size = size
        model = MdetrForGrounding.from_pretrained(start.folder, config=config, dtype=torch.float32)
        return model, processor

    if tokenizer is None:
        tokenizer = AutoTokenizer.from_pretrained(start.tokenizer or start.text_weights)
    config = _config(start, tokenizer)
    _refuse_what_has_no_labels(config)
    model = MdetrForGrounding(config)
    if start.image_weights is not None:
        weights = AutoModel.from_pretrained(start.image_weights, dtype=torch.float32)
        load_image_weights(model.mdetr.image_encoder, weights)
    if start.text_weights is not None:
        text_encoder = AutoModel.from_pretrained(start.text_weights, dtype=torch.float32)
        text_encoder.pooler = None
        model.mdetr.text_encoder = text_encoder
    return model, MdetrProcessor(MdetrImageProcessor(size=size), tokenizer)


def _refuse_what_has_no_labels(config: MdetrConfig) -> None:
    if config.answer_heads or config.predict_final:
        raise ValueError("models with answer_heads or predict_final cannot be trained on pairs")


def _config(start: Start, tokenizer: PreTrainedTokenizerBase) -> MdetrConfig:
    fields: dict[str, Any] = dict(start.config)
    parts = {"image_config": start.image_weights, "text_config": start.text_weights}
    for part, weights in parts.items():
        if weights is not None:
            fields[part] = AutoConfig.from_pretrained(weights)
        elif isinstance(fields.get(part), dict):
            fields[part] = AutoConfig.for_model(**fields[part])
    config = MdetrConfig(**fields)
    if start.text_weights is None:
        config.text_config.vocab_size = len(tokenizer)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            setattr(config.text_config, name, getattr(tokenizer, name))
    elif config.text_config.vocab_size < len(tokenizer):
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens, the text encoder {start.text_weights} "
            f"only {config.text_config.vocab_size}"
        )
    return config


def load_image_weights(encoder: Any, source: Any) -> None:
    """Puts the weights of a ResNet or EfficientNet of transformers into an image encoder.

    Raises:
        ValueError: the two are not of the same make.
    """
    names = {
        name: f"backbone.{name}"
        if isinstance(encoder, ResNetEncoder)
        else name.replace("embeddings.", "stem.", 1).replace("encoder.", "", 1)
        for name in source.state_dict()
    }
    state = {names[name]: value for name, value in source.state_dict().items()}
    wanted = encoder.state_dict()
    missing = [
        name for name in wanted if name not in state or state[name].shape != wanted[name].shape
    ]
    if missing:
        raise ValueError(
            f"{source.name_or_path} does not fit the image encoder: {', '.join(missing[:4])}"
        )
    encoder.load_state_dict({name: state[name] for name in wanted})
