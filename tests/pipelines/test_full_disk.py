"""A build that cannot write ends soon, with one line and without a manifest."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.beam import progress
from tests import tiny

MAX_FILE_BYTES = 30_000  # fewer than a shard has, more than the small files


def test_build_beyond_the_size_of_a_file_ends_with_one_line(tmp_path: Path) -> None:
    """The limit stands for a full disk, which needs a disk of one's own to test."""
    images = [tiny.vg_image(i) for i in range(1, 9)]
    graphs = [tiny.vg_graph(i, tiny.vg_region(i, f"the dog {i}")) for i in range(1, 9)]
    vg = tiny.write_vg(tmp_path, images, graphs)
    recipe = tiny.write_recipe(tmp_path / "recipe.toml", sources={"vg": vg})
    command = [sys.executable, "-m", "pipelines.build", str(recipe), f"--root={tmp_path}"]
    command += [f"--output={tmp_path}/shards", "--quiet"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))

    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, preexec_fn=limit
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    output = f"{tmp_path}/shards"
    assert line.startswith(f"mdetr-build: error: cannot write to {output}: File too large; free ")
    assert f" bytes in {output} and " in line
    assert not (tmp_path / "shards/manifest.json").exists()
    assert subprocess.run(command, capture_output=True, timeout=300, check=False).returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
def test_messages_of_workers_are_dropped_and_do_not_fail_if_the_log_is_full(tmp_path: Path) -> None:
    path = tmp_path / "progress.tsv"
    path.with_suffix(".log").symlink_to("/dev/full")
    with progress.show_bars(path, quiet=True):
        for _ in range(100):
            assert os.write(2, b"x" * 10_000) == 10_000


def test_messages_of_workers_are_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "progress.tsv"
    with progress.show_bars(path, quiet=True):
        subprocess.run(["sh", "-c", "echo worker >&2"], check=True)
        os.write(2, b"launcher\n")
    assert path.with_suffix(".log").read_text() == "worker\nlauncher\n"
