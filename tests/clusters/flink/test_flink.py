"""Builds on a Flink cluster: the bytes of a local build, whatever happens to its workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.cluster import GROUPING, READING, WRITING, python_workers
from tests.clusters.flink.cluster import POM, FlinkCluster
from tests.clusters.hosts import network
from tests.clusters.requirements import require

pytestmark = pytest.mark.timeout(900)  # seconds: cores that others use, too


@pytest.fixture(scope="module")
def cluster(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    require("java", "mvn")
    folder = tmp_path_factory.mktemp("flink")
    with network(folder) as hosts:
        yield FlinkCluster(hosts, folder, POM, raw)


def test_flink_makes_the_local_bytes(cluster: FlinkCluster, expected: dict[str, str]) -> None:
    assert cluster.build("well") == expected
    assert cluster.used_hosts() == 2


def test_killed_python_worker_and_a_store_that_answers_503_for_a_while(
    cluster: FlinkCluster, expected: dict[str, str]
) -> None:
    # A dead worker stays in the cache, where each retry finds it again.
    with cluster.building("retried", "--environment_cache_millis=0") as build:
        with cluster.store.held(GROUPING) as address:
            workers = python_workers(cluster.workers[address])
            assert workers
            for worker in workers:
                worker.kill()
        cluster.store.fail(WRITING, seconds=15)
        assert cluster.finish("retried", build) == expected


def test_task_manager_with_too_little_memory_is_an_error_that_names_it(
    cluster: FlinkCluster,
) -> None:
    cluster.kill_worker(min(cluster.workers))
    poor = {f"taskmanager.memory.network.{bound}": "4m" for bound in ("min", "max")}
    cluster.memory = poor
    address = cluster.add_worker().address
    cluster.memory = {}
    with cluster.building("poor") as build:
        error = cluster.error(build)
    assert "Insufficient number of network buffers" in error
    assert all(name in error for name in poor)
    cluster.kill_worker(address)
    cluster.add_worker()


def test_killed_job_server_is_an_error_that_names_it(cluster: FlinkCluster) -> None:
    with cluster.building("no-server") as build, cluster.store.held(READING):
        cluster.kill_job_server()
        error = cluster.error(build)
    assert "the job server does not answer any more" in error
