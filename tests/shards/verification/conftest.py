"""A copy of the demo set that a test may corrupt, and builds of other recipes."""

import shutil
from pathlib import Path

import pytest

from pipelines.build import main as build
from pipelines.synthetic.generate import generate_dataset
from pipelines.synthetic.layout import SyntheticDataset
from tests.conftest import build_demo
from tests.shared_folder import shared_folder


def build_set(recipe: str, synthetic: Path, output: Path) -> None:
    arguments = [recipe, f"--root={synthetic}", f"--output={output}", "--quiet"]
    assert build([*arguments, "--direct_running_mode=in_memory"]) == 0


@pytest.fixture
def copied_set(medium_set: Path, tmp_path: Path) -> Path:
    """A copy of `medium_set`."""
    return Path(shutil.copytree(medium_set, tmp_path / "shards"))


@pytest.fixture(scope="session")
def medium_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic dataset of 110 images: one of each kind, but none of the corrupted records."""
    dataset = SyntheticDataset(num_images=110, seed=3)
    return shared_folder(
        tmp_path_factory, "medium_dataset", lambda folder: generate_dataset(folder, dataset)
    )


@pytest.fixture(scope="session")
def medium_set(medium_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shard set of `medium_dataset`; tests must not change it."""
    return shared_folder(
        tmp_path_factory, "medium_set", lambda folder: build_demo(medium_dataset, folder)
    )
