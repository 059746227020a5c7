"""Selection of the runner, and checks of the options of its workers."""

import os
import tempfile
from pathlib import Path

import pytest

from pipelines.beam import runners
from pipelines.beam.runners import RunnerError

DATAFLOW = ["--runner=DataflowRunner", "--project=p", "--region=r", "--temp_location=gs://work/t"]


@pytest.mark.parametrize("name", ["DirectRunner", "direct", "directrunner", "FnApiRunner"])
def test_local_runner_gets_its_defaults_by_any_name(name: str) -> None:
    runner = runners.select_runner([f"--runner={name}"])
    assert runner.is_local
    assert runner.options.get_all_options()["prism_location"] == "none"


@pytest.mark.parametrize(("stated", "threads"), [("", "1"), ("2", "2")])
def test_local_workers_have_one_thread_unless_another_number_is_stated(
    monkeypatch: pytest.MonkeyPatch, stated: str, threads: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", stated)  # restores it after the test
    if not stated:
        monkeypatch.delenv("OMP_NUM_THREADS")
    runners.create_pipeline(runners.select_runner([]))
    assert os.environ["OMP_NUM_THREADS"] == threads


def test_pipeline_that_is_not_run_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runners.create_pipeline(runners.select_runner([]))
    assert not list(tmp_path.iterdir())


SERVER = "--job_endpoint=host:8099"
EXTERNAL = ["--environment_type=EXTERNAL", "--environment_config=localhost:50000"]


@pytest.mark.parametrize("name", ["PortableRunner", "FlinkRunner", "SparkRunner", "PrismRunner"])
def test_runners_with_a_job_server_get_unknown_options(name: str) -> None:
    """A job server may know options that Beam does not."""
    arguments = [f"--runner={name}", SERVER, *EXTERNAL, "--option_of_the_server=5"]
    runner = runners.select_runner(arguments)
    assert runner.has_job_server and not runner.is_local
    options = runner.options.get_all_options(retain_unknown_options=True)
    assert options["option_of_the_server"] == "5"


def test_local_paths_are_refused_for_workers_of_a_job_server_unless_they_share_a_disk() -> None:
    runner = runners.select_runner(["--runner=portable", SERVER, *EXTERNAL])
    raw = ["s3://raw/a.json", "/raw/b.json", "file:///raw/c.json"]
    with pytest.raises(RunnerError, match=r"local: /shards, /raw/b\.json and 1 more; use a bucket"):
        runners.check_reach(runner, "/shards", raw)
    runners.check_reach(runner, "/shards", raw, shared_disk=True)
    runners.check_reach(runner, "s3://made/shards", raw[:1])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--runner=PrismRunner"],
        ["--runner=FlinkRunner"],
        ["--runner=FlinkRunner", "--flink_master=[local]"],
        ["--runner=SparkRunner", "--spark_master_url=local[2]"],
        ["--runner=PortableRunner", SERVER, "--environment_type=LOOPBACK"],
    ],
)
def test_engines_on_this_machine_have_their_workers_here(arguments: list[str]) -> None:
    runner = runners.select_runner(arguments)
    assert runner.is_loopback
    runners.check_reach(runner, "shards", ["raw/a.json"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--runner=PortableRunner", SERVER],
        ["--runner=PrismRunner", SERVER],
        ["--runner=FlinkRunner", "--flink_master=http://host:8081"],
        ["--runner=SparkRunner", "--spark_master_url=spark://host:7077"],
    ],
)
def test_clusters_need_a_statement_of_where_workers_come_from(arguments: list[str]) -> None:
    with pytest.raises(RunnerError) as refused:
        runners.select_runner(arguments)
    first, *environments = str(refused.value).splitlines()
    assert first == "--environment_type is missing; workers are"
    names = [line.split(":")[0].strip() for line in environments]
    assert names == ["LOOPBACK", "DOCKER", "EXTERNAL", "PROCESS"]


