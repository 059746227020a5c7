"""Benchmarks, which no other test runs, import what there is."""

import importlib
from pathlib import Path

import pytest

import benchmarks

NEED_TORCHVISION = {"published_criterion", "published_step"}
MODULES = {path.stem for path in Path(benchmarks.__path__[0]).glob("[a-z]*.py")}


@pytest.mark.parametrize("name", sorted(MODULES - NEED_TORCHVISION))
def test_benchmark_can_be_imported(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")
