"""Builds on a job server: the bytes of a local build, and what the command prints."""

import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from apache_beam.portability.api import beam_job_api_pb2_grpc

from pipelines.beam.portable_job import Job, has_ended
from pipelines.build import main as build
from tests.end_to_end.built_sets import set_digests
from tests.job_servers import job_server, worker_pool
from tests.processes import run, started

MAX_LINES = 5  # that a failure prints
LOOPBACK = ["--environment_type=LOOPBACK"]


@pytest.fixture(autouse=True)
def logs_of_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the logs of jobs be in the folder of the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


class Cluster:
    """A job server and a worker pool."""

    def __init__(self, folder: Path, raw: Path, endpoint: str, pool: str) -> None:
        self.raw = raw
        self.endpoint = endpoint
        self._orders = folder  # see `tests.portable_job_server`
        self.pool_log = folder / "worker_pool.log"
        #: The options for workers of the pool, which has the same disk.
        self.external = ["--environment_type=EXTERNAL", f"--environment_config={pool}"]
        self.external += ["--shared-disk"]

    @contextmanager
    def held_jobs(self) -> Iterator[None]:
        """Lets the jobs of the block begin, and go on after it."""
        hold = self._orders / "hold-jobs"
        hold.touch()
        try:
            yield
        finally:
            hold.unlink()

    @contextmanager
    def held_answer(self) -> Iterator[Callable[[], str]]:
        """Lets the server answer who submits a job after the block.

        Yields:
            What waits for the job, and returns its id.
        """
        hold, held = self._orders / "hold-answers", self._orders / "held"
        hold.touch()

        def wait() -> str:
            deadline = time.monotonic() + 120
            while not held.exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            return held.read_text()

        try:
            yield wait
        finally:
            hold.unlink()

    def arguments(self, output: Path, *options: str, raw: Path | None = None) -> list[str]:
        """Returns the arguments of a build on the job server."""
        return [
            *("demo", f"--root={raw or self.raw}", f"--output={output}", *options),
            *("--runner=PortableRunner", f"--job_endpoint={self.endpoint}"),
        ]

    def command(self, output: Path, *options: str, raw: Path | None = None) -> list[str]:
        """Returns the command of a build on the job server."""
        arguments = self.arguments(output, *options, raw=raw)
        return [sys.executable, "-m", "pipelines.build", *arguments]

    def job(self, job_id: str) -> Job:
        channel = grpc.insecure_channel(self.endpoint)
        return Job(beam_job_api_pb2_grpc.JobServiceStub(channel), job_id)


