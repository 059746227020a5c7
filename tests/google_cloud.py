"""A mock of Google Cloud on the loopback interface: bucket store, tokens, Dataflow's API.

    python -m tests.google_cloud PORT [JOB_SERVER WORKER_POOL FOLDER]

With a port alone it serves tokens only. A job of Dataflow is stored in FOLDER: ``job.json`` as it
was submitted, ``pipeline.pb`` as it was staged. The pipeline is then executed by a portable job
server, on a pool of workers: libraries are those of the tests, this package and the language model
are what was staged, in FOLDER/package.
"""

import io
import json
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.transforms import environments
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.servers import server

PROJECT = "test-project"


@contextmanager
def serve_gcs(folder: Path) -> Iterator[dict[str, str]]:
    """Runs a bucket store, and yields the environment variables that libraries need to access it.

    The store takes any token. ``folder`` gets the credentials of a test account.
    """
    with server("tests.gcs_server", ["{port}"], folder / "store.log") as port:
        credentials = folder / "credentials.json"
        environment = {
            "STORAGE_EMULATOR_HOST": f"http://localhost:{port}",
            "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks another API, over TLS alone
        }
        with server("tests.google_cloud", ["{port}"], environment=environment) as tokens:
            credentials.write_text(json.dumps(_account(f"http://localhost:{tokens}/token")))
            yield environment


@contextmanager
def serve_dataflow(folder: Path, cloud: dict[str, str]) -> Iterator[str]:
    """Runs a mock of Dataflow along with a store, and yields its endpoint."""
    package = folder / "package"
    package.mkdir()
    # The workers run outside the repository, and import its packages from the staged files.
    worker_environment = cloud | {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": ""}
    jobs = "tests.portable_job_server"
    of_jobs = ["--port={port}", f"--staging_dir={folder / 'staging'}", f"--orders={folder}"]
    workers = "apache_beam.runners.worker.worker_pool_main"
    with (
        server(jobs, of_jobs, folder / "jobs.log") as job,
        server(
            workers,
            ["--service_port={port}"],
            folder / "workers.log",
            folder=folder,
            environment=worker_environment,
        ) as pool,
        server(
            "tests.google_cloud",
            ["{port}", str(job), str(pool), str(folder)],
            folder / "dataflow.log",
            environment=cloud,
        ) as port,
    ):
        yield f"http://localhost:{port}"


def _account(token_uri: str) -> dict[str, str]:
    """Returns the credentials file of a service account, with a new key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "test-key",
        "private_key": pem.decode(),
        "client_email": f"tests@{PROJECT}.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_uri,
    }


class _Jobs:
    """The submitted jobs, each executed once, in its own thread."""

    def __init__(self, job_server: str, worker_pool: str, folder: Path) -> None:
        self._options = PipelineOptions([f"--job_endpoint=localhost:{job_server}"])
        self._worker_pool = f"localhost:{worker_pool}"
        self._folder = folder
        self._jobs: dict[str, dict[str, Any]] = {}
        self._errors: dict[str, str] = {}

    def create(self, job: dict[str, Any]) -> dict[str, Any]:
        id_ = f"job-{len(self._jobs)}"
        (self._folder / "job.json").write_text(json.dumps(job))
        self._jobs[id_] = {**job, "id": id_, "currentState": "JOB_STATE_RUNNING"}
        threading.Thread(target=self._execute, args=(id_,), daemon=True).start()
        return self._jobs[id_]

    def get(self, id_: str) -> dict[str, Any]:
        return self._jobs[id_]

    def messages(self, id_: str) -> dict[str, Any]:
        error = self._errors.get(id_)
        if error is None:
            return {}
        message = {
            "id": "1",
            "time": "2026-01-01T00:00:00Z",
            "messageText": error,
            "messageImportance": "JOB_MESSAGE_ERROR",
        }
        return {"jobMessages": [message]}

    def _execute(self, id_: str) -> None:
        try:
            self._run(self._jobs[id_])
            state = "JOB_STATE_DONE"
        except Exception as error:  # which the service returns as messages of the job
            self._errors[id_] = str(error)
            state = "JOB_STATE_FAILED"
        self._jobs[id_] = {**self._jobs[id_], "currentState": state}

    def _run(self, job: dict[str, Any]) -> None:
        url = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
        system, name = fsspec.url_to_fs(url)
        staged = system.cat_file(name)
        (self._folder / "pipeline.pb").write_bytes(staged)
        pipeline = beam_runner_api_pb2.Pipeline.FromString(staged)
        workers = environments.ExternalEnvironment(self._worker_pool).to_runner_api(None)
        for environment in pipeline.components.environments.values():
            self._unpack(environment)
            environment.urn, environment.payload = workers.urn, workers.payload
            environment.ClearField("dependencies")
        result = PortableRunner().run_portable_pipeline(pipeline, self._options)
        result.wait_until_finish()

    def _unpack(self, environment: beam_runner_api_pb2.Environment) -> None:
        """Unpacks the staged packages, as a worker of Dataflow installs them when it starts."""
        for dependency in environment.dependencies:
            assert dependency.type_urn == common_urns.artifact_types.URL.urn
            payload = beam_runner_api_pb2.ArtifactUrlPayload.FromString(dependency.type_payload)
            system, name = fsspec.url_to_fs(payload.url)
            content = io.BytesIO(system.cat_file(name))
            if name.endswith(".whl"):
                zipfile.ZipFile(content).extractall(self._folder / "package")
            elif name.endswith(".tar.gz"):
                with tarfile.open(fileobj=content) as archive:
                    for member in filter(tarfile.TarInfo.isfile, archive):
                        _, _, name = member.name.partition("/")  # without the version's folder
                        path = self._folder / "package" / name
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(archive.extractfile(member).read())


class _Handler(BaseHTTPRequestHandler):
    jobs: _Jobs

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/token":
            self._answer({"access_token": "test-token", "expires_in": 3600, "token_type": "Bearer"})
        elif self._place()[-1] == "jobs":
            self._answer(self.jobs.create(json.loads(body)))
        else:
            self.send_error(404)

    def do_GET(self) -> None:
        *_, parent, name = self._place()
        if parent == "jobs":
            self._answer(self.jobs.get(name))
        elif name == "messages":
            self._answer(self.jobs.messages(parent))
        else:
            self.send_error(404)

    def _place(self) -> list[str]:
        return self.path.partition("?")[0].strip("/").split("/")

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    port, *of_dataflow = sys.argv[1:]
    if of_dataflow:
        job_server, worker_pool, folder = of_dataflow
        _Handler.jobs = _Jobs(job_server, worker_pool, Path(folder))
    ThreadingHTTPServer(("localhost", int(port)), _Handler).serve_forever()


if __name__ == "__main__":
    main()
