"""A job of a job server: submitted, watched, cancelled.

Beam's own result of a submission waits with the time limit of one request, five minutes, on servers
that number jobs before they run; reports nothing in between; and leaves the job running when it is
interrupted.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.metrics import MetricsFilter
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.runners.portability.portable_runner import (
    MESSAGE_LOG_LEVELS,
    TERMINAL_STATES,
    PortableMetrics,
)
from apache_beam.utils.subprocess_server import SubprocessServer

from pipelines.beam.dofns import METRICS
from pipelines.beam.failure import first_cause
from pipelines.interrupts import interrupts, interrupts_spare_children

_REQUEST_SECONDS = 30
_LOST_SECONDS = 30  # without an answer, after which the job server counts as lost
_LAST_MESSAGES_SECONDS = 10
_CANCEL_SECONDS = 20
_STOP_SECONDS = 10
_LOGGER = logging.getLogger(__name__)
_JobState = beam_job_api_pb2.JobState


class JobFailedError(Exception):
    """A job failed or was cancelled, or its server is lost; the message is one line."""


class Job:
    """A job that a job server runs.

    Args:
        service: the job server.
        job_id: its name of the job.
        stop: ends what this process has for the job: workers, and the server.
    """

    def __init__(
        self,
        service: beam_job_api_pb2_grpc.JobServiceStub,
        job_id: str,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.id = job_id
        self.stop = stop
        self._service = service
        self._errors: list[str] = []

    def state(self) -> str:
        """Returns the state, such as ``RUNNING``.

        Raises:
            grpc.RpcError: The server does not answer, or does not know the job.
        """
        request = beam_job_api_pb2.GetJobStateRequest(job_id=self.id)
        answer = self._service.GetState(request, timeout=_REQUEST_SECONDS)
        name: str = _JobState.Enum.Name(answer.state)
        return name

    def counters(self) -> dict[str, int]:
        """Returns the counters of the build by name; many servers know none before the end.

        Raises:
            grpc.RpcError: The server does not answer.
        """
        request = beam_job_api_pb2.GetJobMetricsRequest(job_id=self.id)
        response = self._service.GetJobMetrics(request, timeout=_REQUEST_SECONDS)
        return counters_of(response)

    def cancel(self) -> str:
        """Asks the server to cancel the job; returns its last state, ended or not.

        Raises:
            grpc.RpcError: The server does not answer.
        """
        request = beam_job_api_pb2.CancelJobRequest(job_id=self.id)
        self._service.Cancel(request, timeout=_REQUEST_SECONDS)
        deadline = time.monotonic() + _CANCEL_SECONDS
        while not has_ended(state := self.state()) and time.monotonic() < deadline:
            time.sleep(0.5)
        return state

    def wait(self, on_state: Callable[[str], None]) -> None:
        """Waits until the job is done; its messages are logged.

        Args:
            on_state: called with the state about every second.

        Raises:
            JobFailedError: It failed, was cancelled, or its server is lost.
        """
        messages = threading.Thread(target=self._log_messages, daemon=True)
        messages.start()
        before = ""
        while not has_ended(state := self._reachable_state()):
            if state != before:
                _LOGGER.info("the job %s is %s", self.id, state)
                before = state
            on_state(state)
            time.sleep(1)
        _LOGGER.info("the job %s is %s", self.id, state)
        messages.join(_LAST_MESSAGES_SECONDS)
        if state == "FAILED":
            raise JobFailedError(first_cause(self._errors))
        if state not in ("DONE", "DRAINED"):
            raise JobFailedError(f"the job ended in the state {state}")

    def _reachable_state(self) -> str:
        deadline = time.monotonic() + _LOST_SECONDS
        while True:
            try:
                return self.state()
            except grpc.RpcError as error:
                _LOGGER.info("no state of the job: %s", error.details())
                if time.monotonic() > deadline:
                    raise JobFailedError(
                        f"the job server does not answer any more ({error.details()}); the job "
                        f"{self.id} may go on without it"
                    ) from error
            time.sleep(1)

    def _log_messages(self) -> None:
        """Logs the messages of the job until its end, and keeps those of errors."""
        request = beam_job_api_pb2.JobMessagesRequest(job_id=self.id)
        try:
            for response in self._service.GetMessageStream(request):
                if response.HasField("message_response"):
                    message = response.message_response
                    level = MESSAGE_LOG_LEVELS[message.importance]
                    logging.getLogger("job").log(level, "%s", message.message_text)
                    if level == logging.ERROR:
                        self._errors.append(message.message_text)
        except grpc.RpcError as error:
            _LOGGER.info("no more messages: %s", error.details())


def submit(pipeline: beam.Pipeline, starts_server: bool) -> Job:
    """Submits a pipeline to a job server.

    Args:
        pipeline: the pipeline, with the options of its runner.
        starts_server: Whether Beam starts the job server, as a child of this process.
    """
    if not starts_server:
        result = pipeline.run()
        return Job(result._job_service, result._job_id, lambda: _stop_workers(result._cleanup))
    runner = pipeline.runner
    server = runner.default_job_server(pipeline.options)
    runner.default_job_server = lambda _: server  # which can be stopped here
    try:
        # There is no job yet. Beam installs a handler, which the end of the block replaces: it
        # would end the server before that can cancel the job.
        with interrupts(), _servers_outlive_interrupts():
            server.start()
        result = pipeline.run()
    except BaseException:
        server.stop()
        raise

    def stop() -> None:
        server.stop()
        _stop_workers(result._cleanup)

    # Nothing public has the id of the job.
    return Job(result._job_service, result._job_id, stop)


@contextmanager
def _servers_outlive_interrupts() -> Iterator[None]:
    """Lets job servers that Beam starts in the block go on after Ctrl-C, to cancel the job.

    Beam asks them to end when the job has, and kills them after five seconds.
    """

    def start_process(server: SubprocessServer) -> Any:
        with interrupts_spare_children():
            return of_beam(server)

    of_beam = SubprocessServer.start_process
    SubprocessServer.start_process = start_process
    try:
        yield
    finally:
        SubprocessServer.start_process = of_beam


def _stop_workers(stop: Callable[[], None]) -> None:
    """Ends the workers of this process, if there are any, and waits for what they still print."""
    stop()
    deadline = time.monotonic() + _STOP_SECONDS
    for thread in threading.enumerate():
        if thread.name.startswith("run_worker_"):  # as Beam calls them
            thread.join(max(0.0, deadline - time.monotonic()))


def has_ended(state: str) -> bool:
    """Returns whether a state is final."""
    return _JobState.Enum.Value(state) in TERMINAL_STATES


def counters_of(response: beam_job_api_pb2.GetJobMetricsResponse) -> dict[str, int]:
    """Returns the counters of the build, each summed over the steps that have it."""
    query = PortableMetrics(response).query(MetricsFilter().with_namespace(METRICS))
    counters = Counter[str]()
    for counter in query["counters"]:
        value = counter.attempted if counter.committed is None else counter.committed
        counters[counter.key.metric.name] += value
    return counters
