"""The job server of an engine: whether it answers, before anything is submitted."""

import socket
import time
from typing import NamedTuple

import grpc
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

SECONDS_TO_ANSWER = 30
_ENGINES = {"FlinkPipelineOptions": "Flink", "SparkPipelineOptions": "Spark"}


class JobServerError(Exception):
    """No job server answers at an endpoint; the message names it."""


class Endpoint(NamedTuple):
    """Host and port of ``--job_endpoint``."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Returns host and port of ``HOST:PORT``.

    >>> parse_endpoint("[::1]:8099")
    Endpoint(host='::1', port=8099)

    Raises:
        JobServerError: It is something else.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise JobServerError(f"--job_endpoint={text} is not HOST:PORT")
    return Endpoint(host.removeprefix("[").removesuffix("]"), int(port))


def check_answers(job_endpoint: str, seconds: float = SECONDS_TO_ANSWER) -> str:
    """Waits until a job server answers, and returns the name of its engine, if it states that.

    The server may be starting at the same time. Beam itself would wait for five minutes, and not
    say for what.

    Raises:
        JobServerError: None answers in that time.
    """
    deadline = time.monotonic() + seconds
    endpoint = parse_endpoint(job_endpoint)
    _wait_for_port(endpoint, deadline, seconds)
    with grpc.insecure_channel(job_endpoint) as channel:
        service = beam_job_api_pb2_grpc.JobServiceStub(channel)
        request = beam_job_api_pb2.DescribePipelineOptionsRequest()
        try:
            described = service.DescribePipelineOptions(
                request, timeout=max(1.0, deadline - time.monotonic()), wait_for_ready=True
            )
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise JobServerError(
                    f"{endpoint} (--job_endpoint) accepts connections, but is no job server that "
                    f"answers within {seconds:g} s"
                ) from error
            raise JobServerError(
                f"{endpoint} (--job_endpoint) is no job server: {error.details()}"
            ) from error
    groups = {option.group.rpartition(".")[2] for option in described.options}
    return next((name for group, name in _ENGINES.items() if group in groups), "")


def _wait_for_port(endpoint: Endpoint, deadline: float, seconds: float) -> None:
    """Waits until a port accepts connections.

    Raises:
        JobServerError: It does not; why is that of the last try.
    """
    while True:
        try:
            with socket.create_connection(endpoint, max(1.0, deadline - time.monotonic())):
                return
        except socket.gaierror as error:
            raise JobServerError(
                f"there is no host {endpoint.host} (--job_endpoint): {error.strerror}"
            ) from error
        except OSError as error:
            if time.monotonic() + 1 > deadline:
                raise JobServerError(
                    f"no job server answers at {endpoint} (--job_endpoint) within {seconds:g} s: "
                    f"{error.strerror or error}"
                ) from error
        time.sleep(1)


def is_this_machine(host: str) -> bool:
    """Returns whether a host name is one of this machine."""
    for family, kind, protocol, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.bind(address)
            except OSError:
                continue
            return True
    return False
