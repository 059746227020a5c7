"""Builds on a Flink cluster: the bytes of a local build, whatever happens to its workers."""

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.clusters.cluster import GROUPING, READING, WRITING, python_workers
from tests.clusters.flink.cluster import FlinkCluster
from tests.clusters.hosts import network
from tests.clusters.losses import MOMENTS, lose_host, lose_hosts
from tests.clusters.requirements import require

pytestmark = pytest.mark.timeout(1800)  # seconds: cores that others use, too


@pytest.fixture(scope="module")
def cluster(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    require("java", "mvn")
    folder = tmp_path_factory.mktemp("flink")
    with network(folder) as hosts:
        yield FlinkCluster(hosts, folder, raw)


def test_detached_job_makes_the_local_bytes(
    cluster: FlinkCluster, expected: dict[str, str]
) -> None:
    running, done = cluster.build_detached("detached", while_writing="find slices: ")
    assert "/#/job/running/" in running and "/#/job/running/" in done
    assert cluster.store.digests("detached") == expected
    assert cluster.used_hosts() == 2
    # Flink leaves out a reshuffle that follows another one with only maps between them.
    [job] = cluster.ask("jobs/overview")["jobs"]
    nodes = {node["id"]: node for node in cluster.ask(f"jobs/{job['jid']}/plan")["plan"]["nodes"]}
    [reading] = [node for node in nodes.values() if "{Read annotations" in node["description"]]
    spread = nodes[reading["inputs"][0]["id"]]
    assert [edge["ship_strategy"] for edge in spread["inputs"]] == ["Rebalance"]


def test_job_server_that_the_command_starts_makes_the_local_bytes(
    cluster: FlinkCluster, expected: dict[str, str]
) -> None:
    assert cluster.build("own-server", *cluster.options_without_job_server) == expected


def test_sigterm_cancels_the_job_on_the_cluster(cluster: FlinkCluster) -> None:
    """Flink's job server stops waiting for a job that it cancels, and leaves it running."""
    with cluster.building("interrupted") as process, cluster.store.held(READING):
        assert process.stdout
        page = next(line for line in process.stdout if line.startswith("page: "))
        [launcher] = psutil.Process(process.pid).children()  # of nsenter
        launcher.send_signal(signal.SIGTERM)
        output = process.stdout.read()
        assert process.wait() == 130
    assert "the job server states CANCELLED, Flink CANCELED" in output.splitlines()
    job_id = page.rpartition("/")[2].strip()
    assert cluster.ask(f"jobs/{job_id}")["state"] == "CANCELED"


def test_file_with_an_error_is_named(cluster: FlinkCluster) -> None:
    """Flink wraps the traceback of a Python worker in one of Java, in another one."""
    wrong = "--set=sources.vg.region_graphs=gqa/train_sceneGraphs.json"
    with cluster.building("broken", wrong) as process:
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    *lines, error = output.splitlines()
    reason = "s3://raw/dataset/gqa/train_sceneGraphs.json: expected a JSON list"
    assert error.startswith(f"mdetr-build: error: {reason}")
    kinds = [line.partition(" ")[0] for line in lines if not line.startswith("RUNNING ")]
    assert kinds == ["submitted", "log:", "page:", "full"]


def test_killed_host_and_python_worker_and_a_store_that_answers_503_for_a_while(
    cluster: FlinkCluster, expected: dict[str, str]
) -> None:
    before = cluster.restarts()
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
    assert cluster.restarts() > before


@pytest.mark.loses_hosts
def test_killed_hosts_are_replaced(cluster: FlinkCluster, expected: dict[str, str]) -> None:
    before = cluster.restarts()
    with cluster.building("lost") as build:
        lose_hosts(cluster)
        assert cluster.finish("lost", build) == expected
    assert cluster.restarts() >= before + len(MOMENTS)


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
