"""MDETR (arXiv 2104.12763) for transformers: model, losses, processor, training, conversion.

The names below are loaded when they are used. The first of them registers the classes with
transformers' Auto classes: after ``from mdetr_model import MdetrForGrounding``,
``AutoModel.from_pretrained(folder)`` loads a model. Until then neither torch nor transformers is
imported, so that ``--help`` is fast.
"""

from typing import TYPE_CHECKING

from schemas.lazy_names import lazy_names

if TYPE_CHECKING:
    from mdetr_model.custom_code import register_custom_code
    from mdetr_model.data.samples import TrainingSampleBuilder
    from mdetr_model.inference.ground import ground
    from mdetr_model.modeling import (
        MdetrConfig,
        MdetrForGrounding,
        MdetrForQuestionAnswering,
        MdetrImageProcessor,
        MdetrModel,
        MdetrOutput,
        MdetrProcessor,
    )
    from mdetr_model.training.config import load_config
    from mdetr_model.training.init_model import init_model
    from mdetr_model.training.tokenizer import train_tokenizer

__all__ = [
    "MdetrConfig",
    "MdetrForGrounding",
    "MdetrForQuestionAnswering",
    "MdetrImageProcessor",
    "MdetrModel",
    "MdetrOutput",
    "MdetrProcessor",
    "TrainingSampleBuilder",
    "ground",
    "init_model",
    "load_config",
    "register_custom_code",
    "train_tokenizer",
]

_MODULES = dict.fromkeys(__all__, "modeling") | {
    "TrainingSampleBuilder": "data.samples",
    "ground": "inference.ground",
    "init_model": "training.init_model",
    "load_config": "training.config",
    "register_custom_code": "custom_code",
    "train_tokenizer": "training.tokenizer",
}

__getattr__ = lazy_names(__name__, _MODULES)
