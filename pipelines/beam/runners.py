"""Selects the Beam runner of a command line, and refuses options that lose data."""

import contextlib
import importlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

_LOCAL = ("direct", "fnapi")
_MEMORY = "min_ram=4GB"  # of a worker with one or two processes; see docs/runners.md


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
    try:
        return beam.Pipeline(options=runner.options)
    except ValueError as error:
        raise RunnerError(str(error)) from error


def check_reach(runner: Runner, output: str, paths: Iterable[str]) -> None:
    """Checks that workers on other machines can access the files and install this package.

    Raises:
        RunnerError: A path is local to this machine, or workers cannot install this package.
    """
    if runner.name != "dataflow":
        return  # others may run on this machine, or share a disk
    stated = runner.options.get_all_options(drop_default=True)
    paths = list(paths)
    schemes = {path: FileSystems.get_scheme(path) for path in [*paths, output]}
    errors = []
    if schemes[output] not in ("gs", "s3"):
        errors.append(f"--output={output}: workers of Dataflow write to gs:// or s3://")
    errors += [
        f"{path}: local to this machine, workers of Dataflow cannot read it"
        for path in paths
        if schemes[path] in (None, "file")
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
