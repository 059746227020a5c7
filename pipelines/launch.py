"""Launches a build: checks the inputs, runs the pipeline, prints the summary table."""

import contextlib
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import apache_beam as beam
import msgspec
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions
from apache_beam.runners.runner import PipelineResult

from pipelines import finished_set, launch_job
from pipelines.beam import failure, progress, runners, summary_table
from pipelines.beam.dofns import Build
from pipelines.beam.job_server import JobServerError
from pipelines.beam.pipeline import add_steps
from pipelines.beam.portable_job import JobFailedError
from pipelines.beam.progress import Stage
from pipelines.beam.runners import Runner
from pipelines.captions.parsing import model_name_and_version
from pipelines.dedup.eval_exclusion import list_errors
from pipelines.fetch.catalog import read_catalog
from pipelines.fetch.plan import fetch_hint
from pipelines.io import lease
from pipelines.io.beam_files import scratch_folder
from pipelines.io.conditional_files import has_conditions
from pipelines.io.folder_lock import FolderLockError, folder_lock
from pipelines.io.folders import list_names
from pipelines.io.lease import JobLeftError, Lease, LeaseError, LeaseHeldError, LeaseLostError
from pipelines.io.raw_files import (
    RawFileError,
    StoreError,
    exists,
    free_bytes,
    is_local,
    open_binary,
)
from pipelines.output_folder import (
    JOURNAL,
    OutputFolder,
    OutputFolderError,
    check_url,
    running_build,
)
from pipelines.recipe import (
    Recipe,
    RecipeError,
    load,
    missing_paths,
    with_prepared_archives,
    with_root,
)
from pipelines.synthetic import SYNTHETIC_MARK
from pipelines.terms import terms_of_sources
from schemas.toml_config import Override
from shards.format import manifest as mf
from shards.terminal import printable


class BuildFailedError(Exception):
    """A build was refused or failed; the message says why, without a traceback."""


class BusyError(Exception):
    """Another build writes to the output; the message says which."""


def run(
    recipe_name: str,
    output: str,
    root: str,
    beam_arguments: Sequence[str],
    *,
    overrides: Sequence[Override] = (),
    strict: bool = False,
    rebuild: bool = False,
    overwrite: bool = False,
    shared_disk: bool = False,
    detach: bool = False,
    quiet: bool = False,
) -> None:
    """Builds a shard set, and returns when its manifest is written, or its job is submitted.

    A whole set of the same recipe is left as it is.

    Args:
        recipe_name: Name of a shipped recipe, or path of a TOML file.
        output: Folder of the shard set, local or a URL.
        root: Folder of the recipe's relative paths.
        beam_arguments: Options of Beam, as on a command line.
        overrides: Values of the recipe to set.
        strict: Whether to fail at the first rejected record.
        rebuild: Whether to build a finished set of this recipe again.
        overwrite: Whether to replace a finished set of any recipe.
        shared_disk: Whether workers on other machines have the same files under the same paths.
        detach: Whether to return when the job is submitted.
        quiet: Whether to show neither progress nor the summary table.

    Raises:
        RunnerError: An option of the runner is wrong.
        BuildFailedError: The recipe, a file or the output is wrong, or too many records were
            rejected. There is then no manifest.
        BusyError: Another build writes to the output.
    """
    output = output.rstrip("/") or "/"
    with _output_errors(output):
        check_url(output)
    try:
        runner = runners.select_runner(beam_arguments)
        if detach:
            runners.check_detach(runner)
        if runner.has_job_server:
            root, output = _absolute(root), _absolute(output)
        FileSystems.set_options(runner.options)  # workers receive them from their runner
        as_written = load(recipe_name, root, overrides)
        recipe = _located(as_written, recipe_name, root)
        runners.check_reach(runner, output, recipe.paths(), shared_disk=shared_disk)
        _check_lists(recipe)
        if recipe.uses_parser():
            model_name_and_version()  # raises ModuleNotFoundError
        runners.name_job(runner, recipe.name)
        pipeline = runners.create_pipeline(runner)
        terms = _terms(as_written, root)
        engine = launch_job.check_job_server(runner) if runner.has_job_server else ""
    except (RecipeError, StoreError, ModuleNotFoundError, JobServerError) as error:
        raise BuildFailedError(str(error)) from error
    if not (rebuild or overwrite) and _is_finished(output, as_written, recipe, strict):
        _delete_leftovers(output, as_written, runner)
        if not quiet:
            print(f"{output} is a finished shard set of this recipe, and is left as it is.")
        return
    known_warnings = recipe.warnings()
    _print_warnings(known_warnings)
    with _output_errors(output), _lock(output, runner, detach) as of_build:
        folder = OutputFolder(output, as_written, of_build)
        folder.prepare(overwrite=overwrite, rebuild=rebuild)
        build = Build(
            recipe=_with_prepared_archives(recipe, scratch_folder(output, of_build)),
            as_written=as_written,
            output=output,
            terms=terms,
            lease=of_build,
            detached=detach,
            strict=strict,
            finishes_output=not runner.is_local,
        )
        started = time.monotonic()
        if runner.has_job_server:
            stages = _run_job(pipeline, runner, build, engine, detach=detach, quiet=quiet)
        else:
            stages = _run(pipeline, runner, build, detach=detach, quiet=quiet)
        if detach:
            return
        manifest = _read_manifest(output)
        _print_warnings(w for w in manifest.warnings if w not in known_warnings)
        folder.finish(manifest)
    if not quiet:
        print(summary_table.table(manifest, stages, time.monotonic() - started))
        print(f"\nThe shard set is in {output}; {mf.NAME} lists its contents.")


