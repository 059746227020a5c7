"""Imports mmdetection's packages without compiled operators, which readers do not use."""

import importlib.machinery
import sys
import types
from typing import Any


class _Compiled(types.ModuleType):
    """Replaces ``mmcv._ext``: every operator can be imported, and none works."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def replace_compiled_operators() -> None:
    """Replaces compiled operators; call it before importing mmdet's datasets."""
    module = _Compiled("mmcv._ext")
    module.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)
    sys.modules["mmcv._ext"] = module


def skip_package_imports(*packages: str) -> None:
    """Lets modules of packages be imported without running the packages' ``__init__``.

    That of YOLO-World imports models, and a package that refuses other versions.
    """
    for name in packages:
        parent = name.rpartition(".")[0]
        path = sys.modules[parent].__path__ if parent else None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None and spec.submodule_search_locations
        module = types.ModuleType(name)
        module.__path__ = list(spec.submodule_search_locations)
        sys.modules[name] = module
