"""Servers for the tests of downloads, which no proxy of this machine may come between."""

from collections.abc import Iterator

import pytest

from tests.pipelines.fetch.mirror import Mirror, serve


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serve() as server:
        yield server


@pytest.fixture
def other_mirror() -> Iterator[Mirror]:
    with serve() as server:
        yield server
