"""Imports of libraries without the libraries that these import and our programs do not use."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType


@contextlib.contextmanager
def substituted_modules(substitutes: Mapping[str, ModuleType | None]) -> Iterator[list[str]]:
    """Imports other modules in a block instead of those that are named; yields their names.

    Modules that are imported already stay, and are not yielded. An import of None fails, as that of
    a module that is not installed.
    """
    added = {name: module for name, module in substitutes.items() if name not in sys.modules}
    sys.modules.update(added)  # type: ignore[arg-type]  # None is allowed
    try:
        yield list(added)
    finally:
        for name in added:
            del sys.modules[name]