def _absolute(path: str) -> str:
    """Returns a local path as workers elsewhere can use it, who run in other folders."""
    return str(Path(path).absolute()) if is_local(path) else path


def _is_finished(output: str, as_written: Recipe, recipe: Recipe, strict: bool) -> bool:
    """Returns whether the output is a whole set of this recipe, without reading its files.

    Raises:
        BuildFailedError: It is a set of this recipe that would be built otherwise now.
    """
    try:
        manifest = finished_set.find(output, as_written.sha256())
    except (OSError, RawFileError, StoreError) as error:
        raise BuildFailedError(f"cannot write to {output}: {error}") from error
    if manifest is None:
        return False
    try:
        difference = finished_set.difference(output, manifest, recipe, strict=strict)
    except (OSError, StoreError) as error:
        raise BuildFailedError(str(error)) from error
    if difference:
        raise BuildFailedError(
            f"{output} is a finished shard set of this recipe, but {difference}; --rebuild builds "
            "it again"
        )
    return True


def _delete_leftovers(output: str, as_written: Recipe, runner: Runner) -> None:
    """Deletes what a build left that was killed after it had written the manifest."""
    with _output_errors(output):
        if JOURNAL in list_names(output):
            with _lock(output, runner, detach=False) as of_build:
                OutputFolder(output, as_written, of_build).finish(_read_manifest(output))


def _located(recipe: Recipe, recipe_name: str, root: str) -> Recipe:
    """Returns a recipe with its paths located; an error about missing ones says how to get them."""
    try:
        return with_root(recipe, root)
    except RecipeError as error:
        missing = missing_paths(recipe, root)
        hint = fetch_hint(read_catalog(), recipe.name, recipe_name, root, missing)
        raise RecipeError("\n".join(filter(None, [str(error), hint]))) from error


def _with_prepared_archives(recipe: Recipe, scratch: str) -> Recipe:
    try:
        return with_prepared_archives(recipe, scratch)
    except (OSError, RawFileError, StoreError) as error:
        raise BuildFailedError(str(error)) from error


def _terms(recipe: Recipe, root: str) -> dict[str, dict[str, mf.Terms]]:
    """Returns the terms of the datasets that each source of a recipe reads."""
    catalog = read_catalog()
    is_synthetic = recipe.name in catalog.synthetic_recipes or exists(
        f"{root.rstrip('/')}/{SYNTHETIC_MARK}" if root else SYNTHETIC_MARK
    )
    return terms_of_sources(recipe, catalog, is_synthetic=is_synthetic)


def _check_lists(recipe: Recipe) -> None:
    """Checks the lists of held-out images, which are small.

    Raises:
        RecipeError: One is wrong, or names no image.
    """
    others = recipe.own_namespaces()
    lines = [
        line
        for name, exclusion in recipe.exclude.items()
        for line in list_errors(name, exclusion, others)
    ]
    if lines:
        raise RecipeError("\n".join(lines))


def _print_warnings(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)


def _run_job(
    pipeline: beam.Pipeline,
    runner: Runner,
    build: Build,
    engine: str,
    *,
    detach: bool,
    quiet: bool,
) -> dict[str, Stage]:
    """Runs a build on a job server, and returns its stages."""
    try:
        return launch_job.run(pipeline, runner, build, engine, detach=detach, quiet=quiet)
    except JobFailedError as error:
        raise BuildFailedError(str(error)) from error


