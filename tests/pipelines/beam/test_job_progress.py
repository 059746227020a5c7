"""The line that shows how far a job is."""

import io
from pathlib import Path

import pytest

from pipelines.beam import job_progress
from pipelines.beam.job_progress import WRITE_SHARDS, JobProgress
from pipelines.beam.progress import Stage

SHARDS = {"train-00000-of-00002.tar", "train-00001-of-00002.tar"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def stage(done: int, total: int) -> Stage:
    result = Stage()
    result.done, result.total = done, total
    return result


@pytest.fixture(autouse=True)
def every_line_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_progress, "_TERMINAL_SECONDS", 0)
    monkeypatch.setattr(job_progress, "_LOG_SECONDS", 0)


def test_line_of_a_terminal_is_replaced_and_removed(tmp_path: Path) -> None:
    """Slices of all sources are added up."""
    screen = Terminal()
    stages = {"read vg": stage(400, 1000), "read gqa": stage(100, 500)}
    shown = JobProgress(screen, SHARDS, str(tmp_path), lambda: stages)
    shown.show("RUNNING")
    stages[WRITE_SHARDS] = stage(1, 0)
    shown.show("RUNNING")
    shown.print("page: http://localhost")
    first, second, removed, page = screen.getvalue().split("\x1b[K")
    assert first == "\rRUNNING 0:00:00  slices read: 500 of 1,500, shards written: 0 of 2"
    assert second == "\rRUNNING 0:00:00  slices read: 500 of 1,500, shards written: 1 of 2"
    assert removed == "\r"
    assert page == "page: http://localhost\n"


def test_shards_in_the_output_are_counted_if_the_server_reports_no_stages(tmp_path: Path) -> None:
    (tmp_path / min(SHARDS)).touch()
    (tmp_path / "train-00001-of-00002.tar.part").touch()
    screen = io.StringIO()
    shown = JobProgress(screen, SHARDS, str(tmp_path), dict)
    shown.show("RUNNING")
    shown.close()
    assert screen.getvalue() == "RUNNING 0:00:00  shards written: 1 of 2\n"


def test_line_is_not_shown_before_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_progress, "_TERMINAL_SECONDS", 3600)
    screen = Terminal()
    JobProgress(screen, SHARDS, str(tmp_path), dict).show("RUNNING")
    assert not screen.getvalue()
