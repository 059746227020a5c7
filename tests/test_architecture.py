"""The direction of imports between packages, and the libraries that they must not load."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("schemas", "shards", "pipelines", "mdetr_model")
ALLOWED_PACKAGES = {
    "schemas": {"schemas"},
    "shards": {"schemas", "shards"},
    "pipelines": {"schemas", "shards", "pipelines"},
    "mdetr_model": {"schemas", "shards", "mdetr_model"},
}
#: The folders that may import a library, where the others may not.
ALLOWED_FOLDERS = {
    "apache_beam": ("pipelines",),
    "torch": ("mdetr_model", "shards/sampling"),
    "transformers": ("mdetr_model",),
    "timm": (),
    "torchvision": (),
    "tests": (),
}
#: Its files are copied beside the weights of a model, so they import each other relatively.
SELF_CONTAINED = "mdetr_model/modeling"


class Import(NamedTuple):
    """One import statement's target: ``from a import b`` is of "a.b", module or not."""

    target: str
    relative: bool


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((REPOSITORY / package).rglob("*.py"))]


def imports_of(path: Path) -> Iterator[Import]:
    """Yields all imports of a module, those inside functions too."""
    package = ".".join(path.relative_to(REPOSITORY).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, relative=False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                yield Import(f"{module}.{alias.name}", relative=node.level > 0)


def component(target: str) -> str:
    """Returns the folder of a module of ours, or the module itself directly below a package.

    >>> component("shards.format.index.read_index"), component("pipelines.recipe.Recipe")
    ('shards/format', 'pipelines/recipe.py')
    """
    path = Path()
    for part in target.split("."):
        if not (REPOSITORY / path / part).is_dir():
            at_top = len(path.parts) == 1 and (REPOSITORY / path / f"{part}.py").is_file()
            return f"{path}/{part}.py" if at_top else str(path)
        path /= part
    return str(path)


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("path", modules(), ids=name)
def test_imports_follow_the_direction_of_packages(path: Path) -> None:
    package, folder = path.relative_to(REPOSITORY).parts[0], name(path.parent)
    for target, relative in imports_of(path):
        top = target.partition(".")[0]
        assert top not in PACKAGES or top in ALLOWED_PACKAGES[package], target
        assert any(f"{folder}/".startswith(f"{a}/") for a in ALLOWED_FOLDERS.get(top, [folder])), (
            f"{name(path)} imports {target}"
        )
        self_contained = folder == SELF_CONTAINED
        assert relative == (self_contained and top in PACKAGES), f"{name(path)} imports {target}"
        assert not relative or component(target) == SELF_CONTAINED, target


def test_no_import_cycle_between_subpackages() -> None:
    graph: dict[str, set[str]] = {}
    for path in modules():
        module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        importer = component(module.removesuffix(".__init__"))
        targets = {component(i.target) for i in imports_of(path) if i.target.startswith(PACKAGES)}
        graph.setdefault(importer, set()).update(targets - {importer})
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def modules_loaded_by(code: str) -> set[str]:
    """Returns the names of the modules that are loaded after ``code`` ran in a new interpreter."""
    report = "\nimport sys; print('\\n'.join(['#', *sys.modules]))"
    result = subprocess.run(
        [sys.executable, "-c", code + report],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return set(result.stdout.partition("#\n")[2].splitlines())


def test_build_help_loads_no_heavy_library() -> None:
    loaded = modules_loaded_by(
        "from pipelines.build import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0"
    )
    assert "pipelines.build" in loaded
    heavy = {"apache_beam", "spacy", "numpy", "pyarrow", "PIL", "webdataset", "torch", "shapely"}
    assert not heavy & loaded


def test_schemas_and_manifest_load_neither_beam_nor_torch() -> None:
    loaded = modules_loaded_by(
        "import schemas, schemas.arrow, shards.format.manifest, shards.format.stats"
    )
    assert not {"apache_beam", "torch", "spacy"} & loaded


@pytest.mark.parametrize("package", ["shards", "mdetr_model"])
def test_names_of_a_package_are_loaded_when_they_are_used(package: str) -> None:
    assert not {"torch", "numpy"} & modules_loaded_by(f"import {package}")
    loaded = modules_loaded_by(
        f"import {package}\nassert all(getattr({package}, name) for name in {package}.__all__)"
    )
    assert "torch" in loaded


def test_worker_image_has_the_pinned_beam_and_all_packages() -> None:
    image = (REPOSITORY / "pipelines/Dockerfile").read_text(encoding="utf-8").splitlines()
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    [beam] = [pin.removeprefix("apache-beam==") for pin in pins if pin.startswith("apache-beam==")]
    assert any(
        line.startswith("FROM ") and line.endswith(f"_sdk:{beam} AS worker") for line in image
    )
    assert {f"COPY {package} {package}" for package in PACKAGES} <= set(image)
    required = (REPOSITORY / "pipelines/worker_requirements.txt").read_text(encoding="utf-8")
    assert {line for line in required.splitlines() if not line.startswith("#")} <= set(pins)
