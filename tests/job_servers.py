"""Beam's own job server and worker pool, as separate processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import server


@contextmanager
def job_server(folder: Path) -> Iterator[str]:
    """Yields ``HOST:PORT`` of a job server with two workers, which follows orders in a folder.

    Flink and Spark have such servers.
    """
    options = "--port={port}", f"--staging_dir={folder / 'staging'}", f"--orders={folder}"
    with server("tests.portable_job_server", options, folder / "job_server.log") as port:
        yield f"localhost:{port}"


@contextmanager
def worker_pool(log: Path) -> Iterator[str]:
    """Yields ``HOST:PORT`` of a server that starts a process for each worker that is requested."""
    module = "apache_beam.runners.worker.worker_pool_main"
    with server(module, ["--service_port={port}"], log) as port:
        yield f"localhost:{port}"
