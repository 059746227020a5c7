"""Hosts reach those of their network, and a killed one is gone as a whole."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.clusters.hosts import Host, Network, network
from tests.clusters.requirements import require

PORT = 8000


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Network]:
    require()
    with network(tmp_path) as hosts:
        yield hosts


def connects(source: Host, target: Host) -> bool:
    script = f"exec 3<>/dev/tcp/{target.address}/{PORT}"
    command = source.enter(["timeout", "5", "bash", "-c", script])
    return subprocess.run(command, capture_output=True).returncode == 0


def serving(hosts: Network) -> Host:
    host = hosts.add_host("server")
    serve = ["python", "-m", "http.server", PORT]
    host.start("web", [*serve, f"--directory={host.logs}"], port=PORT)
    return host


def test_host_is_reached_from_no_other_network(hosts: Network, tmp_path: Path) -> None:
    server, client = serving(hosts), hosts.add_host("client")
    with network(tmp_path) as other_hosts:
        namesake, stranger = other_hosts.add_host("namesake"), other_hosts.add_host("stranger")
        assert namesake.address == server.address
        assert connects(client, server)
        assert not connects(stranger, server)


def test_killed_host_loses_its_processes_and_is_silent(hosts: Network) -> None:
    server, client = serving(hosts), hosts.add_host("client")
    processes = server.processes()
    assert any("http.server" in process.cmdline() for process in processes)
    server.kill()
    psutil.wait_procs(processes, timeout=30)
    assert not any(process.is_running() for process in processes)
    assert not connects(client, server)
