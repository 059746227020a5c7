"""The model that training begins with, and the processor that goes with it."""

from collections.abc import Callable, Iterable
from typing import Any

from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from mdetr_model.backbone import ResNetEncoder
from mdetr_model.configuration import MdetrConfig
from mdetr_model.image_processing import MdetrImageProcessor
from mdetr_model.modeling import MdetrForGrounding, MdetrForQuestionAnswering
from mdetr_model.processing import MdetrProcessor
from mdetr_model.tokenizer import train_tokenizer
from mdetr_model.training_config import Start
from mdetr_model.transforms import Augmentation


def starting_model(
    start: Start, view: Augmentation, captions: Callable[[], Iterable[str]]
) -> tuple[MdetrForGrounding, MdetrProcessor]:
    """The model and its processor.

    Args:
        start: what it is made of.
        view: how pictures are seen in validation, which is how the processor will see them.
        captions: those of the training data, for a tokenizer that is trained on them.

    Raises:
        ValueError: the parts do not fit together.
        OSError: a folder or hub model cannot be read.
    """
    if start.folder is not None:
        config = MdetrConfig.from_pretrained(start.folder, **start.config)
        kind = MdetrForQuestionAnswering if config.answer_heads else MdetrForGrounding
        processor = MdetrProcessor.from_pretrained(start.folder)
        return kind.from_pretrained(start.folder, config=config), processor

    tokenizer = _tokenizer(start, captions)
    config = _config(start, tokenizer)
    model = (MdetrForQuestionAnswering if config.answer_heads else MdetrForGrounding)(config)
    if start.image_weights is not None:
        load_image_weights(
            model.mdetr.image_encoder, AutoModel.from_pretrained(start.image_weights)
        )
    if start.text_weights is not None:
        text_encoder = AutoModel.from_pretrained(start.text_weights)
        text_encoder.pooler = None
        model.mdetr.text_encoder = text_encoder
    size = {"shortest_edge": view.shortest[0], "longest_edge": view.longest}
    return model, MdetrProcessor(MdetrImageProcessor(size=size), tokenizer)


def _tokenizer(start: Start, captions: Callable[[], Iterable[str]]) -> PreTrainedTokenizerBase:
    if start.vocabulary is not None:
        return train_tokenizer(captions(), start.vocabulary)
    return AutoTokenizer.from_pretrained(start.tokenizer or start.text_weights)


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
