"""A copy of the demo set that a test may corrupt, and builds of other recipes."""

import shutil
from pathlib import Path

import pytest

from pipelines.build import main as build


def build_set(recipe: str, synthetic: Path, output: Path) -> None:
    arguments = [recipe, f"--root={synthetic}", f"--output={output}", "--quiet"]
    assert build([*arguments, "--direct_running_mode=in_memory"]) == 0


@pytest.fixture
def copied_set(demo_set: Path, tmp_path: Path) -> Path:
    """A copy of the demo set."""
    return Path(shutil.copytree(demo_set, tmp_path / "shards"))
