"""Worker processes of the local runner, as forks of `fork_server`."""

import os
from multiprocessing.connection import Connection

from apache_beam.portability import python_urns
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    GrpcWorkerHandler,
    WorkerHandler,
)
from apache_beam.runners.worker import sdk_worker_main
from google.protobuf import json_format, text_format

from pipelines.beam import (
    fork_server,
    pipeline,  # noqa: F401  # the steps are imported for all workers at once
)


def use_forks() -> None:
    """Lets Beam start the workers of ``--direct_running_mode=multi_processing`` as forks."""
    fork_server.start()
    WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)(_ForkedWorker)


class _ForkedWorker(GrpcWorkerHandler):
    """Starts a worker and waits for its end, instead of Beam's handler of subprocesses."""

    def __init__(self, command: bytes, *arguments: object) -> None:
        super().__init__(*arguments)

    def start_worker(self) -> None:
        options = self.provision_info.provision_info.pipeline_options
        environment = {
            **os.environ,
            "CONTROL_API_SERVICE_DESCRIPTOR": _as_text(self.control_api_service_descriptor()),
            "LOGGING_API_SERVICE_DESCRIPTOR": _as_text(self.logging_api_service_descriptor()),
            "PIPELINE_OPTIONS": json_format.MessageToJson(options),
            "WORKER_ID": self.worker_id,
        }
        # The fork server has the stderr of its start, which is that of this process no more.
        with Connection(os.dup(2), readable=False) as stderr:
            self._process = fork_server.CONTEXT.Process(target=_run, args=(environment, stderr))
            self._process.start()

    def stop_worker(self) -> None:
        self._process.kill()  # at the end of a build, or when one is given up
        self._process.join()


def _as_text(descriptor: object) -> str:
    text: str = text_format.MessageToString(descriptor)
    return text


def _run(environment: dict[str, str], stderr: Connection) -> None:
    """Works until the launcher ends it, or has ended; Ctrl-C is left to the launcher."""
    os.dup2(stderr.fileno(), 2)
    stderr.close()
    os.environ.clear()
    os.environ.update(environment)
    sdk_worker_main.main([])
