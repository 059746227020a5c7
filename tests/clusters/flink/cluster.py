"""A standalone Flink cluster."""

import json
import time
from typing import Any

from tests.clusters.cluster import JOB_PORT, Cluster
from tests.clusters.hosts import Host
from tests.clusters.java import JOB_SERVERS, unsent
from tests.processes import run

_REST_PORT = 8081
_RUNTIME = "org.apache.flink.runtime"
_CONFIGURATION = {
    "rest.port": _REST_PORT,
    "rest.bind-address": "0.0.0.0",
    "jobmanager.bind-host": "0.0.0.0",
    "jobmanager.memory.heap.size": "256m",
    "taskmanager.bind-host": "0.0.0.0",
    "taskmanager.numberOfTaskSlots": 1,
    "classloader.resolve-order": "parent-first",
    # By default each exchange between tasks takes 512 buffers of 32 KiB: 64 MiB are too little.
    "taskmanager.network.sort-shuffle.min-buffers": 64,
    # It takes so long to notice that a host is down; a busy machine may be slow for seconds.
    "heartbeat.interval": 1000,
    "heartbeat.timeout": 8000,
    # So long does a task wait for results of a host that is down; by default two hours.
    "taskmanager.network.netty.client.connectTimeoutSec": 10,
    "taskmanager.network.netty.client.tcp.keepIdleSec": 10,
    "taskmanager.network.netty.client.tcp.keepIntervalSec": 2,
    "taskmanager.network.netty.client.tcp.keepCount": 5,
    # Without a strategy Flink does not restart a batch job, and without a limit it never gives up.
    "restart-strategy.type": "exponential-delay",
    "restart-strategy.exponential-delay.initial-backoff": "1 s",
    "restart-strategy.exponential-delay.max-backoff": "2 s",
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": 12,
}
# Flink's scripts would compute these.
_MEMORY = {
    "taskmanager.cpu.cores": "1.0",
    "taskmanager.memory.network.min": "64m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.managed.size": "64m",
    "taskmanager.memory.task.heap.size": "160m",
    "taskmanager.memory.task.off-heap.size": "0m",
    "taskmanager.memory.framework.heap.size": "64m",
    "taskmanager.memory.framework.off-heap.size": "64m",
    "taskmanager.memory.jvm-metaspace.size": "192m",
    "taskmanager.memory.jvm-overhead.min": "64m",
    "taskmanager.memory.jvm-overhead.max": "64m",
}


class FlinkCluster(Cluster):
    """A job manager, and task managers with one slot each."""

    engine = "flink"
    #: Settings of the task managers that are started from then on, instead of those above.
    memory: dict[str, str] = {}

    def _start_master(self) -> None:
        configuration = _CONFIGURATION | {
            "rest.address": self.first.address,
            "jobmanager.rpc.address": self.first.address,
            "io.tmp.dirs": self._temporary,
        }
        lines = [f"{key}: {value}\n" for key, value in configuration.items()]
        (self.folder / "flink-conf.yaml").write_text("".join(lines))
        main = f"{_RUNTIME}.entrypoint.StandaloneSessionClusterEntrypoint"
        arguments = [f"--configDir={self.folder}"]
        self._start_java(self.first, "job-manager", main, arguments, "-Xmx256m")

    def _start_worker(self, host: Host) -> None:
        settings = {**_MEMORY, **self.memory, "taskmanager.host": host.address}
        settings["io.tmp.dirs"] = str(self.folder / host.name)
        arguments = [f"--configDir={self.folder}"]
        for key, value in settings.items():
            arguments += ["-D", f"{key}={value}"]
        main = f"{_RUNTIME}.taskexecutor.TaskManagerRunner"
        self._start_java(host, "task-manager", main, arguments, "-Xmx224m")

    def start_job_server(self) -> None:
        address = self.first.address
        arguments = [
            *(f"--flink-master={address}:{_REST_PORT}", f"--flink-conf-dir={self.folder}"),
            *(f"--job-host={address}", f"--job-port={JOB_PORT}"),
            *("--artifact-port=8098", "--expansion-port=8097"),
            f"--artifacts-dir={self.folder / 'artifacts'}",
        ]
        class_path, others = unsent(self._class_path)
        self._start_java(
            *(self.first, "job-server", JOB_SERVERS[self.engine], arguments, "-Xmx256m", others),
            port=JOB_PORT,
            class_path=class_path,
        )

    def _environment(self, host: Host) -> dict[str, str]:
        return {"FLINK_CONF_DIR": str(self.folder)}

    @property
    def options(self) -> list[str]:
        return [*super().options, "--parallelism=2"]

    @property
    def options_without_job_server(self) -> list[str]:
        master = f"--flink_master={self.first.address}:{_REST_PORT}"
        return ["--runner=FlinkRunner", master, *super().options_without_job_server]

    def wait_until_one_has_read(self) -> None:
        [job] = [job for job in self.ask("jobs")["jobs"] if job["status"] == "RUNNING"]
        deadline = time.monotonic() + 120
        while True:
            vertices = self.ask(f"jobs/{job['id']}")["vertices"]
            [reading] = [v["tasks"] for v in vertices if "Read annotations" in v["name"]]
            if reading["FINISHED"] == 1:
                return
            assert time.monotonic() < deadline, f"no worker has read: {reading}"
            time.sleep(0.5)

    def restarts(self) -> int:
        """Returns how often the tasks of lost workers were restarted so far."""
        return self.log("job-manager").count("tasks will be restarted to recover the failed task")

    def ask(self, path: str) -> Any:
        """Returns an answer of Flink's REST API."""
        url = f"http://{self.first.address}:{_REST_PORT}/{path}"
        script = f"import urllib.request as r; print(r.urlopen({url!r}).read().decode())"
        return json.loads(run(self.first.enter(["python", "-c", script]), check=True).stdout)
