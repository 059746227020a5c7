"""The model that training begins with, and the processor that goes with it."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from mdetr_model.data.answers import AnswerVocabulary
from mdetr_model.modeling.backbone import ResNetEncoder
from mdetr_model.modeling.configuration_mdetr import MdetrConfig
from mdetr_model.modeling.image_processing_mdetr import MdetrImageProcessor
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding, MdetrForQuestionAnswering
from mdetr_model.modeling.processing_mdetr import MdetrProcessor
from mdetr_model.training.config import Start, View


def init_model(
    start: Start,
    view: View,
    tokenizer: PreTrainedTokenizerBase | None,
    answers: AnswerVocabulary | None = None,
) -> tuple[MdetrForGrounding, MdetrProcessor]:
    """The model and its processor; weights are float32, whatever they were stored as.

    Heads for answers that the model of ``start.folder`` does not have begin with random weights.

    Args:
        start: what it is made of.
        view: how the processor will see images.
        tokenizer: one that was trained for this model, where ``start`` asks for that.
        answers: those that it is to give, where ``start`` asks for that.

    Raises:
        ValueError: the parts do not fit together, the model has heads for answers that are not
            known or for others, or it tells what is final, which no labels of pairs do.
        OSError: a folder or hub model cannot be read.
    """
    size = {"shortest_edge": view.shortest, "longest_edge": view.longest}
    of_answers: dict[str, Any] = {}
    if answers is not None:
        of_answers = {"answer_heads": answers.heads, "answers": answers.names}
    if start.folder is not None:
        _check_answers(MdetrConfig.from_pretrained(start.folder), answers)
        config = MdetrConfig.from_pretrained(start.folder, **start.config, **of_answers)
        processor = MdetrProcessor.from_pretrained(start.folder)
        processor.image_processor.size = size
        kind = _kind(config)
        return kind.from_pretrained(start.folder, config=config, dtype=torch.float32), processor

    if tokenizer is None:
        tokenizer = AutoTokenizer.from_pretrained(start.tokenizer or start.text_weights)
    config = _config(start, tokenizer, of_answers)
    model = _kind(config)(config)
    if start.image_weights is not None:
        weights = AutoModel.from_pretrained(start.image_weights, dtype=torch.float32)
        load_image_weights(model.mdetr.image_encoder, weights)
    if start.text_weights is not None:
        text_encoder = AutoModel.from_pretrained(start.text_weights, dtype=torch.float32)
        text_encoder.pooler = None
        model.mdetr.text_encoder = text_encoder
    return model, MdetrProcessor(MdetrImageProcessor(size=size), tokenizer)


def _check_answers(config: MdetrConfig, answers: AnswerVocabulary | None) -> None:
    """A model that answers keeps its heads, and what they stand for if that is known."""
    if answers is None or not config.answer_heads:
        return
    known = config.answers is None or config.answers == answers.names
    if config.answer_heads != answers.heads or not known:
        raise ValueError(
            "the model that it starts from gives other answers; without start.answers it keeps them"
        )


def _kind(config: MdetrConfig) -> type[MdetrForGrounding]:
    """What can be trained with labels of pairs."""
    if config.predict_final:
        raise ValueError("a model with predict_final cannot be trained on pairs")
    if config.answer_heads and config.answers is None:
        raise ValueError(
            "it is not known what the model's answer heads stand for: start needs answers"
        )
    return MdetrForQuestionAnswering if config.answer_heads else MdetrForGrounding


def _config(
    start: Start, tokenizer: PreTrainedTokenizerBase, of_answers: dict[str, Any]
) -> MdetrConfig:
    fields: dict[str, Any] = {**start.config, **of_answers}
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
