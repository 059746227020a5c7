"""The exit status of ``mdetr-shards``, and its messages."""

import subprocess
import sys
from pathlib import Path

import pytest

from shards.__main__ import main
from tests.processes import started
from tests.shard_sets import write_shard_set


@pytest.mark.parametrize(("command", "failure"), [("verify", 2), ("stats", 1), ("browse", 1)])
def test_failure_and_usage_have_their_status(
    command: str, failure: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(tmp_path / "nothing")]) == failure
    assert capsys.readouterr().err.startswith("mdetr-shards: error: ")
    with pytest.raises(SystemExit) as usage:
        main([command])
    assert usage.value.code == 2


def test_verify_that_finds_errors_has_status_1(tmp_path: Path) -> None:
    assert main(["verify", str(write_shard_set(tmp_path / "set", [[1]])), "--quiet"]) == 1


def test_error_is_one_line_without_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", str(tmp_path / "a\n\x1b[1mb")]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "a\\n\\x1b[1mb is not a shard set" in line


def test_output_that_cannot_be_written_is_named_in_the_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = str(write_shard_set(tmp_path / "set", [[1]]))
    (tmp_path / "file").touch()
    assert main(["export", "coco", shards, "--output", str(tmp_path / "file/out")]) == 1
    expected = f"mdetr-shards: error: {tmp_path}/file/out: Not a directory\n"
    assert capsys.readouterr().err == expected


def test_closed_stdout_ends_the_command_quietly(tmp_path: Path) -> None:
    """As in ``mdetr-shards verify SHARDS | head``."""
    shards = write_shard_set(tmp_path / "set", [[1] * 5] * 40)
    command = [sys.executable, "-m", "shards", "verify", shards, "--quiet"]
    with started(command, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(300) == 141
