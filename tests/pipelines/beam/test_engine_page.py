"""What a web server that is not the page of a job is taken for; tests/clusters has real pages."""

from pathlib import Path

import pytest

from pipelines.beam import engine_page
from pipelines.beam.engine_page import FlinkPage, SparkPage
from tests.http_server import serve

OTHER_FLINK_JOB = '{"jobs": [{"jid": "1", "name": "theirs", "state": "RUNNING"}]}'


@pytest.mark.parametrize("answer", ["", "<html>", "[]", "{}", '{"jobs": 3}', OTHER_FLINK_JOB])
def test_page_of_flink_is_not_found_where_the_job_is_not(tmp_path: Path, answer: str) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/overview").write_text(answer)
    with serve(tmp_path) as server:
        page = FlinkPage(["http://localhost:1", server.url.rstrip("/")], "ours")
        assert page.find() == "" and page.counters() == {}
        assert server.requests["jobs/overview"] == 2


@pytest.mark.parametrize("answer", ["", "<html>", "{}", "[3]", '[{"name": "theirs"}]'])
def test_page_of_spark_is_not_found_where_the_job_is_not(tmp_path: Path, answer: str) -> None:
    (tmp_path / "api/v1").mkdir(parents=True)
    (tmp_path / "api/v1/applications").write_text(answer)
    with serve(tmp_path) as server:
        assert SparkPage(server.url.rstrip("/"), "ours").find() == ""
        assert server.requests["api/v1/applications"] == 1


def test_page_of_spark_is_that_of_its_job(tmp_path: Path) -> None:
    (tmp_path / "api/v1").mkdir(parents=True)
    (tmp_path / "api/v1/applications").write_text('[{"name": "ours", "id": "local-1"}]')
    with serve(tmp_path) as server:
        page = SparkPage(server.url.rstrip("/"), "ours")
        assert page.find() == server.url.rstrip("/")


def test_job_of_flink_is_searched_when_it_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even after the time in which its page is expected, as `--quiet` does not ask for it."""
    monkeypatch.setattr(engine_page, "_FIND_SECONDS", 0)
    (tmp_path / "jobs").mkdir()
    ours = '{"jobs": [{"jid": "1", "name": "ours", "state": "CANCELED"}]}'
    (tmp_path / "jobs/overview").write_text(ours)
    with serve(tmp_path) as server:
        page = FlinkPage([server.url.rstrip("/")], "ours")
        assert page.find() == ""
        assert page.cancel() == ", Flink CANCELED"


def test_cancelled_job_of_flink_goes_on_if_its_page_is_not_known() -> None:
    assert "but Flink goes on" in FlinkPage(["http://localhost:1"], "ours").cancel()
