"""``pip install .`` alone is enough to generate, build, inspect, verify and export a shard set."""

import importlib.metadata
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from shards.export.formats import FORMATS
from tests import processes

PYPROJECT = tomllib.loads((processes.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
BASE = [
    *PYPROJECT["project"]["dependencies"],
    (processes.REPOSITORY / "spacy_model.txt").read_text(encoding="utf-8").splitlines()[1],
]
#: Runs commands where the modules of other packages than those of the base cannot be imported.
PROGRAM = """
import importlib, json, sys

blocked, commands = json.loads(sys.argv[1])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
for module, *arguments in commands:
    status = importlib.import_module(module).main(arguments)
    if status:
        sys.exit(f"{module} {arguments}: status {status}")
"""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions_of(requirements: list[str]) -> set[str]:
    """Returns the names of the installed distributions that the requirements bring."""
    names: set[str] = set()
    todo, seen = [Requirement(line.partition(" --hash")[0]) for line in requirements], set()
    while todo:
        requirement = todo.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        names.add(normalized(requirement.name))
        for line in importlib.metadata.requires(requirement.name) or []:
            needed = Requirement(line)
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
                todo.append(needed)
    return names


def modules_outside(distributions: set[str]) -> set[str]:
    """Returns the top-level modules that none of the distributions has."""
    return {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not distributions.intersection(map(normalized, owners))
    } - {"schemas", "shards", "pipelines", "mdetr_model", "pip"}


@pytest.fixture(scope="module")
def blocked() -> set[str]:
    blocked = modules_outside(distributions_of(BASE))
    heavy = {"torch", "transformers", "scipy", "tensorboard", "imagehash"}
    assert blocked >= heavy | {"gcsfs", "s3fs", "mlcroissant", "moto", "pytest", "datasets"}
    return blocked


def test_base_commands_import_nothing_of_an_extra(tmp_path: Path, blocked: set[str]) -> None:
    build = ["demo", "--root=raw", "--output=shards", "--direct_running_mode=in_memory", "--quiet"]
    commands = [
        ["pipelines.synthetic.__main__", "--output=raw", "--num-images=20"],
        ["pipelines.build", *build],
        ["shards.__main__", "stats", "shards", "--html=report.html"],
        ["shards.__main__", "verify", "shards", "--raw=raw"],
        *(
            ["shards.__main__", "export", name, "shards", f"--output={name}"]
            for name, export_format in FORMATS.items()
            if not export_format.extra
        ),
    ]
    argument = json.dumps([sorted(blocked), commands])
    processes.run([sys.executable, "-c", PROGRAM, argument], cwd=tmp_path, check=True)
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    "arguments",
    [["train", "demo", "--output=run"], ["ground", "image.jpg", "a cat", "--model=model"]],
    ids=["train", "ground"],
)
def test_command_of_the_model_names_the_extra_that_is_missing(
    tmp_path: Path, blocked: set[str], arguments: list[str]
) -> None:
    argument = json.dumps([sorted(blocked), [["mdetr_model.__main__", *arguments]]])
    done = processes.run([sys.executable, "-c", PROGRAM, argument], cwd=tmp_path)
    message, status = done.stderr.splitlines()
    assert message == 'mdetr: error: needs torch, which is not installed: pip install ".[train]"'
    assert status.endswith("status 1")
