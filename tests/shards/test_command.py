"""How ``python -m shards`` ends, and what it lets through to a terminal."""

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

from shards.__main__ import main
from shards.console import printable
from shards.inspection import spread
from tests.shard_sets import write_shard_set


@pytest.mark.parametrize("module", [printable, spread])
def test_examples(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0 and result.failed == 0


def test_what_cannot_be_done_is_another_status_than_a_fault(tmp_path: Path) -> None:
    made = write_shard_set(tmp_path / "set", [[1]])
    assert main(["verify", str(made), "--quiet"]) == 1
    assert main(["verify", str(tmp_path / "nothing"), "--quiet"]) == 2
    with pytest.raises(SystemExit) as end:
        main(["verify"])
    assert end.value.code == 2


def test_errors_are_one_line_without_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", str(tmp_path / "a\n\x1b[1mb")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "a\\n\\x1b[1mb is not a shard set" in line


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """As ``head`` does."""
    made = write_shard_set(tmp_path / "set", [[1] * 5] * 40)
    command = [sys.executable, "-m", "shards", "verify", str(made), "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
