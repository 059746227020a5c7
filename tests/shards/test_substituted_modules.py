"""Imports with substitutes: only in the block, and never of what is imported already."""

import importlib
import sys
from types import ModuleType

import pytest

from shards.substituted_modules import substituted_modules

NAME = "tests_no_such_module"


def test_substitutes_are_imported_in_the_block_only() -> None:
    with substituted_modules({NAME: ModuleType("substitute")}) as added:
        assert importlib.import_module(NAME).__name__ == "substitute"
    assert added == [NAME] and NAME not in sys.modules


def test_none_fails_as_a_missing_module_and_an_error_ends_the_block() -> None:
    with pytest.raises(ModuleNotFoundError), substituted_modules({NAME: None}):
        importlib.import_module(NAME)
    assert NAME not in sys.modules


def test_imported_modules_stay() -> None:
    with substituted_modules({"pytest": None}) as added:
        assert importlib.import_module("pytest") is pytest
    assert not added and sys.modules["pytest"] is pytest
