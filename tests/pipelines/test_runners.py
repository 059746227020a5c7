"""Which runner is meant, and whether its workers can reach what they need."""

import pytest

from pipelines import runners
from pipelines.runners import RunnerError

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


@pytest.mark.parametrize("package", ["--sdk_container_image=i", "--setup_file=./pyproject.toml"])
def test_workers_elsewhere_that_have_what_they_need(package: str) -> None:
    runner = runners.chosen([*DATAFLOW, package])
    runners.check_reach(runner, "gs://made/shards", ["gs://raw/a.json", "s3://raw/b.json"])


@pytest.mark.parametrize("output", ["shards", "file:///shards", "https://host/shards"])
def test_workers_elsewhere_that_lack_something(output: str) -> None:
    with pytest.raises(RunnerError) as refused:
        runner = runners.chosen([*DATAFLOW, "--extra_package=the_language_model.whl"])
        runners.check_reach(runner, output, ["gs://raw/a.json", "raw/b.json", "file:///c.json"])
    assert str(refused.value).splitlines() == [
        f"--output={output}: workers of Dataflow write to gs:// or s3://",
        "raw/b.json: on this machine, where workers of Dataflow do not see it",
        "file:///c.json: on this machine, where workers of Dataflow do not see it",
        "workers of Dataflow need this package: --sdk_container_image or --setup_file, see "
        "docs/runners.md",
    ]


@pytest.mark.parametrize("asked", [[], ["--resource_hints=min_ram=16GB"]])
def test_dataflow_is_asked_for_memory_unless_the_user_does(asked: list[str]) -> None:
    options = runners.chosen([*DATAFLOW, *asked]).options.get_all_options()
    assert options["resource_hints"] == ["min_ram=16GB" if asked else "min_ram=4GB"]