@pytest.fixture(scope="module")
def cluster(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with job_server(folder) as endpoint, worker_pool(folder / "worker_pool.log") as pool:
        yield Cluster(folder, small_dataset, endpoint, pool)


def lines_of(text: str) -> list[str]:
    """Returns the lines of stderr without the warnings of the recipe."""
    return [line for line in text.splitlines() if not line.startswith("warning: ")]


def job_id_of(line: str) -> str:
    submitted = re.search(r" job (job-[0-9a-f-]+)$", line)
    assert submitted, line
    return submitted[1]


def test_two_worker_processes_make_the_bytes_of_a_local_build(
    cluster: Cluster, small_set: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "shards"
    assert build(cluster.arguments(output, *cluster.external)) == 0
    assert set_digests(output) == set_digests(small_set)
    assert cluster.pool_log.read_text().count("Starting worker with command") == 2

    printed = capfd.readouterr()
    submitted, log = lines_of(printed.err)
    at_server = f"to the job server at {cluster.endpoint}: job "
    assert submitted.startswith(f"submitted demo, 12 shards into {output}, {at_server}")
    messages = Path(log.removeprefix("log: ")).read_text().splitlines()
    assert messages[-1].endswith(f"the job {job_id_of(submitted)} is DONE")
    stages = dict(re.findall(r"^(find slices|read vg|write shards) +(\d+) +\d", printed.out, re.M))
    assert stages["write shards"] == "12"
    assert int(stages["find slices"]) > 10 and int(stages["read vg"]) > 10


def test_detached_job_ends_as_a_whole_set(
    cluster: Cluster, small_set: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is left for the command to do, not even the files of an earlier, unfinished build."""
    output = tmp_path / "shards"
    shutil.copytree(small_set, output)
    arguments = cluster.arguments(output, *cluster.external, "--detach", "--overwrite")
    with cluster.held_jobs():
        assert build(arguments) == 0
        submitted, state, cancel, done = capfd.readouterr().out.splitlines()
        job_id = job_id_of(submitted)
        assert done == f"it is done when there is {output}/manifest.json, which is written last"
        job = cluster.job(job_id)
        assert not has_ended(job.state())  # the command did not wait
        for options in ([], ["--direct_running_mode=in_memory"]):  # on the engine, and here
            second = cluster.arguments(output, *cluster.external) if not options else arguments[:3]
            assert build([*second, *options, "--overwrite"]) == 3
            [error] = lines_of(capfd.readouterr().err)
            assert error.startswith(f"mdetr-build: error: another build is writing to {output}: ")
            assert f"it left a job running: if that has failed, delete {output}/" in error
    while not has_ended(job.state()):
        time.sleep(0.2)
    assert set_digests(output) == set_digests(small_set)  # and no other file

    command = f"mdetr-build job {job_id} --job_endpoint={cluster.endpoint}"
    assert (state, cancel) == (
        f"its state and page: {command}",
        f"to cancel it: {command} --cancel",
    )
    assert build(command.split()[1:]) == 0
    assert capfd.readouterr().out.splitlines()[0] == "DONE"


def test_job_that_the_server_does_not_know(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    assert build(["job", "job-7", f"--job_endpoint={cluster.endpoint}"]) == 1
    [error] = capfd.readouterr().err.splitlines()
    assert error.startswith("mdetr-build job: error: no state of job-7: ")


@pytest.mark.parametrize("workers", ["LOOPBACK", "EXTERNAL"])
def test_file_with_an_error_is_named_in_one_line_beside_the_log(
    cluster: Cluster, tmp_path: Path, workers: str
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(cluster.raw, raw)
    scene_graphs = raw / "gqa/train_sceneGraphs.json"
    scene_graphs.write_bytes(scene_graphs.read_bytes()[:100])
    options = LOOPBACK if workers == "LOOPBACK" else cluster.external
    done = run(cluster.command(tmp_path / "shards", *options, raw=raw))
    assert done.returncode == 1
    submitted, log, full_log, error = lines_of(done.stderr)
    assert submitted.startswith("submitted demo")
    assert error.startswith(f"mdetr-build: error: {scene_graphs}: expected ")
    assert full_log == f"full {log}"
    assert "Traceback (most recent call last)" in Path(log.removeprefix("log: ")).read_text()
    assert not (tmp_path / "shards/manifest.json").exists()


def test_record_with_an_error_is_named(
    cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = [*cluster.external, "--strict", "--quiet"]
    raw = tmp_path / "raw"
    shutil.copytree(cluster.raw, raw)
    regions = raw / "vg/region_graphs.json"
    regions.write_text(regions.read_text().replace('"phrase":"', '"phrase":7,"was":"', 1))
    assert build(cluster.arguments(tmp_path / "shards", *options, raw=raw)) == 1
    _, error = lines_of(capfd.readouterr().err)
    assert re.match(r"mdetr-build: error: vg \S+: malformed record ", error), error


def test_missing_file_is_refused_before_anything_is_submitted(
    cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(cluster.raw, raw)
    (raw / "vg/region_graphs.json").unlink()
    assert build(cluster.arguments(tmp_path / "shards", *LOOPBACK, raw=raw)) == 1
    lines = capfd.readouterr().err.splitlines()
    missing = f"mdetr-build: error: sources.vg: there is no {raw}/vg/region_graphs.json, "
    assert lines[0].startswith(missing) and len(lines) <= MAX_LINES
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--environment_type is missing; workers are"),
        (["--environment_type=loopback"], "--environment_type loopback is unknown; workers are"),
        (["--environment_type=DOCKER"], "--environment_type=DOCKER means containers of --env"),
        (["--environment_type=EXTERNAL", "--environment_config=localhost:5"], "--shared-disk if"),
        ([*LOOPBACK, "--detach"], "with --environment_type=LOOPBACK this command is the worker"),
        (["--detach", "--runner=DirectRunner"], "--detach needs an engine that outlives"),
    ],
)
def test_options_that_cannot_work_are_refused_in_a_few_lines(
    cluster: Cluster,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    arguments = cluster.arguments(tmp_path / "shards")
    if "--runner=DirectRunner" in options:
        arguments = arguments[:3]
    with pytest.raises(SystemExit) as end:
        build([*arguments, *options])
    assert end.value.code == 2
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("mdetr-build: error: ") and message in lines[0]
    assert len(lines) <= MAX_LINES
    assert not (tmp_path / "shards").exists()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """The port of a server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def errors_at(
    endpoint: str, raw: Path, output: Path, capfd: pytest.CaptureFixture[str]
) -> list[str]:
    """Returns the lines that a build prints if no job server answers there."""
    options = [*LOOPBACK, "--job_server_timeout=2", f"--job_endpoint={endpoint}"]
    arguments = ["demo", f"--root={raw}", f"--output={output}", "--runner=PortableRunner"]
    begin = time.monotonic()
    assert build([*arguments, *options]) == 1
    assert time.monotonic() - begin < 20
    assert not output.exists()
    return lines_of(capfd.readouterr().err)


def test_closed_port_is_named(
    small_dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    endpoint = f"localhost:{closed_port()}"
    assert errors_at(endpoint, small_dataset, tmp_path / "shards", capfd) == [
        f"mdetr-build: error: no job server answers at {endpoint} (--job_endpoint) within 2 s: "
        "Connection refused"
    ]


def test_unknown_host_is_named(
    small_dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    [line] = errors_at("nowhere.invalid:8099", small_dataset, tmp_path / "shards", capfd)
    assert line.startswith("mdetr-build: error: there is no host nowhere.invalid (--job_endpoint)")


def test_server_that_never_answers_is_named(
    small_dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], silent_port: int
) -> None:
    endpoint = f"127.0.0.1:{silent_port}"
    [line] = errors_at(endpoint, small_dataset, tmp_path / "shards", capfd)
    assert line == (
        f"mdetr-build: error: {endpoint} (--job_endpoint) accepts connections, but is no job "
        "server that answers within 2 s"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_cancels_the_job(
    cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str], number: int
) -> None:
    command = cluster.command(tmp_path / "shards", *cluster.external)
    with cluster.held_jobs(), started(command) as process:
        assert process.stdout
        submitted = next(line for line in process.stdout if line.startswith("submitted"))
        os.killpg(process.pid, number)  # as a terminal does, or a scheduler
        log, *after = lines_of(process.stdout.read())
        assert process.wait() == 130
        job_id = job_id_of(submitted.rstrip())
        assert log.startswith("log: ")
        assert after == cancelled(job_id)
        assert cluster.job(job_id).state() == "CANCELLED"
        # It may be asked again, as it must be where the engine went on.
        assert build(["job", job_id, f"--job_endpoint={cluster.endpoint}", "--cancel"]) == 0
        assert capfd.readouterr().out == "the job server states CANCELLED\n"
    assert not list((tmp_path / "shards").glob("*manifest*"))
    assert not (tmp_path / "shards/.mdetr-lease.json").exists()  # another build may begin


def cancelled(job_id: str) -> list[str]:
    """Returns the lines that a command prints at its interrupt."""
    return [
        f"cancelling {job_id}; Ctrl-C leaves it running",
        "the job server states CANCELLED",
        "mdetr-build: interrupted",
    ]


def test_interrupt_before_the_job_has_an_id_cancels_it(cluster: Cluster, tmp_path: Path) -> None:
    command = cluster.command(tmp_path / "shards", *cluster.external)
    with cluster.held_jobs(), started(command) as process:
        with cluster.held_answer() as submitted:
            job_id = submitted()
            assert not has_ended(cluster.job(job_id).state())
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)  # it does not leave the job
        assert process.stdout and lines_of(process.stdout.read()) == cancelled(job_id)
        assert process.wait() == 130
        assert cluster.job(job_id).state() == "CANCELLED"


def test_lost_job_server_fails_the_build(small_dataset: Path, tmp_path: Path) -> None:
    with worker_pool(tmp_path / "worker_pool.log") as pool, ExitStack() as server:
        endpoint = server.enter_context(job_server(tmp_path))
        cluster = Cluster(tmp_path, small_dataset, endpoint, pool)
        command = cluster.command(tmp_path / "shards", *cluster.external)
        with cluster.held_jobs(), started(command) as process:
            assert process.stdout
            submitted = next(line for line in process.stdout if line.startswith("submitted"))
            server.close()  # which kills it
            log, full_log, error = lines_of(process.stdout.read())
            assert process.wait() == 1
    lost = "mdetr-build: error: the job server does not answer any more ("
    assert error.startswith(lost)
    assert error.endswith(f"); the job {job_id_of(submitted.rstrip())} may go on without it")
    assert full_log == f"full {log}"


def test_terminal_shows_progress_in_one_line(cluster: Cluster, tmp_path: Path) -> None:
    """The job does nothing until there is a line, so that it cannot end before."""
    terminal, end = pty.openpty()
    with ExitStack() as held:
        held.enter_context(cluster.held_jobs())
        command = cluster.command(tmp_path / "shards", *cluster.external)
        with started(command, stderr=end) as process:
            os.close(end)
            printed = b""
            with suppress(OSError):  # how Linux reports the end of a pseudo terminal
                while content := os.read(terminal, 1 << 16):
                    printed += content
                    if b"RUNNING" in printed:
                        held.close()
            assert process.wait() == 0
    os.close(terminal)
    text = printed.decode()
    progress = re.findall(r"\r(RUNNING 0:00:\d\d  [^\r\n]*)\x1b\[K", text)
    assert progress
    assert re.search(r"shards written: \d+ of 12$", progress[-1])
    assert "\r\x1b[K" in text  # it is removed at the end
