"""Which runner is meant, and whether its workers can reach what they need."""

import pytest

from pipelines.beam import runners
from pipelines.beam.runners import RunnerError

DATAFLOW = ["--runner=DataflowRunner", "--project=p", "--region=r", "--temp_location=gs://work/t"]


@pytest.mark.parametrize("name", ["DirectRunner", "direct", "directrunner", "FnApiRunner"])
def test_every_name_of_the_local_runner_gets_its_defaults(name: str) -> None:
    runner = runners.chosen([f"--runner={name}"])
    assert runner.is_local
    assert runner.options.get_all_options()["prism_location"] == "none"


@pytest.mark.parametrize("name", ["PortableRunner", "FlinkRunner", "SparkRunner"])
def test_other_runners_get_every_option(name: str) -> None:
    """A job server may know options that Beam does not."""
    runner = runners.chosen([f"--runner={name}", "--option_of_the_server=5"])
    assert not runner.is_local
    options = runner.options.get_all_options(retain_unknown_options=True)
    assert options["option_of_the_server"] == "5"
    runners.check_reach(runner, "/shared/shards", ["/shared/raw.json"])


def test_a_misspelt_option_of_dataflow() -> None:
    with pytest.raises(RunnerError, match=r"unknown options: max_num_worker$"):
        runners.chosen([*DATAFLOW, "--max_num_worker=3"])


def test_options_that_dataflow_needs() -> None:
    with pytest.raises(RunnerError, match="Missing required option: project"):
        runners.pipeline(runners.chosen(DATAFLOW[:1]))


INSTALLED = ["--setup_file=./pyproject.toml", "--requirements_file=requirements.txt"]


@pytest.mark.parametrize("package", [["--sdk_container_image=i"], INSTALLED])
def test_workers_elsewhere_that_have_what_they_need(package: list[str]) -> None:
    runner = runners.chosen([*DATAFLOW, *package])
    runners.check_reach(runner, "gs://made/shards", ["gs://raw/a.json", "https://host/b.json"])


@pytest.mark.parametrize("output", ["shards", "file:///shards", "https://host/shards"])
def test_places_that_workers_elsewhere_cannot_reach(output: str) -> None:
    runner = runners.chosen([*DATAFLOW, *INSTALLED])
    with pytest.raises(RunnerError) as refused:
        runners.check_reach(runner, output, ["gs://raw/a.json", "raw/b.json", "file:///c.json"])
    assert str(refused.value).splitlines() == [
        f"--output={output}: workers of Dataflow write to gs:// or s3://",
        "raw/b.json: on this machine, where workers of Dataflow do not see it",
        "file:///c.json: on this machine, where workers of Dataflow do not see it",
    ]


@pytest.mark.parametrize("package", [[], ["--extra_package=model.whl"], INSTALLED[:1]])
def test_workers_elsewhere_that_lack_the_package(package: list[str]) -> None:
    runner = runners.chosen([*DATAFLOW, *package])
    with pytest.raises(RunnerError, match="workers of Dataflow need this package"):
        runners.check_reach(runner, "gs://made/shards", [])


def test_credentials_of_s3_are_the_images() -> None:
    with pytest.raises(RunnerError, match="that brings credentials"):
        runners.check_reach(runners.chosen([*DATAFLOW, *INSTALLED]), "gs://made", ["s3://raw/a"])
    runners.check_reach(
        runners.chosen([*DATAFLOW, "--sdk_container_image=i"]), "s3://made", ["s3://raw/a"]
    )


@pytest.mark.parametrize(
    ("asked", "hints"),
    [
        ([], ["min_ram=4GB"]),
        (["--resource_hints=cpu_count=4"], ["cpu_count=4", "min_ram=4GB"]),
        (["--resource_hints=min_ram=16GB"], ["min_ram=16GB"]),
    ],
)
def test_dataflow_is_asked_for_memory_unless_the_user_does(
    asked: list[str], hints: list[str]
) -> None:
    options = runners.chosen([*DATAFLOW, *asked]).options.get_all_options()
    assert options["resource_hints"] == hints
