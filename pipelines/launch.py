"""Launching a build: checks before any work, the runner's options, the run, and its table."""

import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines import progress, report
from pipelines.compose import compose
from pipelines.raw_files import exists, is_local
from pipelines.recipe import RecipeError, load, with_root
from pipelines.stages import Build
from pipelines.text import model_name_and_version
from shards import manifest as mf

# What the steps raise about the input, which a runner may pass on only as the text of a traceback.
_PLAIN_ERRORS = re.compile(
    r"(?:RawFileError|StrictError|TooManyRejectedError): (.*?)(?: \[while running|\n|$)"
)


class BuildFailedError(Exception):
    """Why a build was refused or failed, in plain words."""


def run(
    recipe_name: str,
    output: str,
    root: str,
    beam_arguments: Sequence[str],
    *,
    strict: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Builds a shard set, and returns when its manifest is written.

    Raises:
        BuildFailedError: the recipe, a file, the output or an option is not as it must be, or too
            many records were rejected. There is then no manifest.
    """
    options, local = _options(beam_arguments)
    try:
        as_written = load(recipe_name)
        recipe = with_root(as_written, root)
        if any(source.parses for source in recipe.sources.values()):
            model_name_and_version()
    except (RecipeError, ModuleNotFoundError) as error:
        raise BuildFailedError(str(error)) from error
    output = output.rstrip("/")
    _prepare_output(output, overwrite)
    log = Path(output) / ".scratch" / "progress.tsv" if local and is_local(output) else None
    build = Build(recipe, as_written, output, strict, str(log or ""))
    started = time.monotonic()
    if log:
        with progress.shown(log, _totals(build), quiet):
            _run(options, build)
    else:
        _run(options, build)
    stages = progress.read(log) if log else {}
    _remove_scratch(build.scratch)
    if not quiet and is_local(output):
        print(report.table(mf.load(output), stages, time.monotonic() - started))
        print(f"\nThe shard set is in {output}; manifest.json tells what is in it.")


def _run(options: PipelineOptions, build: Build) -> None:
    try:
        pipeline = beam.Pipeline(options=options)
        compose(pipeline, build)
        pipeline.run().wait_until_finish()
    except Exception as error:
        # Runners wrap what a step raises, and some pass on no more than the worker's traceback.
        plain = _PLAIN_ERRORS.findall(f"{type(error).__name__}: {error}\n")
        if plain:
            raise BuildFailedError(plain[-1]) from error
        raise


def _options(arguments: Sequence[str]) -> tuple[PipelineOptions, bool]:
    """Beam's options, with the local defaults, and whether the local runner is meant."""
    options = PipelineOptions(list(arguments))
    given = options.get_all_options(drop_default=True)
    runner = str(given.get("runner") or "DirectRunner").rpartition(".")[2]
    if runner == "DaskRunner":
        raise BuildFailedError(
            "the DaskRunner drops the outputs for rejected records without a word; choose another"
        )
    if given.get("direct_running_mode") == "multi_threading":
        raise BuildFailedError(
            "direct_running_mode=multi_threading loses elements without a word; choose "
            "multi_processing or in_memory"
        )
    if runner not in ("DirectRunner", "FnApiRunner"):
        return options, False
    known = given.keys() | options.get_all_options().keys()
    unknown = options.get_all_options(retain_unknown_options=True).keys() - known
    if unknown:
        raise BuildFailedError(f"unknown options: {', '.join(sorted(unknown))}")
    # Without prism_location=none the DirectRunner downloads another engine; see docs/runners.md.
    defaults = ["--prism_location=none", "--default_sdk_harness_log_level=WARNING"]
    cores = os.cpu_count() or 1
    if cores > 1:
        defaults += ["--direct_running_mode=multi_processing", f"--direct_num_workers={cores}"]
    return PipelineOptions([*defaults, *arguments, "--runner=DirectRunner"]), True


def _prepare_output(output: str, overwrite: bool) -> None:
    """Makes the folder, and takes back the manifest of an older build: it is the mark of a set."""
    manifest = FileSystems.join(output, mf.NAME)
    if exists(manifest):
        if not overwrite:
            raise BuildFailedError(f"{output} is a finished shard set; --overwrite replaces it")
        FileSystems.delete([manifest])
    if is_local(output):
        scratch = Path(output) / ".scratch"
        try:
            Path(output).mkdir(parents=True, exist_ok=True)
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(exist_ok=True)
        except OSError as error:
            raise BuildFailedError(f"cannot write to {output}: {error}") from error


def _remove_scratch(scratch: str) -> None:
    if is_local(scratch):
        shutil.rmtree(scratch)
    elif exists(scratch):
        FileSystems.delete([scratch])


def _totals(build: Build) -> dict[str, int]:
    """How many elements a stage has, where that is known before the run."""
    splits = build.recipe.splits.values()
    return {"write shards": sum(split.shards for split in splits)}
