"""Shard sets of a small generated world, which tests look into and damage copies of."""

import shutil
from pathlib import Path

import pytest

from pipelines.build import main as build


def build_set(recipe: str, synthetic: Path, output: Path) -> None:
    arguments = [recipe, f"--root={synthetic}", f"--output={output}", "--quiet"]
    assert build([*arguments, "--direct_running_mode=in_memory"]) == 0


@pytest.fixture
def damaged(demo_set: Path, tmp_path: Path) -> Path:
    """A copy of the set that may be damaged."""
    return Path(shutil.copytree(demo_set, tmp_path / "shards"))
