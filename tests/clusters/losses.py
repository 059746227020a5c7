"""Worker hosts that are killed in the middle of a build, and replaced."""

from tests.clusters.cluster import GROUPING, READING, WRITING, Cluster

#: The moments of a build in which a host is killed: raw files are sliced; one worker has read its
#: slices, and the other one is reading; a shard is written.
MOMENTS = {"reading": READING, "grouping": GROUPING, "writing": WRITING}


def lose_hosts(cluster: Cluster) -> None:
    """Kills a worker host at each moment of a build, and adds another.

    The store holds a request of the moment until the host is gone, so that it is not over before.
    """
    for moment, requests in MOMENTS.items():
        with cluster.store.held(requests) as address:
            if moment == "grouping":
                cluster.wait_until_one_has_read()
                address = cluster.other_worker(address)
            cluster.kill_worker(address)
            cluster.add_worker()
