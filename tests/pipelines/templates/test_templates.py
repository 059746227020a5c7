"""The Flex Template: its parameters are the options of the command."""

import ast
import json
import re
from pathlib import PurePosixPath

import pytest

from pipelines.build import make_parser
from pipelines.templates import make_metadata
from pipelines.templates.launcher import WORKER_IMAGE, ParameterError, command_arguments
from tests.processes import REPOSITORY

PARAMETERS = {parameter["name"]: parameter for parameter in make_metadata.metadata()["parameters"]}


def test_metadata_file_is_that_of_the_options() -> None:
    assert make_metadata.PATH.read_text(encoding="utf-8") == make_metadata.text()


def test_all_options_of_a_build_that_can_be_detached_are_parameters() -> None:
    options = {
        name.removeprefix("--")
        for action in make_parser()._actions
        for name in action.option_strings or [action.dest]
        if not name.startswith("-") or name.startswith("--")
    }
    elsewhere = {"help", "version", "list", "quiet", "detach", "shared-disk"}
    assert options - elsewhere == PARAMETERS.keys() - make_metadata.OPTIONS_OF_BEAM.keys()


@pytest.mark.parametrize(
    ("name", "value", "is_valid"),
    [
        ("recipe", "refcoco+", True),
        ("recipe", "refcocoo", False),
        ("recipe", "_eval_sets", False),
        ("output", "gs://bucket/shards", True),
        ("output", "/tmp/shards", False),
        ("set", "splits.train.shards=8;salt=x", True),
        ("set", "salt", False),
        ("strict", "true", True),
        ("strict", "yes", False),
    ],
)
def test_patterns_of_parameters(name: str, value: str, is_valid: bool) -> None:
    [pattern] = PARAMETERS[name]["regexes"]
    assert bool(re.fullmatch(pattern, value)) is is_valid


def test_parameters_become_arguments_of_the_command() -> None:
    given = ["--recipe=demo", "--root=gs://b/raw", "--output=gs://b/out", "--overwrite=true"]
    given += ["--strict=false", "--set=salt=x;splits.train.shards=2", "--runner=DataflowRunner"]
    words = command_arguments(given, "IMAGE")
    arguments, of_beam = make_parser().parse_known_args(words)
    assert (arguments.recipe, arguments.root) == ("demo", "gs://b/raw")
    assert (arguments.overwrite, arguments.strict, arguments.detach) == (True, False, True)
    assert [override.dotted for override in arguments.overrides] == ["salt", "splits.train.shards"]
    assert of_beam == ["--runner=DataflowRunner", "--sdk_container_image=IMAGE"]
    stated = ["--recipe=demo", "--sdk_container_image=OTHER"]
    assert command_arguments(stated, "IMAGE")[1:] == ["--sdk_container_image=OTHER", "--detach"]
    with pytest.raises(ParameterError, match="strict: expected true or false, found 'yes'"):
        command_arguments(["--strict=yes"])


def test_image_has_the_launcher_and_the_variables_that_it_reads() -> None:
    text = (REPOSITORY / "pipelines/Dockerfile").read_text(encoding="utf-8")
    variables = dict(re.findall(r"^ENV (\w+)=(\S+)$", text, re.MULTILINE))
    assert variables[WORKER_IMAGE] == "$WORKER_IMAGE"
    path = PurePosixPath(variables["FLEX_TEMPLATE_PYTHON_PY_FILE"])
    [(source, folder)] = re.findall(r"^COPY (pipelines/templates/\S+) (\S+)$", text, re.MULTILINE)
    assert path == PurePosixPath(folder) / PurePosixPath(source).name
    assert (REPOSITORY / source).is_file()


def test_metadata_has_what_the_service_requires() -> None:
    assert json.loads(make_metadata.text())["name"]
    for parameter in PARAMETERS.values():
        assert parameter["label"] and parameter["helpText"].endswith(".")
        assert re.compile(parameter["regexes"][0])


def test_parameters_in_the_documents_are_those_of_the_template() -> None:
    text = (REPOSITORY / "docs/runners.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(.*?FlexTemplate.*?)```", text, re.DOTALL)
    [values] = [n.value for n in ast.parse(example).body if isinstance(n, ast.Assign)][:1]
    of_airflow = ast.literal_eval(values)
    [line] = re.findall(r"--parameters=(\S+)", text)
    of_gcloud = dict(pair.split("=", 1) for pair in line.split(","))
    assert of_airflow == of_gcloud
    for name, value in of_gcloud.items():
        assert re.fullmatch(PARAMETERS[name]["regexes"][0], value)
    assert {name for name, p in PARAMETERS.items() if not p["isOptional"]} == of_gcloud.keys()
