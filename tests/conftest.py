"""Reference data for tests: what the published programs made, and real excerpts.

They are not part of the project. ``MDETR_REFERENCE`` names the folder that has them; with
``MDETR_REFERENCE_REQUIRED`` set, tests that need them fail where they would be skipped.
"""

import os
import tarfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from pipelines.build import main as build
from pipelines.synthetic.__main__ import main as make_dataset

REFERENCE = Path(
    os.environ.get("MDETR_REFERENCE", Path(__file__).resolve().parent.parent.parent / "shared")
)

# How long one example takes says nothing on a machine that does other work at the same time.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder with ``golden`` and ``real``; tests that need it are skipped without it."""
    if not (REFERENCE / "golden").is_dir():
        missing = f"needs the reference data: there is no {REFERENCE / 'golden'}"
        if os.environ.get("MDETR_REFERENCE_REQUIRED"):
            pytest.fail(missing)
        pytest.skip(missing)
    return REFERENCE


@pytest.fixture(scope="session")
def golden_raw(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw files that the published programs were run on, unpacked."""
    folder = tmp_path_factory.mktemp("golden_raw")
    with tarfile.open(reference / "golden" / "mixed" / "raw.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def demo_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated world; tests that change it make a copy."""
    folder = tmp_path_factory.mktemp("demo_dataset")
    assert make_dataset([str(folder), "--images", "300"]) == 0
    return folder


@pytest.fixture(scope="session")
def demo_set(demo_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shard set of that world, with images of all sources; to be read only, too."""
    output = tmp_path_factory.mktemp("demo_set") / "shards"
    assert build(["demo", f"--root={demo_dataset}", f"--output={output}", "--quiet"]) == 0
    return output


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where the reference data must be there, a skipped test is a failed one."""
    report = yield
    if report.skipped and os.environ.get("MDETR_REFERENCE_REQUIRED"):
        report.outcome = "failed"
    return report
