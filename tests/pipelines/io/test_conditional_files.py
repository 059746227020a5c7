"""Conditional writes: of several writers of one version of a file, one succeeds."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.io import conditional_files as files
from pipelines.io.conditional_files import ChangedError
from pipelines.io.folders import list_versions
from pipelines.io.raw_files import StoreError
from tests.buckets import serve_bucket

NAMES = ["a", "set[1]/a*b?{c,d} 100%20 é/.lease"]


@pytest.fixture(scope="module", params=["s3", "gs", "folder"])
def bucket(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of an empty bucket, or the path of an empty folder."""
    folder = tmp_path_factory.mktemp("store")
    if request.param == "folder":
        (folder / NAMES[-1]).parent.mkdir(parents=True)
        yield str(folder)
    else:
        with serve_bucket(request.param, folder) as url:
            yield url


@pytest.mark.parametrize("name", NAMES)
def test_file_is_written_and_deleted_only_in_the_version_that_is_known(
    bucket: str, name: str
) -> None:
    path = f"{bucket}/{name}"
    assert files.read(path) is None
    first = files.write(path, b"first", None)
    with pytest.raises(ChangedError):
        files.write(path, b"second", None)
    second = files.write(path, b"second", first)
    for stale in (None, first):
        with pytest.raises(ChangedError):
            files.write(path, b"third", stale)
    with pytest.raises(ChangedError):
        files.delete(path, first)
    stored = files.read(path)
    assert stored is not None and (stored.content, stored.version) == (b"second", second)
    assert list_versions(path.rpartition("/")[0])[path.rpartition("/")[2]] == second
    files.delete(path, second)
    assert files.read(path) is None
    files.delete(path, second)  # is gone already
    with pytest.raises(ChangedError):
        files.write(path, b"third", second)


def test_repeated_request_whose_first_answer_was_lost_succeeds(bucket: str) -> None:
    path = f"{bucket}/repeated"
    version = files.write(path, b"once", None)
    assert files.write(path, b"once", None) == version


def test_one_of_many_concurrent_writers_succeeds(bucket: str) -> None:
    path = f"{bucket}/contended"

    def create(number: int) -> bool:
        try:
            files.write(path, f"writer {number}".encode(), None)
        except ChangedError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(create, range(24))) == 1


def test_one_of_many_concurrent_replacements_succeeds_and_no_file_is_left(bucket: str) -> None:
    path = f"{bucket}/{NAMES[-1]}"
    version = files.write(path, b"first", None)

    def replace(number: int) -> bool:
        try:
            if number % 2:
                files.write(path, f"writer {number}".encode(), version)
            else:
                files.delete(path, version)
        except ChangedError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        replaced = [n for n, done in enumerate(threads.map(replace, range(24))) if done]
    stored = files.read(path)
    if stored:
        assert [f"writer {number}".encode() for number in replaced] == [stored.content]
    else:
        assert not any(number % 2 for number in replaced)  # a file that is gone may be deleted
    assert list_versions(path.rpartition("/")[0]).keys() <= {".lease"}


def test_bucket_that_does_not_exist_is_an_error(bucket: str) -> None:
    with pytest.raises(StoreError, match=f"^{bucket}-not/a: "):
        files.write(f"{bucket}-not/a", b"", None)


def test_stores_of_other_kinds_have_no_conditions(tmp_path: Path) -> None:
    assert files.has_conditions("s3://bucket/a") and files.has_conditions("gs://bucket/a")
    assert files.has_conditions(str(tmp_path)) and not files.has_conditions("hdfs://host/a")
