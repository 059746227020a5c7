"""Fixtures of all tests: reference data, and datasets that are generated once for all workers.

The reference data (outputs of the published programs, excerpts of real files) are not part of the
project. ``MDETR_REFERENCE`` names their folder. Without them, tests that need them are skipped, or
fail if ``MDETR_REFERENCE_REQUIRED`` is set.
"""

import os
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from pipelines.build import main as build
from pipelines.synthetic.generate import generate_dataset
from pipelines.synthetic.layout import SyntheticDataset
from tests.shared_folder import shared_folder

REFERENCE = Path(
    os.environ.get("MDETR_REFERENCE", Path(__file__).resolve().parent.parent.parent / "shared")
)

# Read when torch is imported: the workers of pytest-xdist share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Read when gcsfs is imported, by whichever test is the first: with it, gcsfs asks an API that no
# emulator has, and waits for the answer forever.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"

# A busy machine may take long for an example.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder with ``golden`` and ``real``."""
    if not (REFERENCE / "golden").is_dir():
        missing = f"needs the reference data: there is no {REFERENCE / 'golden'}"
        if os.environ.get("MDETR_REFERENCE_REQUIRED"):
            pytest.fail(missing)
        pytest.skip(missing)
    return REFERENCE


@pytest.fixture(scope="session")
def golden_raw(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw files that the published programs were run on, unpacked."""

    packed = reference / "golden" / "mixed" / "raw.tar.xz"
    return shared_folder(
        tmp_path_factory, "golden_raw", lambda folder: shutil.unpack_archive(packed, folder)
    )


@pytest.fixture(scope="session")
def demo_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic dataset of 300 images; tests that change it make a copy."""
    dataset = SyntheticDataset(num_images=300)
    return shared_folder(
        tmp_path_factory, "demo_dataset", lambda folder: generate_dataset(folder, dataset)
    )


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic dataset of 30 images; tests that change it make a copy."""
    dataset = SyntheticDataset(num_images=30, seed=3)
    return shared_folder(
        tmp_path_factory, "small_dataset", lambda folder: generate_dataset(folder, dataset)
    )


@pytest.fixture(scope="session")
def small_set(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shard set of `small_dataset`, built in one process; tests must not change it."""
    return shared_folder(
        tmp_path_factory, "small_set", lambda folder: build_demo(small_dataset, folder)
    )


@pytest.fixture(scope="session")
def demo_set(demo_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shard set of `demo_dataset`, with images of all sources; tests must not change it."""
    return shared_folder(
        tmp_path_factory, "demo_set", lambda folder: build_demo(demo_dataset, folder)
    )


def build_demo(raw: Path, output: Path) -> None:
    """Builds the recipe ``demo`` without worker processes, whose start takes seconds."""
    options = [f"--root={raw}", f"--output={output}", "--direct_running_mode=in_memory"]
    assert build(["demo", *options, "--quiet"]) == 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Reports a skipped test as failed where the reference data are required."""
    report = yield
    if report.skipped and os.environ.get("MDETR_REFERENCE_REQUIRED"):
        report.outcome = "failed"
    return report
