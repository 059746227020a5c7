"""The initial model of a training run, with its processor."""

from collections.abc import Collection
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from mdetr_model.data.answers import AnswerVocabulary
from mdetr_model.data.transforms import EvalTransform
from mdetr_model.modeling.backbone import ResNetEncoder
from mdetr_model.modeling.configuration_mdetr import MdetrConfig
from mdetr_model.modeling.image_processing_mdetr import MdetrImageProcessor
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding, MdetrForQuestionAnswering
from mdetr_model.modeling.processing_mdetr import MdetrProcessor
from mdetr_model.pretrained_files import check_is_mdetr, pretrained_files
from mdetr_model.training.config import InitConfig
from shards.terminal import listed


def init_model(
    init: InitConfig,
    eval_transform: EvalTransform,
    tokenizer: PreTrainedTokenizerBase | None,
    answers: AnswerVocabulary | None = None,
) -> tuple[MdetrForGrounding, MdetrProcessor]:
    """Returns the initial model, always in float32, and its processor.

    Answer heads that the model of ``init.model`` lacks begin with random weights.

    Args:
        init: the model to load, or the parts to assemble.
        eval_transform: sizes of the processor's resize.
        tokenizer: the tokenizer that was trained for this run, if ``init`` asks for one.
        answers: the answer vocabulary, if ``init`` asks for one.

    Raises:
        ValueError: the parts are incompatible; the model has answer heads without a vocabulary or
            with another one; or it has ``predict_final``, for which pairs have no labels.
        OSError: a folder or hub model cannot be read.
    """
    size = {"shortest_edge": eval_transform.size, "longest_edge": eval_transform.max_size}
    if init.model is not None:
        with pretrained_files(init.model):
            check_is_mdetr(init.model)
            trained = MdetrConfig.from_pretrained(init.model)
            processor = MdetrProcessor.from_pretrained(init.model)
        _check_answers(trained, answers)
        config = MdetrConfig.from_pretrained(init.model, **init.config, **_answer_fields(answers))
        processor.image_processor.size = size
        model_class = model_class_of(config)
        with pretrained_files(init.model):
            model, info = model_class.from_pretrained(
                init.model, config=config, dtype=torch.float32, output_loading_info=True
            )
            _check_weights(trained, info["missing_keys"])
        return model, processor

    if tokenizer is None:
        tokenizer = AutoTokenizer.from_pretrained(init.tokenizer or init.text_weights)
    config = config_of(init, len(tokenizer), answers)
    _fit_tokenizer(config, init, tokenizer)
    model = model_class_of(config)(config)
    if init.backbone_weights is not None:
        with pretrained_files(init.backbone_weights):
            weights = AutoModel.from_pretrained(init.backbone_weights, dtype=torch.float32)
        load_backbone_weights(model.mdetr.image_encoder, weights)
    if init.text_weights is not None:
        with pretrained_files(init.text_weights):
            text_encoder = AutoModel.from_pretrained(init.text_weights, dtype=torch.float32)
        text_encoder.pooler = None
        model.mdetr.text_encoder = text_encoder
    return model, MdetrProcessor(MdetrImageProcessor(size=size), tokenizer)


def config_of(
    init: InitConfig, vocab_size: int, answers: AnswerVocabulary | None = None
) -> MdetrConfig:
    """Returns the configuration of the initial model, without reading weights.

    Args:
        init: the model to load, or the parts to assemble.
        vocab_size: of the text encoder, where it is not that of pre-trained weights.
        answers: the answer vocabulary, if it is known.

    Raises:
        OSError: a folder or hub model cannot be read.
        ValueError: it is damaged, or of another model.
    """
    fields = _answer_fields(answers)
    if init.model is not None:
        with pretrained_files(init.model):
            check_is_mdetr(init.model)
            return MdetrConfig.from_pretrained(init.model, **init.config, **fields)
    config = MdetrConfig(**_fields_of_parts(init), **fields)
    if init.text_weights is None:
        config.text_config.vocab_size = vocab_size
    return config


def _answer_fields(answers: AnswerVocabulary | None) -> dict[str, Any]:
    """Returns the fields of ``MdetrConfig`` for an answer vocabulary."""
    return {} if answers is None else {"answer_heads": answers.heads, "answers": answers.names}


def _check_weights(trained: MdetrConfig, missing: Collection[str]) -> None:
    """Checks that weights are only missing where the trained model has none, such as new heads."""
    if not missing:
        return
    with torch.device("meta"):
        weights = model_class_of(trained)(trained).state_dict().keys()
    if lacking := sorted(set(missing) & weights):
        raise ValueError(f"the weights lack {listed(lacking)}")


def _check_answers(config: MdetrConfig, answers: AnswerVocabulary | None) -> None:
    """Checks that a model with answer heads keeps them, and their vocabulary if that is known.

    Raises:
        ValueError: the vocabulary differs from that of the trained heads.
    """
    if answers is None or not config.answer_heads:
        return
    is_same = config.answers is None or config.answers == answers.names
    if config.answer_heads != answers.heads or not is_same:
        raise ValueError(
            "the model of init.model has other answers; leave out init.answers to keep them"
        )


def model_class_of(config: MdetrConfig) -> type[MdetrForGrounding]:
    """Returns the class that trains on pairs with this configuration."""
    if config.predict_final:
        raise ValueError("a model with predict_final cannot be trained on pairs")
    if config.answer_heads and config.answers is None:
        raise ValueError("the model has answer heads without a vocabulary: set init.answers")
    return MdetrForQuestionAnswering if config.answer_heads else MdetrForGrounding


def _fit_tokenizer(
    config: MdetrConfig, init: InitConfig, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Sets the special tokens of a text encoder with random weights, or checks the size of others.

    Raises:
        ValueError: the tokenizer has more tokens than the pre-trained text encoder.
    """
    if init.text_weights is None:
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            setattr(config.text_config, name, getattr(tokenizer, name))
    elif config.text_config.vocab_size < len(tokenizer):
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens, the text encoder {init.text_weights} "
            f"only {config.text_config.vocab_size}"
        )


def _fields_of_parts(init: InitConfig) -> dict[str, Any]:
    """Returns the fields of ``init.config``, with configurations of both encoders."""
    fields = dict(init.config)
    for part, weights in (
        ("backbone_config", init.backbone_weights),
        ("text_config", init.text_weights),
    ):
        if weights is not None:
            fields[part] = AutoConfig.from_pretrained(weights)
        elif isinstance(fields.get(part), dict):
            fields[part] = AutoConfig.for_model(**fields[part])
    return fields


def load_backbone_weights(encoder: Any, source: Any) -> None:
    """Loads the weights of a transformers ResNet or EfficientNet into an image encoder.

    Raises:
        ValueError: the architectures differ.
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