def _run(
    pipeline: beam.Pipeline, runner: Runner, build: Build, *, detach: bool, quiet: bool
) -> dict[str, Stage]:
    """Runs a build on this machine or on Dataflow, and returns its stages, if they are counted."""
    shards = sum(split.shards for split in build.recipe.splits.values())
    with _progress_file(runner, build.output) as log, _shuffle_folder(log) as shuffle:
        build = msgspec.structs.replace(build, progress=str(log or ""), shuffle=shuffle)
        with progress.show_bars(log, quiet) if log else progress.show_messages(quiet):
            try:
                progress.tick(build.progress, "write shards", done=0, more=shards)
                add_steps(pipeline, build)
                result = pipeline.run()
                if detach:
                    print(_detached(runner, build, result))
                    return {}
                _wait(runner, result)
            except Exception as error:
                # Runners wrap the exceptions of steps; some pass on only the worker's traceback.
                if message := failure.input_error(f"{type(error).__name__}: {error}\n"):
                    raise BuildFailedError(message) from error
                if no_space := failure.no_space("".join(traceback.format_exception(error))):
                    raise BuildFailedError(_no_space_message(no_space, build.output)) from error
                raise
        return progress.read(log) if log else {}


def _wait(runner: Runner, result: PipelineResult) -> None:
    """Waits for the end of a build.

    Raises:
        JobLeftError: It was interrupted, and goes on on Dataflow.
    """
    try:
        result.wait_until_finish()
    except KeyboardInterrupt as error:
        if runner.is_local:
            raise
        print(f"the job {result.job_id()} goes on: its page cancels it", file=sys.stderr)
        raise JobLeftError from error


def _detached(runner: Runner, build: Build, result: PipelineResult) -> str:
    """Returns what was submitted to Dataflow, or where the job is, if the service submits it."""
    template = runner.options.view_as(GoogleCloudOptions).template_location
    if template:
        return f"wrote the job of {build.recipe.name} to {template}"
    return f"submitted {build.recipe.name} to Dataflow: job {result.job_id()}"


def _no_space_message(error: str, output: str) -> str:
    """Returns that a disk is full, with the free bytes of the folders that a build writes to."""
    folders = [tempfile.gettempdir()]
    if is_local(output):
        folders = [output, *folders]
    free = " and ".join(f"{free_bytes(folder):,} bytes in {folder}" for folder in folders)
    return f"cannot write to {output}: {error}; free are {free}"


def _read_manifest(output: str) -> mf.Manifest:
    """Reads the manifest, which a run writes last."""
    path = FileSystems.join(output, mf.NAME)
    try:
        if not exists(path):
            raise BuildFailedError(
                f"the run ended, and there is no {path}: was it a dry run, or did workers write to "
                "their own disks?"
            )
        with open_binary(path) as file:
            return mf.decode(file.read(), output)
    except (OSError, StoreError) as error:
        raise BuildFailedError(f"the run ended, and {path} cannot be read: {error}") from error


@contextlib.contextmanager
def _progress_file(runner: Runner, output: str) -> Iterator[Path | None]:
    """Yields the file that local steps append to; other runners have web pages."""
    if not runner.is_local:
        yield None
    elif is_local(output):
        yield Path(scratch_folder(output)) / "progress.tsv"
    else:
        folder = Path(tempfile.mkdtemp(prefix="mdetr-build-"))
        try:
            yield folder / "progress.tsv"
        except BaseException:
            print(f"the log of the workers is in {folder}", file=sys.stderr)
            raise
        shutil.rmtree(folder)


@contextlib.contextmanager
def _shuffle_folder(log: Path | None) -> Iterator[str]:
    """Yields the folder of `shuffle_files` beside the log, which ends with the run; "" without."""
    if log is None:
        yield ""
        return
    folder = log.with_name("shuffle")
    try:
        yield str(folder)
    finally:
        # Only a slice has made it, and a worker of a build that failed may still write.
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _lock(output: str, runner: Runner, detach: bool) -> Iterator[Lease | None]:
    """Prevents two builds into one output; yields the lease, if there is one.

    In a folder, only a job that may go on without its launcher has one, or finds one.
    """
    with contextlib.ExitStack() as locks:
        if is_local(output):
            locks.enter_context(folder_lock(Path(output), lambda: _refuse(output)))
            needs_lease = not runner.ends_with_launcher or lease.NAME in list_names(output)
        else:
            needs_lease = has_conditions(output)
        yield locks.enter_context(_held(output, detach)) if needs_lease else None


def _refuse(output: str) -> NoReturn:
    holder = running_build(output)
    raise BusyError(f"another build is writing to {output}" + (f": {holder}" if holder else ""))


@contextlib.contextmanager
def _held(output: str, detach: bool) -> Iterator[Lease]:
    try:
        with lease.held(output, detach=detach) as of_build:
            yield of_build
    except JobLeftError:
        if JOURNAL not in list_names(output):  # the job ended before it could know
            lease.release(of_build)
        raise


@contextlib.contextmanager
def _output_errors(output: str) -> Iterator[None]:
    try:
        yield
    except LeaseHeldError as error:
        raise BusyError(str(error)) from error
    except (FolderLockError, LeaseError, LeaseLostError, OutputFolderError) as error:
        raise BuildFailedError(str(error)) from error
    except StoreError as error:
        raise BuildFailedError(f"cannot write to {output}: {error}") from error
