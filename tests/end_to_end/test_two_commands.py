"""Two builds into one output in a bucket, by the command."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import msgspec
import pytest

from pipelines.io import conditional_files, lease
from tests.buckets import serve_bucket, store
from tests.end_to_end.built_sets import set_digests, stored_digests
from tests.processes import run, started

LEASE = r"PUT /made/[a-z]+/\.mdetr-lease\.json"
SHARD = r"P.* /made/[a-z]+/\.mdetr-build/.*train-.*"  # which are written under temporary names


class Bucket:
    """A store whose requests can be held: ``orders`` is the folder for that."""

    def __init__(self, url: str, orders: Path, raw: Path) -> None:
        self.url = url
        self.raw = raw
        self._hold, self._waiting = orders / "hold", orders / "waiting"

    def command(self, name: str) -> list[str]:
        """Returns the build of an output, in one process, since there are two builds."""
        return [
            *(sys.executable, "-m", "pipelines.build", "demo", f"--root={self.raw}"),
            *(f"--output={self.url}/{name}", "--quiet", "--direct_running_mode=in_memory"),
        ]

    def hold(self, requests: str) -> None:
        self._waiting.unlink(missing_ok=True)
        self._hold.write_text(requests)

    def wait_for(self, count: int, *builds: "Popen[str]") -> None:
        """Waits until so many requests are held."""
        while not self._waiting.exists() or self._waiting.read_text().count("\n") < count:
            assert all(build.poll() is None for build in builds)
            time.sleep(0.05)

    def release(self) -> None:
        self._hold.unlink()


@pytest.fixture(scope="module")
def bucket(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    orders = tmp_path_factory.mktemp("orders")
    with serve_bucket("s3", orders) as url:
        yield Bucket(url, orders, small_dataset)


def test_one_of_two_builds_that_begin_at_once_writes_and_the_other_one_is_refused(
    bucket: Bucket, small_set: Path
) -> None:
    bucket.hold(LEASE)
    command = bucket.command("once")
    with started(command) as first, started(command) as second:
        bucket.wait_for(2, first, second)  # both have seen that there is no lease
        bucket.release()
        outputs = {build.pid: build.communicate()[0] for build in (first, second)}
        writer, refused = sorted((first, second), key=lambda build: build.returncode)
    assert (writer.returncode, refused.returncode) == (0, 3), outputs
    reason = f"another build is writing to {bucket.url}/once: process {writer.pid} of "
    assert f"mdetr-build: error: {reason}" in outputs[refused.pid]
    assert stored_digests(store(bucket.url), "made/once") == set_digests(small_set)


def test_build_after_a_killed_one_takes_over_and_leaves_nothing_of_it(
    bucket: Bucket, small_set: Path
) -> None:
    output = f"{bucket.url}/killed"
    bucket.hold(SHARD)
    with started(bucket.command("killed")) as killed:
        bucket.wait_for(1, killed)
        assert run(bucket.command("killed")).returncode == 3
    bucket.release()
    shorten_term(f"{output}/{lease.NAME}")
    assert run(bucket.command("killed")).returncode == 0
    assert stored_digests(store(bucket.url), "made/killed") == set_digests(small_set)


def shorten_term(path: str) -> None:
    """Makes the lease of a killed build old at once."""
    stored = conditional_files.read(path)
    assert stored is not None
    content = msgspec.json.decode(stored.content)
    content["term"] = 0.1
    conditional_files.write(path, msgspec.json.encode(content), stored.version)
