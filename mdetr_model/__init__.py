"""MDETR (arXiv 2104.12763) for transformers: model, losses, processor, training, conversion.

The names below are loaded when the first of them is used, and registered with transformers' Auto
classes: after ``from mdetr_model import MdetrForGrounding``, ``AutoModel.from_pretrained(folder)``
loads a model. Until then neither torch nor transformers is imported, so that ``--help`` is fast.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdetr_model.modeling import (
        MdetrConfig,
        MdetrForGrounding,
        MdetrForQuestionAnswering,
        MdetrImageProcessor,
        MdetrModel,
        MdetrOutput,
        MdetrProcessor,
    )

__all__ = [
    "MdetrConfig",
    "MdetrForGrounding",
    "MdetrForQuestionAnswering",
    "MdetrImageProcessor",
    "MdetrModel",
    "MdetrOutput",
    "MdetrProcessor",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mdetr_model import modeling

    return getattr(modeling, name)
