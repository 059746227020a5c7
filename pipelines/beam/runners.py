"""Selects the Beam runner of a command line, and refuses options that lose data."""

import contextlib
import datetime
import importlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
)

from shards.terminal import listed

_LOCAL = ("direct", "fnapi")
_WITH_JOB_SERVER = ("portable", "flink", "spark", "prism")
_MEMORY = "min_ram=4GB"  # of a worker with one or two processes; see docs/runners.md
_ENVIRONMENTS = {
    "LOOPBACK": "this command is the only worker: a trial, or an engine on this machine",
    "DOCKER": "containers of --environment_config=IMAGE, which pipelines/Dockerfile makes",
    "EXTERNAL": "worker pools beside the engine's workers, at --environment_config=HOST:PORT",
    "PROCESS": 'a program on every host, --environment_config=\'{"command": "PATH"}\'',
}


class RunnerError(Exception):
    """The options of a runner are wrong; the message has a line for each error."""


class Runner(NamedTuple):
    """A runner's short name, such as ``direct`` or ``dataflow``, and Beam's options for it."""

    name: str
    options: PipelineOptions

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine, in processes that the launcher starts."""
        return self.name in _LOCAL

    @property
    def ends_with_launcher(self) -> bool:
        """Whether a build cannot go on without the launcher."""
        return self.is_local or self.is_loopback

    @property
    def has_job_server(self) -> bool:
        """Whether a job server runs the pipeline: that of Flink, Spark, Prism, or another."""
        return self.name in _WITH_JOB_SERVER

    @property
    def job_endpoint(self) -> str:
        """``HOST:PORT`` of a running job server; empty if Beam starts one."""
        return self.options.view_as(PortableOptions).job_endpoint or ""

    @property
    def is_loopback(self) -> bool:
        """Whether a job server sends all steps back to this process."""
        environment = self.options.view_as(PortableOptions).environment_type
        return self.has_job_server and environment == "LOOPBACK"


def select_runner(arguments: Sequence[str]) -> Runner:
    """Returns the runner that command line arguments select, with local defaults.

    Raises:
        RunnerError: The runner or one of its options loses data, or an option is unknown.
    """
    options = PipelineOptions(list(arguments))
    with _no_warnings_of_unknown_options():
        stated = options.get_all_options(drop_default=True)
        known = stated.keys() | options.get_all_options().keys()
    # As in Beam, DirectRunner, directrunner and direct are the same.
    name = str(stated.get("runner") or "direct").rpartition(".")[2].lower().removesuffix("runner")
    if name == "dask":
        raise RunnerError(
            "the DaskRunner silently drops the outputs for rejected records; choose another runner"
        )
    if stated.get("direct_running_mode") == "multi_threading":
        raise RunnerError(
            "direct_running_mode=multi_threading silently loses elements; choose "
            "multi_processing or in_memory"
        )
    if name in _WITH_JOB_SERVER:
        if _starts_engine(name, stated):
            options = PipelineOptions(["--environment_type=LOOPBACK", *arguments])
        elif name == "portable" and not stated.get("job_endpoint"):
            raise RunnerError(
                "--runner=PortableRunner needs a job server: --job_endpoint=HOST:PORT"
            )
        _check_environment(options)
    if name not in (*_LOCAL, "dataflow"):
        return Runner(name, options)  # a job server may know options that Beam does not
    unknown = options.get_all_options(retain_unknown_options=True).keys() - known
    if unknown:
        raise RunnerError(f"unknown options: {', '.join(f'--{name}' for name in sorted(unknown))}")
    if name == "dataflow":
        if not any(hint.startswith("min_ram=") for hint in stated.get("resource_hints", [])):
            options = PipelineOptions([*arguments, f"--resource_hints={_MEMORY}"])
        return Runner(name, options)
    # Without prism_location=none the DirectRunner downloads another engine; see docs/runners.md.
    defaults = ["--prism_location=none", "--default_sdk_harness_log_level=WARNING"]
    cores = os.cpu_count() or 1
    if cores > 1:
        defaults += ["--direct_running_mode=multi_processing", f"--direct_num_workers={cores}"]
    return Runner(name, PipelineOptions([*defaults, *arguments, "--runner=DirectRunner"]))


def _starts_engine(name: str, stated: Mapping[str, Any]) -> bool:
    """Returns whether Beam starts the engine itself, on this machine, for this job."""
    flink = stated.get("flink_master", "[auto]")
    spark = stated.get("spark_master_url", "local")
    return not stated.get("job_endpoint") and (
        name == "prism"
        or (name == "flink" and flink in ("[auto]", "[local]"))
        or (name == "spark" and spark.startswith("local"))
    )


def _check_environment(options: PipelineOptions) -> None:
    """Checks that it is stated where the workers of a job server come from.

    Beam's default is a container without this package.

    Raises:
        RunnerError: It is not, or they lack an image, an address or a program.
    """
    portable = options.view_as(PortableOptions)
    environment = portable.environment_type
    if not environment or environment not in _ENVIRONMENTS:
        problem = f"{environment} is unknown" if environment else "is missing"
        lines = [f"  {name}: {meaning}" for name, meaning in _ENVIRONMENTS.items()]
        raise RunnerError("\n".join([f"--environment_type {problem}; workers are", *lines]))
    if environment != "LOOPBACK" and not (
        portable.environment_config or portable.environment_options
    ):
        raise RunnerError(f"--environment_type={environment} means {_ENVIRONMENTS[environment]}")


@contextlib.contextmanager
def _no_warnings_of_unknown_options() -> Iterator[None]:
    logger = logging.getLogger("apache_beam.options.pipeline_options")
    logger.addFilter(_is_not_about_unknown_options)
    try:
        yield
    finally:
        logger.removeFilter(_is_not_about_unknown_options)


def _is_not_about_unknown_options(record: logging.LogRecord) -> bool:
    return "Discarding unparseable args" not in record.getMessage()


def create_pipeline(runner: Runner) -> beam.Pipeline:
    """Creates an empty pipeline for a runner.

    Raises:
        RunnerError: There is no such runner, or options are missing or contradict each other.
    """
    if runner.name == "dataflow":
        try:
            importlib.import_module("apache_beam.runners.dataflow.internal.apiclient")
        except ImportError as error:
            raise RunnerError(
                f'Dataflow needs a library that is not installed: pip install ".[gcp]" ({error})'
            ) from error
    if runner.is_local:
        # Read when a worker process imports numpy: each has a core, not threads on all of them.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        pipeline = beam.Pipeline(options=runner.options)
    except ValueError as error:
        raise RunnerError(str(error)) from error
    # For steps in other languages; Beam deletes it after a run, but there may be none.
    shutil.rmtree(pipeline.local_tempdir)
    return pipeline


def name_job(runner: Runner, recipe_name: str) -> None:
    """Gives the job of a job server a name, by which the engine's pages list it, unless it has one.

    Args:
        runner: the runner, whose options are changed.
        recipe_name: the name of the recipe.
    """
    options = runner.options.view_as(GoogleCloudOptions)  # which has the name for all runners
    if runner.has_job_server and not options.job_name:
        now = datetime.datetime.now(datetime.UTC)
        options.job_name = f"mdetr-build-{recipe_name}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def check_reach(
    runner: Runner, output: str, paths: Iterable[str], *, shared_disk: bool = False
) -> None:
    """Checks that workers on other machines can access the files and install this package.

    Args:
        runner: the runner, with its options.
        output: the folder of the shard set.
        paths: what workers read.
        shared_disk: Whether all machines have the same files under the same local paths.

    Raises:
        RunnerError: A path is local to this machine, or workers cannot install this package.
    """
    if runner.name == "dataflow":
        _check_reach_of_dataflow(runner, output, list(paths))
    elif runner.has_job_server and not runner.is_loopback and not shared_disk:
        local = [path for path in (output, *paths) if _is_local(path)]
        if local:
            raise RunnerError(
                f"workers of a job server may be on other machines, and these paths are local: "
                f"{listed(local, 2)}; use a bucket, or --shared-disk if all machines have the same "
                "files there"
            )


def check_detach(runner: Runner) -> None:
    """Checks that a job can go on when this command has ended.

    Raises:
        RunnerError: It cannot.
    """
    if runner.is_loopback:
        raise RunnerError("--detach: with --environment_type=LOOPBACK this command is the worker")
    if runner.name != "dataflow" and not (runner.has_job_server and runner.job_endpoint):
        raise RunnerError(
            "--detach needs an engine that outlives this command: a job server at "
            "--job_endpoint=HOST:PORT, or Dataflow"
        )


def _is_local(path: str) -> bool:
    return FileSystems.get_scheme(path) in (None, "file")


def _check_reach_of_dataflow(runner: Runner, output: str, paths: list[str]) -> None:
    stated = runner.options.get_all_options(drop_default=True)
    schemes = {path: FileSystems.get_scheme(path) for path in [*paths, output]}
    errors = []
    if schemes[output] not in ("gs", "s3"):
        errors.append(f"--output={output}: workers of Dataflow write to gs:// or s3://")
    errors += [
        f"{path}: local to this machine, workers of Dataflow cannot read it"
        for path in paths
        if _is_local(path)
    ]
    if not stated.get("sdk_container_image"):
        if not (stated.get("setup_file") and stated.get("requirements_file")):
            errors.append(
                "workers of Dataflow need this package: --sdk_container_image, or --setup_file and "
                "--requirements_file, see docs/runners.md"
            )
        if "s3" in schemes.values():
            errors.append("s3:// needs an --sdk_container_image that provides credentials")
    if errors:
        raise RunnerError("\n".join(errors))