def test_job_has_a_name_of_its_recipe_unless_it_has_another() -> None:
    names = []
    for options in ([], [], ["--job_name=mine"]):
        runner = runners.select_runner(["--runner=portable", SERVER, *EXTERNAL, *options])
        runners.name_job(runner, "refcoco")
        names.append(runner.options.get_all_options()["job_name"])
    assert names[0] != names[1] and names[0].startswith("mdetr-build-refcoco-2")
    assert names[2] == "mine"


@pytest.mark.parametrize("name", ["FlinkRunner", "SparkRunner", "PrismRunner", "DirectRunner"])
def test_job_is_not_left_to_a_server_that_ends_with_the_command(name: str) -> None:
    options = [] if name == "DirectRunner" else EXTERNAL
    with pytest.raises(RunnerError, match="needs an engine that outlives this command"):
        runners.check_detach(runners.select_runner([f"--runner={name}", *options]))
    if options:
        runners.check_detach(runners.select_runner([f"--runner={name}", SERVER, *options]))


def test_misspelled_option_of_dataflow_is_refused() -> None:
    with pytest.raises(RunnerError, match=r"unknown options: --max_num_worker$"):
        runners.select_runner([*DATAFLOW, "--max_num_worker=3"])


def test_missing_option_of_dataflow_is_refused() -> None:
    with pytest.raises(RunnerError, match="Missing required option: project"):
        runners.create_pipeline(runners.select_runner(DATAFLOW[:1]))


INSTALLED = ["--setup_file=./pyproject.toml", "--requirements_file=requirements.txt"]


@pytest.mark.parametrize("package", [["--sdk_container_image=i"], INSTALLED])
def test_remote_workers_with_package_and_urls_pass(package: list[str]) -> None:
    runner = runners.select_runner([*DATAFLOW, *package])
    runners.check_reach(runner, "gs://made/shards", ["gs://raw/a.json", "https://host/b.json"])


@pytest.mark.parametrize("output", ["shards", "file:///shards", "https://host/shards"])
def test_local_paths_are_refused_for_remote_workers(output: str) -> None:
    runner = runners.select_runner([*DATAFLOW, *INSTALLED])
    with pytest.raises(RunnerError) as refused:
        runners.check_reach(runner, output, ["gs://raw/a.json", "raw/b.json", "file:///c.json"])
    assert str(refused.value).splitlines() == [
        f"--output={output}: workers of Dataflow write to gs:// or s3://",
        "raw/b.json: local to this machine, workers of Dataflow cannot read it",
        "file:///c.json: local to this machine, workers of Dataflow cannot read it",
    ]


@pytest.mark.parametrize("package", [[], ["--extra_package=model.whl"], INSTALLED[:1]])
def test_remote_workers_without_the_package_are_refused(package: list[str]) -> None:
    runner = runners.select_runner([*DATAFLOW, *package])
    with pytest.raises(RunnerError, match="workers of Dataflow need this package"):
        runners.check_reach(runner, "gs://made/shards", [])


def test_s3_on_dataflow_needs_a_container_image() -> None:
    with pytest.raises(RunnerError, match="that provides credentials"):
        runners.check_reach(
            runners.select_runner([*DATAFLOW, *INSTALLED]), "gs://made", ["s3://raw/a"]
        )
    runners.check_reach(
        runners.select_runner([*DATAFLOW, "--sdk_container_image=i"]), "s3://made", ["s3://raw/a"]
    )


@pytest.mark.parametrize(
    ("asked", "hints"),
    [
        ([], ["min_ram=4GB"]),
        (["--resource_hints=cpu_count=4"], ["cpu_count=4", "min_ram=4GB"]),
        (["--resource_hints=min_ram=16GB"], ["min_ram=16GB"]),
    ],
)
def test_dataflow_gets_a_memory_hint_unless_one_is_set(asked: list[str], hints: list[str]) -> None:
    options = runners.select_runner([*DATAFLOW, *asked]).options.get_all_options()
    assert options["resource_hints"] == hints
