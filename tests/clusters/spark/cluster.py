"""A standalone Spark cluster."""

import os
from pathlib import Path

from tests.clusters.cluster import JOB_PORT, Cluster
from tests.clusters.hosts import Host
from tests.clusters.java import OPTIONS

POM = Path(__file__).with_name("pom.xml")
_MASTER_PORT = 7077
_DEPLOY = "org.apache.spark.deploy"


class SparkCluster(Cluster):
    """A master, and workers with one core each; an executor serves one job."""

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
        address = self.first.address
        arguments = [f"--spark-master-url={self._url}", f"--job-host={address}"]
        arguments += [f"--job-port={JOB_PORT}", "--artifact-port=8098", "--expansion-port=8097"]
        arguments += [f"--artifacts-dir={self.folder / 'artifacts'}"]
        settings = {
            "spark.driver.host": address,
            "spark.executor.memory": executor_memory,
            "spark.executor.extraJavaOptions": " ".join(OPTIONS),
            "spark.executor.heartbeatInterval": "1s",
            "spark.network.timeout": "30s",
            "spark.network.timeoutInterval": "10s",
            "spark.ui.enabled": "false",
        }
        options = ["-Xmx560m", *(f"-D{key}={value}" for key, value in settings.items())]
        main = "org.apache.beam.runners.spark.SparkJobServerDriver"
        self._start_java(self.first, "job-server", main, arguments, *options, port=JOB_PORT)

    @property
    def _url(self) -> str:
        return f"spark://{self.first.address}:{_MASTER_PORT}"

    def _environment(self, host: Host) -> dict[str, str]:
        return {
            "SPARK_HOME": str(self.folder),
            "SPARK_LOCAL_IP": host.address,
            "SPARK_SCALA_VERSION": "2.12",
        }
