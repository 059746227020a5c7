"""Which runner is meant: its options, with the local defaults, and what is refused and why."""

import importlib
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

_LOCAL = ("direct", "fnapi")
_MEMORY = "min_ram=4GB"  # of a worker with one or two processes; see docs/runners.md


class RunnerError(Exception):
    """All that is wrong with the options of a runner, a line each."""


class Runner(NamedTuple):
    """A runner by its short name, such as ``direct`` or ``dataflow``, and Beam's options for it."""

    name: str
    options: PipelineOptions

    @property
    def is_local(self) -> bool:
        return self.name in _LOCAL


def chosen(arguments: Sequence[str]) -> Runner:
    """The runner of a command line.

    Raises:
        RunnerError: it or an option of it loses data, or an option is unknown.
    """
    options = PipelineOptions(list(arguments))
    given = options.get_all_options(drop_default=True)
    # As Beam does, take DirectRunner, directrunner and direct for the same.
    name = str(given.get("runner") or "direct").rpartition(".")[2].lower().removesuffix("runner")
    if name == "dask":
        raise RunnerError(
            "the DaskRunner drops the outputs for rejected records without a word; choose another"
        )
    if given.get("direct_running_mode") == "multi_threading":
        raise RunnerError(
            "direct_running_mode=multi_threading loses elements without a word; choose "
            "multi_processing or in_memory"
        )
    if name not in (*_LOCAL, "dataflow"):
        return Runner(name, options)  # a job server may know options that Beam does not
    known = given.keys() | options.get_all_options().keys()
    unknown = options.get_all_options(retain_unknown_options=True).keys() - known
    if unknown:
        raise RunnerError(f"unknown options: {', '.join(sorted(unknown))}")
    if name == "dataflow":
        if not any(hint.startswith("min_ram=") for hint in given.get("resource_hints", [])):
            options = PipelineOptions([*arguments, f"--resource_hints={_MEMORY}"])
        return Runner(name, options)
    # Without prism_location=none the DirectRunner downloads another engine; see docs/runners.md.
    defaults = ["--prism_location=none", "--default_sdk_harness_log_level=WARNING"]
    cores = os.cpu_count() or 1
    if cores > 1:
        defaults += ["--direct_running_mode=multi_processing", f"--direct_num_workers={cores}"]
    return Runner(name, PipelineOptions([*defaults, *arguments, "--runner=DirectRunner"]))


def pipeline(runner: Runner) -> beam.Pipeline:
    """An empty pipeline for a runner.

    Raises:
        RunnerError: there is no such runner, or options are missing or contradict each other.
    """
    if runner.name == "dataflow":
        try:
            importlib.import_module("apache_beam.runners.dataflow.internal.apiclient")
        except ImportError as error:
            raise RunnerError(f"Dataflow needs the extra gcp ({error})") from error
    try:
        return beam.Pipeline(options=runner.options)
    except ValueError as error:
        raise RunnerError(str(error)) from error


def check_reach(runner: Runner, output: str, paths: Iterable[str]) -> None:
    """Whether workers of another machine have what they need.

    Raises:
        RunnerError: they would look for files on their own disks, or lack this package.
    """
    if runner.name != "dataflow":
        return  # others may run here, or share a disk
    given = runner.options.get_all_options(drop_default=True)
    paths = list(paths)
    schemes = {path: FileSystems.get_scheme(path) for path in [*paths, output]}
    errors = []
    if schemes[output] not in ("gs", "s3"):
        errors.append(f"--output={output}: workers of Dataflow write to gs:// or s3://")
    errors += [
        f"{path}: on this machine, where workers of Dataflow do not see it"
        for path in paths
        if schemes[path] in (None, "file")
    ]
    if not given.get("sdk_container_image"):
        if not (given.get("setup_file") and given.get("requirements_file")):
            errors.append(
                "workers of Dataflow need this package: --sdk_container_image, or --setup_file and "
                "--requirements_file, see docs/runners.md"
            )
        if "s3" in schemes.values():
            errors.append("s3:// needs an --sdk_container_image that brings credentials")
    if errors:
        raise RunnerError("\n".join(errors))
