"""The dataset that all clusters build, and its local shard set."""

from pathlib import Path

import pytest

from pipelines.synthetic.generate import generate_dataset
from pipelines.synthetic.layout import SyntheticDataset
from tests.conftest import build_demo
from tests.end_to_end.built_sets import set_digests
from tests.shared_folder import shared_folder


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw files of 60 images."""
    dataset = SyntheticDataset(num_images=60, seed=3)
    return shared_folder(
        tmp_path_factory, "cluster_raw", lambda folder: generate_dataset(folder, dataset)
    )


@pytest.fixture(scope="session")
def expected(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of a local build."""
    made = shared_folder(tmp_path_factory, "cluster_set", lambda folder: build_demo(raw, folder))
    return set_digests(made)
