"""Shard sets of a small generated world, which tests look into and damage copies of."""

import shutil
from pathlib import Path

import pytest

from pipelines.build import main as build
from pipelines.world.__main__ import main as make_world


def build_set(recipe: str, world: Path, output: Path) -> None:
    arguments = [recipe, f"--root={world}", f"--output={output}", "--quiet"]
    assert build([*arguments, "--direct_running_mode=in_memory"]) == 0


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspection") / "world"
    assert make_world([str(folder), "--images", "150"]) == 0
    return folder


@pytest.fixture(scope="session")
def clean(small_world: Path) -> Path:
    """A set of all sources, by the recipe ``demo``."""
    output = small_world.parent / "shards"
    build_set("demo", small_world, output)
    return output


@pytest.fixture
def damaged(clean: Path, tmp_path: Path) -> Path:
    """A copy of the set that may be damaged."""
    return Path(shutil.copytree(clean, tmp_path / "shards"))
