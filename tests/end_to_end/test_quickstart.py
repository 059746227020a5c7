"""The program of docs/quickstart.md, as a user would run it."""

import re
import sys
from pathlib import Path

from tests import processes

QUICKSTART = processes.REPOSITORY / "docs/quickstart.md"


def test_quickstart_runs_in_an_empty_folder(tmp_path: Path) -> None:
    text = QUICKSTART.read_text(encoding="utf-8")
    [program] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = [line for line in program.splitlines() if line and not line.startswith("#")]
    assert f"{len(code)} lines" in text
    (tmp_path / "quickstart.py").write_text(program)
    folder = tmp_path / "empty"
    folder.mkdir()
    done = processes.run([sys.executable, "../quickstart.py"], cwd=folder, check=True, timeout=540)

    assert {path.name for path in folder.iterdir()} == {"raw", "shards"}
    read = re.search(r"^(\d+) images, (\d+) captions: '", done.stdout, re.MULTILINE)
    assert read is not None
    table = re.search(r"^train +(\d+) +[\d,]+ +(\d+) ", done.stdout, re.MULTILINE)
    assert table is not None
    assert read.groups() == table.groups()
    assert re.findall(r"^step (\d): loss \d+\.\d$", done.stdout, re.MULTILINE) == list("0123456789")
    assert len(re.findall(r"^GroundedObject\(.*score=0\.\d+\)$", done.stdout, re.MULTILINE)) == 3
    assert "warn" not in done.stderr.lower(), done.stderr
