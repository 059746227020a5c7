"""Builds on a Flink cluster: the bytes of a local build, whatever happens to its hosts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.flink.cluster import POM, FlinkCluster
from tests.clusters.hosts import network
from tests.clusters.requirements import require


@pytest.fixture(scope="module")
def cluster(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    require("java", "mvn")
    folder = tmp_path_factory.mktemp("flink")
    with network(folder) as hosts:
        yield FlinkCluster(hosts, folder, POM, raw)


def test_flink_makes_the_local_bytes(cluster: FlinkCluster, expected: dict[str, str]) -> None:
    assert cluster.build("well") == expected
    assert cluster.log("worker-pool").count("Starting worker with command") == 2  # one a host
    assert cluster.restarts() == 0
