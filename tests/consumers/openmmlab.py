"""mmdetection's packages without what has to be compiled, of which readers make no use."""

import importlib.machinery
import sys
import types
from typing import Any


class _Compiled(types.ModuleType):
    """Stands for ``mmcv._ext``: every operator can be imported, and none works."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def without_compiled_operators() -> None:
    """Has to be called before mmdet's data sets are imported."""
    module = _Compiled("mmcv._ext")
    module.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)
    sys.modules["mmcv._ext"] = module


def bare(*packages: str) -> None:
    """Lets modules of packages be imported without the packages' own imports.

    YOLO-World's imports models, and a package that refuses other versions.
    """
    for name in packages:
        parent = name.rpartition(".")[0]
        path = sys.modules[parent].__path__ if parent else None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None and spec.submodule_search_locations
        module = types.ModuleType(name)
        module.__path__ = list(spec.submodule_search_locations)
        sys.modules[name] = module
