"""The exit statuses of the command, which are those of the table in docs/runners.md."""

import ast
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.build import main
from pipelines.io.beam_files import scratch_folder
from pipelines.io.folder_lock import folder_lock
from tests import tiny
from tests.processes import REPOSITORY, started

BUILD = [sys.executable, "-m", "pipelines.build"]


def arguments(folder: Path) -> list[str]:
    """Writes a small dataset and its recipe; returns the arguments of its build."""
    vg = tiny.write_vg(
        folder, [tiny.vg_image(1)], [tiny.vg_graph(1, tiny.vg_region(1, "a red cat"))]
    )
    recipe = tiny.write_recipe(folder / "recipe.toml", sources={"vg": vg})
    return [str(recipe), f"--root={folder}", f"--output={folder}/shards", "--quiet"]


def done(folder: Path) -> int:
    return main([*arguments(folder), "--direct_running_mode=in_memory"])


def failed(folder: Path) -> int:
    command = arguments(folder)
    (folder / "vg/region_graphs.json").write_bytes(b"[")
    return main([*command, "--direct_running_mode=in_memory"])


def wrong_usage(folder: Path) -> int:
    with pytest.raises(SystemExit) as end:
        main([*arguments(folder), "--outptu=x"])
    assert isinstance(end.value.code, int)
    return end.value.code


def busy(folder: Path) -> int:
    with folder_lock(folder / "shards", lambda: None):
        return main(arguments(folder))


def interrupted(folder: Path) -> int:
    """Sends the signal of Ctrl-C to a build, once its workers are being started."""
    with started([*BUILD, *arguments(folder)]) as process:
        progress = Path(scratch_folder(f"{folder}/shards"), "progress.tsv")
        deadline = time.monotonic() + 120
        while not progress.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        return process.wait(60)


CASES: dict[str, Callable[[Path], int]] = {
    "done": done,
    "failed": failed,
    "wrong usage": wrong_usage,
    "busy": busy,
    "interrupted": interrupted,
}


def documented() -> dict[str, int]:
    """Returns the statuses of the table by their names."""
    text = (REPOSITORY / "docs/runners.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([a-z ]+)[:,;|]", text, re.MULTILINE)
    return {name.strip(): int(status) for status, name in rows}


def test_table_has_a_row_for_each_case() -> None:
    assert documented().keys() == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_command_ends_with_the_status_of_the_table(name: str, tmp_path: Path) -> None:
    assert CASES[name](tmp_path) == documented()[name]


def test_help_states_the_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert re.findall(r"\b\d+(?=\s)", text.partition("Exit status: ")[2]) == [
        str(status) for status in documented().values()
    ]


def test_example_of_a_scheduler_runs_a_command_that_is_accepted(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs/runners.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n([^`]*airflow\.sdk[^`]*)```", text)
    tree = ast.parse(example)
    assert len([line for line in example.splitlines() if line]) <= 10
    values: dict[str, object] = {}
    without_airflow = [node for node in tree.body if isinstance(node, ast.Assign)]
    exec(compile(ast.Module(without_airflow, []), "example", "exec"), values)
    program, *options = shlex.split(str(values["BUILD"]))
    assert program == "mdetr-build"
    # The recipe is known, and all options are: only the raw files are missing.
    options = [option.replace("gs://BUCKET", str(tmp_path)) for option in options]
    assert main(options) == 1
