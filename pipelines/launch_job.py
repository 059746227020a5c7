"""Runs a build as a job of a job server: submits it, shows its progress, waits, cancels it.

The messages of Beam and of the engine go to a log file, which is named before the job starts.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

import apache_beam as beam
import grpc
import msgspec

from pipelines.beam import job_server, portable_job, progress
from pipelines.beam.dofns import Build
from pipelines.beam.engine_page import EnginePage, cancel, engine_page
from pipelines.beam.job_progress import WRITE_SHARDS, JobProgress
from pipelines.beam.pipeline import add_steps
from pipelines.beam.portable_job import Job, JobFailedError
from pipelines.beam.progress import Stage
from pipelines.beam.runners import Runner
from pipelines.interrupts import deferred_interrupts
from pipelines.io.lease import JobLeftError
from shards.format import manifest as mf
from shards.format.placement import shard_name
from shards.terminal import count_noun


def check_job_server(runner: Runner) -> str:
    """Returns the name of the engine behind the job server, if there is one, once it answers.

    Raises:
        JobServerError: It does not answer, or cannot reach workers in this process.
    """
    if not runner.job_endpoint:
        return runner.name.capitalize()  # Beam starts a job server for this job
    stated = runner.options.get_all_options(drop_default=True)
    seconds = stated.get("job_server_timeout", job_server.SECONDS_TO_ANSWER)
    engine = job_server.check_answers(runner.job_endpoint, seconds)
    host = job_server.parse_endpoint(runner.job_endpoint).host
    if runner.is_loopback and not job_server.is_this_machine(host):
        raise job_server.JobServerError(
            f"--environment_type=LOOPBACK: workers of the engine at {host} cannot reach this "
            "process; it is for engines on this machine"
        )
    return engine


def run(
    pipeline: beam.Pipeline, runner: Runner, build: Build, engine: str, *, detach: bool, quiet: bool
) -> dict[str, Stage]:
    """Submits a build to the job server, and waits for its end unless ``detach`` is set.

    Args:
        pipeline: an empty pipeline of the runner.
        runner: a runner with a job server.
        build: the settings of the build.
        engine: the name of the engine; empty if it is not known.
        detach: Whether to leave when the job is submitted.
        quiet: Whether to show no progress.

    Returns:
        The stages of the job; none if it was left, or if its server reports no counters.

    Raises:
        JobFailedError: It could not be submitted, failed or was cancelled, or its server is lost.
        KeyboardInterrupt: Ctrl-C was pressed, and the server was asked to cancel the job.
        JobLeftError: It was pressed again meanwhile.
    """
    folder = Path(tempfile.mkdtemp(prefix="mdetr-build-"))
    log = folder / "job.log"
    if runner.is_loopback:  # workers are here, so that they can count in a file
        build = msgspec.structs.replace(build, progress=str(folder / "progress.tsv"))
    with _messages_to(log) as screen:
        job = None
        try:
            with deferred_interrupts():  # a job whose id is not known yet cannot be cancelled
                job = _submit(pipeline, runner, build)
            server = f"{engine or 'the job server'} at {runner.job_endpoint or 'localhost'}"
            if detach:
                print(_detached(runner, build, server, job))
                return {}
            if not quiet:
                print(_submitted(build, server, job), file=screen)
                print(f"log: {log}", file=screen, flush=True)
            return _wait(job, _page(runner, engine, job), build, screen, quiet)
        except KeyboardInterrupt:
            if job:
                _cancel(job, runner, engine, screen)
            raise
        except JobFailedError:
            print(f"full log: {log}", file=screen, flush=True)
            raise
        finally:
            if job and not detach:
                job.stop()


def _submit(pipeline: beam.Pipeline, runner: Runner, build: Build) -> Job:
    add_steps(pipeline, build)
    try:
        return portable_job.submit(pipeline, starts_server=not runner.job_endpoint)
    except Exception as error:  # of Java, of a download, of the protocol: they have no base class
        logging.exception("the job was not submitted")
        text = error.details() if isinstance(error, grpc.RpcError) else str(error)
        reason = next(iter(text.splitlines()), "")
        raise JobFailedError(
            f"the job was not submitted: {type(error).__name__}: {reason}"
        ) from error


def _page(runner: Runner, engine: str, job: Job) -> EnginePage:
    stated = runner.options.get_all_options(drop_default=True)
    return engine_page(engine, job, runner.job_endpoint, stated.get("flink_master", ""))


def _cancel(job: Job, runner: Runner, engine: str, screen: TextIO) -> None:
    """Cancels a job.

    Raises:
        JobLeftError: It was interrupted meanwhile, and the job goes on.
    """
    print(f"cancelling {job.id}; Ctrl-C leaves it running", file=screen, flush=True)
    try:
        print(cancel(job, _page(runner, engine, job)), file=screen, flush=True)
    except KeyboardInterrupt as error:
        if runner.is_loopback:  # its workers end with this process
            raise
        raise JobLeftError from error


def _wait(
    job: Job, page: EnginePage, build: Build, screen: TextIO, quiet: bool
) -> dict[str, Stage]:
    """Waits for the end of a job; returns its stages."""
    shards = {
        shard_name(name, shard, split.shards)
        for name, split in build.recipe.splits.items()
        for shard in range(split.shards)
    }

    def stages() -> Mapping[str, Stage]:
        if build.progress:
            return progress.read(Path(build.progress))
        counters = {}
        with contextlib.suppress(grpc.RpcError):
            counters = job.counters()
        return progress.of_counters(counters or page.counters())

    shown = JobProgress(screen, shards, build.output, stages)
    url = ""

    def show(state: str) -> None:
        nonlocal url
        if not url and (url := page.find()):
            shown.print(f"page: {url}")
        shown.show(state)

    try:
        job.wait(show if not quiet else lambda _: None)
    finally:
        shown.close()
    of_job = dict(stages())
    if WRITE_SHARDS in of_job:
        of_job[WRITE_SHARDS].total = len(shards)
    return of_job


def _submitted(build: Build, server: str, job: Job) -> str:
    recipe = build.recipe
    shards = count_noun(sum(split.shards for split in recipe.splits.values()), "shard")
    return f"submitted {recipe.name}, {shards} into {build.output}, to {server}: job {job.id}"


def _detached(runner: Runner, build: Build, server: str, job: Job) -> str:
    command = f"mdetr-build job {job.id} --job_endpoint={runner.job_endpoint}"
    if flink_master := runner.options.get_all_options(drop_default=True).get("flink_master"):
        command += f" --flink_master={flink_master}"
    return "\n".join(
        [
            _submitted(build, server, job),
            f"its state and page: {command}",
            f"to cancel it: {command} --cancel",
            f"it is done when there is {build.output}/{mf.NAME}, which is written last",
        ]
    )


@contextlib.contextmanager
def _messages_to(log: Path) -> Iterator[TextIO]:
    """Writes log messages and all that goes to stderr to a file; yields the real stderr."""
    handler = logging.FileHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    before = root.level, root.handlers
    root.handlers = [handler]  # Beam may have added one to stderr, which has the same messages
    root.setLevel(logging.INFO)
    try:
        with progress.stderr_to_log(log) as screen:
            yield screen
    finally:
        root.setLevel(before[0])
        root.handlers = before[1]
        handler.close()
