"""The worker processes of the local runner end with the build, and say nothing."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from pipelines.io.beam_files import scratch_folder
from tests.end_to_end.test_same_bytes import command
from tests.processes import started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_ends_its_workers_and_prints_one_line(
    number: signal.Signals, small_dataset: Path, tmp_path: Path
) -> None:
    """A terminal sends Ctrl-C to all processes of the command, a scheduler SIGTERM."""
    output = tmp_path / "shards"
    progress = Path(scratch_folder(str(output)), "progress.tsv")
    with started(command(small_dataset, output)) as process:
        while not (progress.exists() and "read vg" in progress.read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        processes = psutil.Process(process.pid).children(recursive=True)
        assert len(processes) >= 2
        os.killpg(process.pid, number)
        text, _ = process.communicate(timeout=60)
        assert (process.returncode, text) == (130, "mdetr-build: interrupted\n")
        _, alive = psutil.wait_procs(processes, timeout=30)
        assert not alive
    assert not (output / "manifest.json").exists()
    assert not progress.with_name("shuffle").exists()
