"""Launching a build: checks before any work, the runner's options, the run, and its table."""

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines import progress, report
from pipelines.compose import compose
from pipelines.raw_files import exists, is_local, open_binary
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
    FileSystems.set_options(options)  # as the workers' runner does for them
    try:
        as_written = load(recipe_name, root)
        recipe = with_root(as_written, root)
        if any(source.parses for source in recipe.sources.values()):
            model_name_and_version()
    except (RecipeError, ModuleNotFoundError) as error:
        raise BuildFailedError(str(error)) from error
    output = output.rstrip("/")
    with _lock(output):
        _prepare_output(output, overwrite)
        log = Path(output) / ".scratch" / "progress.tsv" if local and is_local(output) else None
        build = Build(recipe, as_written, output, strict, str(log or ""))
        started = time.monotonic()
        if log:
            with progress.shown(log, quiet):
                _run(options, build)
        else:
            _run(options, build)
        stages = progress.read(log) if log else {}
        _remove_scratch(build.scratch)
    if not quiet:
        with open_binary(FileSystems.join(output, mf.NAME)) as file:
            manifest = mf.decode(file.read(), output)
        print(report.table(manifest, stages, time.monotonic() - started))
        print(f"\nThe shard set is in {output}; {mf.NAME} tells what is in it.")


def _run(options: PipelineOptions, build: Build) -> None:
    shards = sum(split.shards for split in build.recipe.splits.values())
    progress.tick(build.progress, "write shards", done=0, more=shards)
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
    # As Beam does, take DirectRunner, directrunner and direct for the same.
    runner = str(given.get("runner") or "direct").rpartition(".")[2].lower().removesuffix("runner")
    if runner == "dask":
        raise BuildFailedError(
            "the DaskRunner drops the outputs for rejected records without a word; choose another"
        )
    if given.get("direct_running_mode") == "multi_threading":
        raise BuildFailedError(
            "direct_running_mode=multi_threading loses elements without a word; choose "
            "multi_processing or in_memory"
        )
    if runner not in ("direct", "fnapi"):
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


@contextlib.contextmanager
def _lock(output: str) -> Iterator[None]:
    """Keeps two builds out of one local folder; a killed build holds no lock."""
    if not is_local(output):
        yield
        return
    try:
        Path(output).mkdir(parents=True, exist_ok=True)
        folder = os.open(output, os.O_RDONLY)
    except OSError as error:
        raise BuildFailedError(f"cannot write to {output}: {error}") from error
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BuildFailedError(f"another build is writing to {output}") from error
        yield
    finally:
        os.close(folder)


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
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(exist_ok=True)
        except OSError as error:
            raise BuildFailedError(f"cannot write to {output}: {error}") from error


def _remove_scratch(scratch: str) -> None:
    if is_local(scratch):
        shutil.rmtree(scratch)
        return
    [below] = FileSystems.match([f"{scratch}/*"])
    if below.metadata_list:
        FileSystems.delete([metadata.path for metadata in below.metadata_list])
