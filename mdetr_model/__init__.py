"""MDETR (arXiv 2104.12763) for transformers: model, losses, processor, checkpoint conversion.

Asking for any of the names below also registers all of them with transformers' Auto classes. They
are imported then and not before, so that ``python -m mdetr_model --help`` need not wait for torch.
"""

from importlib import import_module
from typing import Any

_MODULE_OF = {
    "MdetrConfig": "configuration",
    "MdetrForGrounding": "modeling",
    "MdetrForQuestionAnswering": "modeling",
    "MdetrImageProcessor": "image_processing",
    "MdetrModel": "modeling",
    "MdetrOutput": "modeling",
    "MdetrProcessor": "processing",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    modules = {part: import_module(f"{__name__}.{part}") for part in set(_MODULE_OF.values())}
    return getattr(modules[_MODULE_OF[name]], name)
