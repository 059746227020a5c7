"""What the clusters of all engines have in common.

The first host has the engine's master, the job server and the store, and commands are run there.
Each other host has a worker of the engine and, beside it, the pool of its Python workers.
"""

import re
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import psutil

from tests.clusters.downloads import class_path
from tests.clusters.hosts import Host, Network
from tests.clusters.java import JOB_SERVERS, java, write_job_server_jar
from tests.clusters.store import Store
from tests.processes import run, started

JOB_PORT, POOL_PORT = 8099, 50000
_BUILD_SECONDS = 800

# Requests of the store in the middle of a build: a raw file is read to find its slices; one slice
# is read while what the others state is grouped; a complete shard gets its name.
READING = r"GET /raw/dataset/vg/region_graphs\.json"
GROUPING = r"GET /raw/dataset/flickr30k/Annotations/1009247582\.xml"
WRITING = r"PUT /made/[^/]+/train-00005-of-00008\.tar"


class Cluster(ABC):
    """A cluster with two worker hosts.

    Attributes:
        first: the first host.
        workers: the worker hosts, by address.
        store: the store, which has the raw files.
        folder: the logs of all hosts, and the files of their daemons and of builds.
    """

    #: ``flink`` or ``spark``.
    engine: str

    def __init__(self, network: Network, folder: Path, raw: Path) -> None:
        """Starts the daemons of a cluster.

        Args:
            network: gets the hosts.
            folder: see above.
            raw: the raw files.
        """
        self.folder = folder
        self._temporary = folder / "tmp"
        self._temporary.mkdir()
        self._network = network
        self._class_path = class_path(Path(__file__).parent / self.engine / "pom.xml")
        self.first = network.add_host("first")
        self.store = Store(self.first, folder, raw)
        self.workers: dict[str, Host] = {}
        self._start_master()
        for _ in range(2):
            self.add_worker()
        self.start_job_server()

    def add_worker(self) -> Host:
        """Adds a worker host."""
        host = self._network.add_host("worker")
        pool = ["python", "-m", "apache_beam.runners.worker.worker_pool_main"]
        command = [*pool, f"--service_port={POOL_PORT}"]
        host.start("worker-pool", command, env=self._environment_of_builds)
        self._start_worker(host)
        self.workers[host.address] = host
        return host

    def kill_worker(self, address: str) -> None:
        """Takes a worker host down for good."""
        self.workers.pop(address).kill()

    def kill_job_server(self) -> None:
        """Kills the job server alone."""
        main = JOB_SERVERS[self.engine]
        [server] = [p for p in self.first.processes() if _command_has(p, main)]
        server.kill()

    def other_worker(self, address: str) -> str:
        """Returns the address of the worker host that does not have this one."""
        [other] = self.workers.keys() - {address}
        return other

    @abstractmethod
    def wait_until_one_has_read(self) -> None:
        """Waits until one of the two workers has read its slices, and the shuffle can ask for them.

        The other one is reading, for a request of it is held.
        """

    @abstractmethod
    def _start_master(self) -> None: ...

    @abstractmethod
    def _start_worker(self, host: Host) -> None: ...

    @abstractmethod
    def start_job_server(self) -> None:
        """Starts the job server, or starts it again."""

    def _start_java(
        self,
        host: Host,
        name: str,
        main: str,
        arguments: list[str],
        *options: str,
        port: int = 0,
        class_path: str = "",
    ) -> None:
        """Starts a daemon of the engine; ``options`` are those of the JVM."""
        options = (f"-Djava.io.tmpdir={self._temporary}", *options)
        command = java(class_path or self._class_path, main, arguments, *options)
        host.start(name, command, env=self._environment(host), port=port)

    @abstractmethod
    def _environment(self, host: Host) -> dict[str, str]:
        """Returns the variables of the engine's daemons."""

    @property
    def options(self) -> list[str]:
        """The options of a build on this cluster."""
        return [
            *("--runner=PortableRunner", f"--job_endpoint={self.first.address}:{JOB_PORT}"),
            *("--environment_type=EXTERNAL", f"--environment_config=localhost:{POOL_PORT}"),
            # Stages follow one another: a Python worker waits for the next instead of ending.
            "--environment_cache_millis=30000",
        ]

    @property
    def options_without_job_server(self) -> list[str]:
        """Options in place of those of the job server, for a build that starts one."""
        jar = self.folder / "job-server.jar"
        write_job_server_jar(jar, self.engine, self._class_path)
        return [
            *("--job_endpoint=", f"--{self.engine}_job_server_jar={jar}"),
            f"--artifacts_dir={self.folder / 'artifacts'}",
            f"--job_server_jvm_properties=-Djava.io.tmpdir={self._temporary}",
        ]

    @property
    def _environment_of_builds(self) -> dict[str, str]:
        """The variables of commands and of Python workers."""
        return {**self.store.environment, "TMPDIR": str(self._temporary)}

    @contextmanager
    def building(self, name: str, *options: str) -> Iterator["Popen[str]"]:
        """Runs a build in the block, into the bucket ``made`` under a name.

        ``options`` are further ones; of one that is there twice, the last is used.
        """
        command = [sys.executable, "-m", "pipelines.build", "demo", "--root=s3://raw/dataset"]
        command += [f"--output=s3://made/{name}", *self.options, *options]
        env = self._environment_of_builds | self._environment(self.first)
        with started(self.first.enter(command), env=env) as process:
            yield process

    def build(self, name: str, *options: str) -> dict[str, str]:
        """Builds, and returns the digests of what is then in the store."""
        with self.building(name, *options) as process:
            return self.finish(name, process)

    def build_detached(self, name: str, while_writing: str) -> tuple[str, str]:
        """Builds with ``--detach``, and returns what ``mdetr-build job`` states.

        Args:
            name: of the set.
            while_writing: a regular expression of what it states while a shard is being written.

        Returns:
            The statement of that time, and the one of the end.
        """
        with self.building(name, "--detach") as process:
            output = self._wait(process, 0)
        job = re.search(r"its state and page: mdetr-build (job .*)", output)
        assert job, output
        ask = self.first.enter([sys.executable, "-m", "pipelines.build", *job[1].split()])

        def statement(pattern: str) -> str:
            deadline = time.monotonic() + _BUILD_SECONDS
            while not re.search(pattern, stated := run(ask, check=True).stdout):
                assert time.monotonic() < deadline, stated
                time.sleep(2)
            return stated

        with self.store.held(WRITING):
            writing = statement(while_writing)
        return writing, statement("^DONE")

    def finish(self, name: str, process: "Popen[str]") -> dict[str, str]:
        """Waits for a build that succeeds, and returns the digests of what is in the store."""
        self._wait(process, 0)
        return self.store.digests(name)

    def error(self, process: "Popen[str]") -> str:
        """Waits for a build that fails, and returns the last line that it prints."""
        return self._wait(process, 1).splitlines()[-1]

    def _wait(self, process: "Popen[str]", status: int) -> str:
        output, _ = process.communicate(timeout=_BUILD_SECONDS)
        with (self.folder / "builds.log").open("a") as log:
            log.write(output)
        assert process.returncode == status, f"{output}\nlogs: {self.folder}"
        return output

    def used_hosts(self) -> int:
        """Returns how many worker hosts have started Python workers so far."""
        logs = [path.read_text() for path in self.folder.glob("*-worker-pool.log")]
        return sum("Starting worker with command" in log for log in logs)

    def log(self, name: str) -> str:
        """Returns all that the daemons of a name have logged."""
        return "".join(path.read_text() for path in sorted(self.folder.glob(f"*-{name}.log")))


def python_workers(host: Host) -> list[psutil.Process]:
    """Returns the Python processes of a host that execute steps."""
    return [process for process in host.processes() if _command_has(process, "SdkHarness")]


def _command_has(process: psutil.Process, text: str) -> bool:
    try:
        return text in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
