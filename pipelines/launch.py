"""Launches a build: checks the inputs, runs the pipeline, prints the summary table."""

import contextlib
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import grpc
from apache_beam.io.filesystems import FileSystems

from pipelines.beam import progress, runners, summary_table
from pipelines.beam.dofns import Build
from pipelines.beam.pipeline import add_steps
from pipelines.beam.runners import Runner
from pipelines.captions.parsing import model_name_and_version
from pipelines.dedup.eval_exclusion import list_errors
from pipelines.fetch.catalog import read_catalog
from pipelines.fetch.plan import fetch_hint
from pipelines.io.beam_files import scratch_folder
from pipelines.io.folder_lock import FolderLockError, folder_lock
from pipelines.io.raw_files import (
    RawFileError,
    StoreError,
    exists,
    free_bytes,
    is_local,
    open_binary,
)
from pipelines.output_folder import OutputFolder, OutputFolderError
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

# Errors of the input that steps raise; a runner may pass on only the text of a traceback.
_INPUT_ERRORS = re.compile(
    r"(?:RawFileError|StoreError|StrictError|ImageIdsError|TooManyRejectedError|EmptyError|"
    r"LeakError|ConservationError): "
    r"(.*?)(?: \[while running|\n|$)"
)


# What writers raise on a full disk, beyond a quota, or beyond the size that a file may have.
_NO_SPACE = re.compile(r"(No space left on device|Disk quota exceeded|File too large)")


class BuildFailedError(Exception):
    """A build was refused or failed; the message says why, without a traceback."""


def run(
    recipe_name: str,
    output: str,
    root: str,
    beam_arguments: Sequence[str],
    *,
    overrides: Sequence[Override] = (),
    strict: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Builds a shard set, and returns when its manifest is written.

    Args:
        recipe_name: Name of a shipped recipe, or path of a TOML file.
        output: Folder of the shard set, local or a URL.
        root: Folder of the recipe's relative paths.
        beam_arguments: Options of Beam, as on a command line.
        overrides: Values of the recipe to set.
        strict: Whether to fail at the first rejected record.
        overwrite: Whether to replace a finished shard set.
        quiet: Whether to show neither progress nor the summary table.

    Raises:
        RunnerError: An option of the runner is wrong.
        BuildFailedError: The recipe, a file or the output is wrong, or too many records were
            rejected. There is then no manifest.
    """
    output = output.rstrip("/") or "/"
    try:
        runner = runners.select_runner(beam_arguments)
        FileSystems.set_options(runner.options)  # workers receive them from their runner
        as_written = load(recipe_name, root, overrides)
        recipe = _located(as_written, recipe_name, root)
        runners.check_reach(runner, output, recipe.paths())
        _check_lists(recipe)
        if recipe.uses_parser():
            model_name_and_version()  # raises ModuleNotFoundError
        pipeline = runners.create_pipeline(runner)
        terms = _terms(as_written, root)
    except (RecipeError, StoreError, ModuleNotFoundError) as error:
        raise BuildFailedError(str(error)) from error
    known_warnings = recipe.warnings()
    _print_warnings(known_warnings)
    folder = OutputFolder(output, recipe)
    with _output_errors(), _lock(output):
        folder.prepare(overwrite)
        with _progress_file(runner, output) as log:
            build = Build(
                recipe=_with_prepared_archives(recipe, output),
                as_written=as_written,
                output=output,
                terms=terms,
                strict=strict,
                progress=str(log or ""),
            )
            started = time.monotonic()
            with progress.show_bars(log, quiet) if log else progress.show_messages(quiet):
                _run(pipeline, build)
            manifest = _read_manifest(output)
            stages = progress.read(log) if log else {}
        _print_warnings(w for w in manifest.warnings if w not in known_warnings)
        folder.finish(manifest)
    if not quiet:
        print(summary_table.table(manifest, stages, time.monotonic() - started))
        print(f"\nThe shard set is in {output}; {mf.NAME} lists its contents.")


def _located(recipe: Recipe, recipe_name: str, root: str) -> Recipe:
    """Returns a recipe with its paths located; an error about missing ones says how to get them."""
    try:
        return with_root(recipe, root)
    except RecipeError as error:
        missing = missing_paths(recipe, root)
        hint = fetch_hint(read_catalog(), recipe.name, recipe_name, root, missing)
        raise RecipeError("\n".join(filter(None, [str(error), hint]))) from error


def _with_prepared_archives(recipe: Recipe, output: str) -> Recipe:
    try:
        return with_prepared_archives(recipe, scratch_folder(output))
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


def _run(pipeline: beam.Pipeline, build: Build) -> None:
    shards = sum(split.shards for split in build.recipe.splits.values())
    try:
        progress.tick(build.progress, "write shards", done=0, more=shards)
        add_steps(pipeline, build)
        pipeline.run().wait_until_finish()
    except grpc.FutureTimeoutError as error:
        raise BuildFailedError("the job server of --job_endpoint does not answer") from error
    except Exception as error:
        # Runners wrap the exceptions of steps, and some pass on only the worker's traceback.
        messages = _INPUT_ERRORS.findall(f"{type(error).__name__}: {error}\n")
        if messages:
            raise BuildFailedError(messages[-1]) from error
        no_space = _NO_SPACE.search("".join(traceback.format_exception(error)))
        if no_space:
            raise BuildFailedError(_no_space_message(no_space[1], build.output)) from error
        raise


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


def _lock(output: str) -> contextlib.AbstractContextManager[None]:
    """Prevents two builds into one local folder."""

    def refuse() -> None:
        raise BuildFailedError(f"another build is writing to {output}")

    return folder_lock(Path(output), refuse) if is_local(output) else contextlib.nullcontext()


@contextlib.contextmanager
def _output_errors() -> Iterator[None]:
    try:
        yield
    except (FolderLockError, OutputFolderError) as error:
        raise BuildFailedError(str(error)) from error
