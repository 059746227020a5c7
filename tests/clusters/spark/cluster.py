"""A standalone Spark cluster."""

import os
import re
import time
from pathlib import Path

from tests.clusters.cluster import JOB_PORT, Cluster
from tests.clusters.hosts import Host
from tests.clusters.java import JOB_SERVERS, OPTIONS

_MASTER_PORT = 7077
_DEPLOY = "org.apache.spark.deploy"


class SparkCluster(Cluster):
    """A master, and workers with one core each; an executor serves one job."""

    engine = "spark"

    def _start_master(self) -> None:
        # An installation of Spark, from which workers start executors.
        jars = self.folder / "jars"
        jars.mkdir()
        for number, path in enumerate(self._class_path.split(os.pathsep)):
            (jars / f"{number:03d}-{Path(path).name}").symlink_to(path)
        arguments = ["--host", self.first.address, "--port", str(_MASTER_PORT)]
        lost = "-Dspark.worker.timeout=8"  # seconds, after which a silent host is down
        main = f"{_DEPLOY}.master.Master"
        self._start_java(self.first, "master", main, arguments, "-Xmx192m", lost, port=_MASTER_PORT)

    def _start_worker(self, host: Host) -> None:
        arguments = ["--host", host.address, "--cores", "1", "--memory", "1g"]
        arguments += ["--work-dir", str(self.folder / host.name), self._url]
        # It beats once in a quarter of the time.
        options = ["-Xmx192m", "-Dspark.worker.timeout=8"]
        self._start_java(host, "worker", f"{_DEPLOY}.worker.Worker", arguments, *options)

    def start_job_server(self, executor_memory: str = "512m") -> None:
        arguments = [f"--spark-master-url={self._url}", f"--job-host={self.first.address}"]
        arguments += [f"--job-port={JOB_PORT}", "--artifact-port=8098", "--expansion-port=8097"]
        arguments += [f"--artifacts-dir={self.folder / 'artifacts'}"]
        options = self._options_of_driver(executor_memory)
        main = JOB_SERVERS[self.engine]
        self._start_java(self.first, "job-server", main, arguments, *options, port=JOB_PORT)

    def _options_of_driver(self, executor_memory: str) -> list[str]:
        """Returns the options of the JVM of the job server, in which the driver of a job runs."""
        settings = {
            "spark.driver.host": self.first.address,
            "spark.executor.memory": executor_memory,
            "spark.executor.extraJavaOptions": " ".join(
                [*OPTIONS, f"-Djava.io.tmpdir={self._temporary}"]
            ),
            "spark.executor.heartbeatInterval": "1s",
            "spark.network.timeout": "30s",
            "spark.network.timeoutInterval": "10s",
            "spark.ui.enabled": "false",
        }
        return ["-Xmx560m", *(f"-D{key}={value}" for key, value in settings.items())]

    @property
    def options(self) -> list[str]:
        # Instead of all jars of the job server, which the executors have: 318 MB to each of them.
        jars = self._class_path.split(os.pathsep)
        [sent] = [jar for jar in jars if Path(jar).name.startswith("beam-runners-spark-")]
        return [*super().options, f"--files_to_stage={sent}"]

    @property
    def options_without_job_server(self) -> list[str]:
        master = f"--spark_master_url={self._url}"
        of_java = [
            f"--job_server_jvm_properties={option}" for option in self._options_of_driver("512m")
        ]
        return ["--runner=SparkRunner", master, *of_java, *super().options_without_job_server]

    def wait_until_one_has_read(self) -> None:
        deadline = time.monotonic() + 120
        while True:
            log = self.log("job-server")
            stage = re.findall(r"Adding task set (\d+\.\d+) with 2 tasks", log)[-1]
            if f" in stage {stage} (TID " in "".join(re.findall("Finished task .*", log)):
                return
            assert time.monotonic() < deadline, f"no worker has finished stage {stage}"
            time.sleep(0.5)

    def lost_executors(self) -> int:
        """Returns how many executors were lost so far."""
        return len(re.findall(r"Executor \S+ removed: worker lost", self.log("job-server")))

    @property
    def _url(self) -> str:
        return f"spark://{self.first.address}:{_MASTER_PORT}"

    def _environment(self, host: Host) -> dict[str, str]:
        return {
            "SPARK_HOME": str(self.folder),
            "SPARK_LOCAL_IP": host.address,
            "SPARK_LOCAL_DIRS": str(self._temporary),
            "SPARK_SCALA_VERSION": "2.12",
        }
