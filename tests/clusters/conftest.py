"""The dataset that all clusters build, and its local shard set."""

from pathlib import Path

import pytest

from tests.end_to_end.built_sets import set_digests


@pytest.fixture(scope="session")
def raw(small_dataset: Path) -> Path:
    """The raw files."""
    return small_dataset


@pytest.fixture(scope="session")
def expected(small_set: Path) -> dict[str, str]:
    """The digests of a local build."""
    return set_digests(small_set)
