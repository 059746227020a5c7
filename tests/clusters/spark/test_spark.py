"""Builds on a Spark cluster: the bytes of a local build, whatever happens to its workers."""

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.clusters.cluster import GROUPING, READING, WRITING, python_workers
from tests.clusters.hosts import network
from tests.clusters.losses import lose_host, lose_hosts
from tests.clusters.requirements import require
from tests.clusters.spark.cluster import SparkCluster

pytestmark = pytest.mark.timeout(1800)  # seconds: cores that others use, too


@pytest.fixture(scope="module")
def cluster(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    require("java", "mvn")
    folder = tmp_path_factory.mktemp("spark")
    with network(folder) as hosts:
        yield SparkCluster(hosts, folder, raw)


def test_detached_job_makes_the_local_bytes(
    cluster: SparkCluster, expected: dict[str, str]
) -> None:
    _, done = cluster.build_detached("detached", while_writing="^RUNNING$")
    assert "find slices: " in done
    assert cluster.store.digests("detached") == expected
    assert cluster.used_hosts() == 2


def test_job_server_that_the_command_starts_makes_the_local_bytes(
    cluster: SparkCluster, expected: dict[str, str]
) -> None:
    assert cluster.build("own-server", *cluster.options_without_job_server) == expected


def test_interrupt_cancels_the_job_on_the_cluster(cluster: SparkCluster) -> None:
    with cluster.building("interrupted") as process:
        with cluster.store.held(READING):
            [launcher] = psutil.Process(process.pid).children()  # of nsenter
            launcher.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert output.splitlines()[-2:] == [
        "the job server states CANCELLED",
        "mdetr-build: interrupted",
    ]
    assert "Stage cancelled because SparkContext was shut down" in cluster.log("job-server")


def test_file_with_an_error_is_named(cluster: SparkCluster) -> None:
    """Spark wraps the traceback of a Python worker in those of all its attempts."""
    wrong = "--set=sources.vg.region_graphs=gqa/train_sceneGraphs.json"
    with cluster.building("broken", wrong) as process:
        error = cluster.error(process)
    reason = "s3://raw/dataset/gqa/train_sceneGraphs.json: expected a JSON list"
    assert error.startswith(f"mdetr-build: error: {reason}")


def test_killed_host_and_python_worker_and_a_store_that_answers_503_for_a_while(
    cluster: SparkCluster, expected: dict[str, str]
) -> None:
    before = cluster.lost_executors()
    # A dead worker stays in the cache, where each retry finds it again.
    with cluster.building("retried", "--environment_cache_millis=0") as build:
        lose_host(cluster, "reading")
        with cluster.store.held(GROUPING) as address:
            workers = python_workers(cluster.workers[address])
            assert workers
            for worker in workers:
                worker.kill()
        cluster.store.fail(WRITING, seconds=15)
        assert cluster.finish("retried", build) == expected
    assert cluster.lost_executors() > before


@pytest.mark.loses_hosts
def test_killed_hosts_are_replaced(cluster: SparkCluster, expected: dict[str, str]) -> None:
    """Spark does not repeat the last stage, which writes, once one of its tasks is done."""
    before = cluster.lost_executors()
    with cluster.building("lost") as build:
        lose_hosts(cluster, ["reading", "grouping"])
        assert cluster.finish("lost", build) == expected
    assert cluster.lost_executors() >= before + 2


def test_executor_with_too_little_memory_is_an_error_that_names_it(cluster: SparkCluster) -> None:
    cluster.kill_job_server()
    cluster.start_job_server(executor_memory="100m")
    with cluster.building("poor") as build:
        error = cluster.error(build)
    assert "Executor memory 104857600 must be at least 471859200" in error
    assert "spark.executor.memory" in error


def test_killed_job_server_is_an_error_that_names_it(cluster: SparkCluster) -> None:
    cluster.kill_job_server()
    cluster.start_job_server()
    with cluster.building("no-server") as build, cluster.store.held(READING):
        cluster.kill_job_server()
        error = cluster.error(build)
    assert "the job server does not answer any more" in error
