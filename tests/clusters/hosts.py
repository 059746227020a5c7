"""Hosts of a cluster on this machine: each has its own network, processes and mounts.

A host is a set of Linux namespaces, and a network is a host with a bridge to which the others are
plugged. A namespace lives as long as a process in it: a host whose first process is killed loses
all its processes at once, and nothing remains of it, even if the tests themselves are killed.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType

import psutil

from tests.processes import REPOSITORY, run, started

_UNSHARE = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]


def why_no_hosts() -> str:
    """Returns why this machine cannot have hosts; "" if it can."""
    missing = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"needs {', '.join(missing)} (iproute2, util-linux)"
    if subprocess.run([*_UNSHARE, "true"], capture_output=True).returncode != 0:
        return "needs the right to make namespaces (root)"
    return ""


class Host:
    """A machine with one network interface, for which the other hosts are elsewhere.

    Attributes:
        name: what the files of its logs begin with.
        address: its IP address.
        logs: the folder of the logs of its processes.
    """

    def __init__(self, name: str, address: str, logs: Path, stack: ExitStack) -> None:
        self.name, self.address, self.logs = name, address, logs
        self._stack = stack
        self._holder = stack.enter_context(started([*_UNSHARE, "sleep", "infinity"]))
        self.pid = self._first_process()
        self.run_as_root("ip link set lo up")
        # What is sent to a host that is down is repeated for half a minute, not for 15.
        repetitions = "echo 6 > /proc/sys/net/ipv4/tcp_retries2"
        run(self.enter(["sh", "-c", repetitions]), check=True)

    def _first_process(self) -> int:
        """Waits for the first process of the namespaces, and returns its PID outside of them."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for child in psutil.Process(self._holder.pid).children():
                if child.name() == "sleep":  # /proc is mounted by then
                    return child.pid
            time.sleep(0.01)
        raise TimeoutError(f"no process on host {self.name}")

    def enter(self, command: Sequence[object]) -> list[str]:
        """Returns the command that runs another one on this host, in the repository's folder."""
        enter = ["nsenter", f"--target={self.pid}", "--net", "--pid", "--mount"]
        return [*enter, f"--wd={REPOSITORY}", "--", *map(str, command)]

    def run_as_root(self, command: str) -> None:
        """Runs a command of words without spaces on this host."""
        run(self.enter(command.split()), check=True)

    def start(
        self,
        name: str,
        command: Sequence[object],
        *,
        env: Mapping[str, str] = MappingProxyType({}),
        port: int = 0,
    ) -> None:
        """Starts a daemon, which ends with the host or with the network.

        Args:
            name: what the file of its log ends with.
            command: the program and its arguments.
            env: variables to add to the environment of the tests.
            port: it is waited for, unless it is 0.
        """
        log = self._stack.enter_context((self.logs / f"{self.name}-{name}.log").open("ab"))
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        process = started(self.enter(command), env={"PATH": path, **env}, stdout=log)
        daemon = self._stack.enter_context(process)
        if port:
            self.wait_for(port, daemon)

    def wait_for(self, port: int, daemon: "subprocess.Popen[str]") -> None:
        """Waits until a daemon of this host listens on a port."""
        probe = self.enter(["bash", "-c", f"exec 3<>/dev/tcp/{self.address}/{port}"])
        deadline = time.monotonic() + 60
        while subprocess.run(probe, capture_output=True).returncode != 0:
            assert daemon.poll() is None, f"a daemon of {self.name} ended: see {self.logs}"
            assert time.monotonic() < deadline, f"no answer of {self.name}:{port}"
            time.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        """Returns the processes of this host."""
        namespace = _pid_namespace(self.pid)
        return [p for p in psutil.process_iter() if _pid_namespace(p.pid) == namespace]

    def kill(self) -> None:
        """Takes the host down as a power cut does: its peers hear nothing more of it."""
        self.run_as_root("ip link set eth0 down")
        psutil.Process(self.pid).kill()
        self._holder.wait(30)


def _pid_namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:  # it has ended
        return ""


class Network:
    """Hosts that reach each other, and nothing else."""

    def __init__(self, logs: Path, stack: ExitStack) -> None:
        self._logs, self._stack = logs, stack
        self._switch = Host("switch", "", logs, stack)
        self._switch.run_as_root("ip link add bridge type bridge")
        self._switch.run_as_root("ip link set bridge up")
        self._plugged = 0

    def add_host(self, name: str) -> Host:
        """Adds a host; its name and its address end with a number that no other has."""
        self._plugged += 1
        port = f"port{self._plugged}"
        address = f"10.77.0.{self._plugged}"
        host = Host(f"{name}-{self._plugged}", address, self._logs, self._stack)
        cable = f"ip link add eth0 netns {host.pid} type veth peer name {port}"
        run(f"{cable} netns {self._switch.pid}".split(), check=True)
        host.run_as_root(f"ip address add {host.address}/24 dev eth0")
        host.run_as_root("ip link set eth0 up")
        self._switch.run_as_root(f"ip link set {port} master bridge up")
        return host


@contextmanager
def network(logs: Path) -> Iterator[Network]:
    """Yields a network without hosts; all that is added to it ends with the block."""
    with ExitStack() as stack:
        yield Network(logs, stack)
