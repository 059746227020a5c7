"""How the packages hang together: imports point one way, and stay light where they must."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("schemas", "shards", "pipelines", "mdetr_model")
MAY_IMPORT = {
    "schemas": {"schemas"},
    "shards": {"schemas", "shards"},
    "pipelines": {"schemas", "shards", "pipelines"},
    "mdetr_model": {"schemas", "shards", "mdetr_model"},
}
MUST_NOT_IMPORT = {
    "schemas": {"torch", "apache_beam"},
    "shards": {"apache_beam"},
    "pipelines": {"torch", "torchvision", "timm"},
    "mdetr_model": {"apache_beam", "torchvision", "timm"},
}
LONGEST_FILE = 400  # lines


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((REPOSITORY / package).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    """The top-level packages that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield str(node.module).partition(".")[0]


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("path", modules(), ids=name)
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(REPOSITORY).parts[0]
    names = set(imported(path))
    assert names & set(PACKAGES) <= MAY_IMPORT[package]
    assert not names & MUST_NOT_IMPORT[package]
    assert "tests" not in names


@pytest.mark.parametrize("path", modules(), ids=name)
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_there_is_something_to_look_at() -> None:
    found = {path.relative_to(REPOSITORY).parts[0] for path in modules()}
    assert {"schemas", "shards", "pipelines"} <= found
    assert len(modules()) > 40


def modules_loaded_by(code: str) -> set[str]:
    """The modules that are loaded after ``code`` ran in a new interpreter."""
    report = "\nimport sys; print('\\n'.join(['#', *sys.modules]))"
    result = subprocess.run(
        [sys.executable, "-c", code + report],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(result.stdout.partition("#\n")[2].splitlines())


def test_help_is_light() -> None:
    """``--help`` answers in well under a second because none of the heavy packages is imported."""
    loaded = modules_loaded_by(
        "from pipelines.build import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0"
    )
    assert "pipelines.build" in loaded
    heavy = {"apache_beam", "spacy", "numpy", "pyarrow", "PIL", "webdataset", "torch", "shapely"}
    assert not heavy & loaded


def test_help_is_printed() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pipelines.build", "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    for option in ("--output", "--root", "--overwrite", "--strict", "--list", "--quiet"):
        assert option in result.stdout


def test_schemas_and_manifests_need_no_beam_and_no_torch() -> None:
    loaded = modules_loaded_by("import schemas, schemas.arrow, shards.manifest, shards.stats")
    assert not {"apache_beam", "torch", "spacy"} & loaded


def test_what_workers_get_is_pinned_and_complete() -> None:
    image = (REPOSITORY / "pipelines/Dockerfile").read_text(encoding="utf-8").splitlines()
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    [beam] = [pin.removeprefix("apache-beam==") for pin in pins if pin.startswith("apache-beam==")]
    assert any(line.startswith("FROM ") and line.endswith(f"_sdk:{beam}") for line in image)
    assert {f"COPY {package} {package}" for package in PACKAGES} <= set(image)
    needed = (REPOSITORY / "pipelines/worker_requirements.txt").read_text(encoding="utf-8")
    assert {line for line in needed.splitlines() if not line.startswith("#")} <= set(pins)
