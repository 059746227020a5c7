"""Builds on a Spark cluster: the bytes of a local build, whatever happens to its hosts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.hosts import network
from tests.clusters.requirements import require
from tests.clusters.spark.cluster import POM, SparkCluster


@pytest.fixture(scope="module")
def cluster(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    require("java", "mvn")
    folder = tmp_path_factory.mktemp("spark")
    with network(folder) as hosts:
        yield SparkCluster(hosts, folder, POM, raw)


def test_spark_makes_the_local_bytes(cluster: SparkCluster, expected: dict[str, str]) -> None:
    assert cluster.build("well") == expected
    assert cluster.used_hosts() == 2
    assert cluster.lost_executors() == 0
