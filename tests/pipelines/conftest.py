"""Fixtures of the pipelines' tests."""

from collections.abc import Iterator

import pytest

from tests.buckets import serve_bucket


@pytest.fixture(scope="module", params=["s3", "gs"])
def bucket(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of an empty bucket."""
    with serve_bucket(request.param, tmp_path_factory.mktemp("store")) as url:
        yield url
