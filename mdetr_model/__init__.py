"""MDETR (arXiv 2104.12763) for transformers: model, losses, processor, checkpoint conversion.

Importing this registers all of it with transformers' Auto classes:
``import mdetr_model; AutoModel.from_pretrained(folder)``.
"""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
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
    return getattr(_modules()[_MODULE_OF[name]], name)


def _modules() -> dict[str, ModuleType]:
    """The modules of the names above, each of which registers its classes when it is imported."""
    return {part: import_module(f"{__name__}.{part}") for part in set(_MODULE_OF.values())}


def _is_own_command() -> bool:
    """Whether this is imported for ``python -m mdetr_model`` or ``mdetr``.

    Python has "-m" for the program's name while it looks for the module to run, which is the
    argument behind it.
    """
    program = Path(sys.argv[0]).name
    arguments = iter(sys.orig_argv)
    return program == "mdetr" or (
        program == "-m" and "-m" in arguments and next(arguments, None) == __name__
    )


# A command imports what it needs, so that its --help need not wait for torch.
if not _is_own_command():
    _modules()
