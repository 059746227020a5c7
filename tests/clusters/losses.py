"""Worker hosts that are killed in the middle of a build, and replaced."""

from collections.abc import Iterable

from tests.clusters.cluster import GROUPING, READING, WRITING, Cluster

#: The moments of a build in which a host is killed: raw files are sliced; one worker has read its
#: slices, and the other one is reading; a shard is written.
MOMENTS = {"reading": READING, "grouping": GROUPING, "writing": WRITING}


def lose_hosts(cluster: Cluster, moments: Iterable[str] = MOMENTS) -> None:
    """Kills a worker host at each of these moments of a build, and adds another."""
    for moment in moments:
        lose_host(cluster, moment)


def lose_host(cluster: Cluster, moment: str) -> None:
    """Kills a worker host at a moment of a build, and adds another.

    The store holds a request of the moment until the host is gone, so that it is not over before.
    """
    with cluster.store.held(MOMENTS[moment]) as address:
        if moment == "grouping":
            cluster.wait_until_one_has_read()
            address = cluster.other_worker(address)
        cluster.kill_worker(address)
        cluster.add_worker()
