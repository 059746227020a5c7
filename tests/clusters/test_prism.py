"""Builds on Prism, the runner that Beam's Go SDK has: the bytes of a local build."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil

from tests.clusters.downloads import prism
from tests.clusters.requirements import require
from tests.end_to_end.built_sets import set_digests
from tests.processes import run, started


def command(raw: Path, output: Path, *options: str) -> list[str]:
    """Returns a build on a Prism that Beam starts, with the workers in the command itself."""
    require("go", hosts=False)
    build = [sys.executable, "-m", "pipelines.build", "demo", f"--root={raw}", *options]
    return [*build, f"--output={output}", "--runner=PrismRunner", f"--prism_location={prism()}"]


def test_prism_makes_the_local_bytes(raw: Path, expected: dict[str, str], tmp_path: Path) -> None:
    run(command(raw, tmp_path / "shards"), timeout=400, check=True)
    assert set_digests(tmp_path / "shards") == expected


def test_interrupt_cancels_the_job_on_prism(raw: Path, tmp_path: Path) -> None:
    """Ctrl-C reaches the children of the command, too: the server must live to cancel the job."""
    environment = {"TMPDIR": str(tmp_path)}
    with started(command(raw, tmp_path / "shards"), env=environment) as process:
        assert process.stdout
        assert next(line for line in process.stdout if line.startswith("log: "))
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.read().splitlines() == [
            "cancelling job-001; Ctrl-C leaves it running",
            "the job server states CANCELLED",
            "mdetr-build: interrupted",
        ]
        assert process.wait() == 130


def is_ignored(number: signal.Signals, pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    [ignored] = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")]
    return bool(int(ignored, 16) >> (number - 1) & 1)


def test_sigterm_while_the_server_starts_ends_both(raw: Path, tmp_path: Path) -> None:
    """The server, which would never answer, does not get the signal."""
    server = tmp_path / "server"
    server.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/new && mv {tmp_path}/new {tmp_path}/pid\nexec sleep 1000"
    )
    build = [*command(raw, tmp_path / "shards"), f"--prism_location={server}"]
    with started(build, env={"TMPDIR": str(tmp_path)}) as process:
        deadline = time.monotonic() + 300
        while not (tmp_path / "pid").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        of_server = psutil.Process(int((tmp_path / "pid").read_text()))
        while is_ignored(signal.SIGTERM, process.pid):  # while the command starts the server
            time.sleep(0.1)
        process.terminate()
        assert process.communicate(timeout=120)[0].splitlines() == ["mdetr-build: interrupted"]
        assert process.returncode == 130
        of_server.wait(30)


def test_file_with_an_error_is_named_by_prism(raw: Path, tmp_path: Path) -> None:
    wrong = "--set=sources.vg.region_graphs=gqa/train_sceneGraphs.json"
    done = run(command(raw, tmp_path / "shards", wrong), env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 1
    *lines, error = done.stderr.splitlines()
    reason = f"{raw}/gqa/train_sceneGraphs.json: expected a JSON list"
    assert error.startswith(f"mdetr-build: error: {reason}")
    assert [line.partition(" ")[0] for line in lines] == ["submitted", "log:", "full"]
