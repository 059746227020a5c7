"""The web pages of engines, through the REST APIs behind them.

Flink's job server knows no counters before a job has ended, and its jobs go on when it cancels
them: it stops waiting, and calls them cancelled. The cluster knows and does better. Spark's page is
that of the job server itself, and ends with the job.
"""

import http.client
import time
import urllib.request
from collections.abc import Sequence
from typing import TypeVar

import grpc
import msgspec
from apache_beam.portability.api import beam_job_api_pb2
from google.protobuf import json_format

from pipelines.beam.portable_job import Job, counters_of
from schemas.decodable import decodable

T = TypeVar("T")

_FLINK_PORT, _SPARK_PORT = 8081, 4040  # unless they are configured
_REQUEST_SECONDS = 3
_FIND_SECONDS = 60
_CANCEL_SECONDS = 30
_ENDED = ("CANCELED", "FAILED", "FINISHED")


class _FlinkJob(msgspec.Struct):
    jid: str
    name: str
    state: str


class _FlinkJobs(msgspec.Struct):
    jobs: list[_FlinkJob]


class _FlinkAccumulator(msgspec.Struct):
    name: str
    value: str


class _FlinkAccumulators(msgspec.Struct, rename="kebab"):
    user_task_accumulators: list[_FlinkAccumulator]


class _SparkApplication(msgspec.Struct):
    name: str


class EnginePage:
    """The page of a job; this one of an engine without pages that are known."""

    def find(self) -> str:
        """Returns the URL of the job's page; empty if there is none, or not yet."""
        return ""

    def counters(self) -> dict[str, int]:
        """Returns the counters of the build by name; none if they are not known."""
        return {}

    def cancel(self) -> str:
        """Asks the engine to cancel the job, where its job server does not.

        Returns:
            A part of a sentence about what came of it.
        """
        return ""


def engine_page(engine: str, job: Job, job_endpoint: str, flink_master: str) -> EnginePage:
    """Returns the page of a job.

    Args:
        engine: the name of the engine; empty if it is not known.
        job: the job.
        job_endpoint: ``HOST:PORT`` of its job server; empty if it is this machine.
        flink_master: ``HOST:PORT`` of Flink's page; empty for the usual one.
    """
    host = job_endpoint.rpartition(":")[0] or "localhost"
    if engine == "Spark":
        return SparkPage(f"http://{host}:{_SPARK_PORT}", job.id)
    if engine == "Flink":
        job_name = job.id.rpartition("_")[0]  # its job server adds an identifier
        return FlinkPage(flink_addresses(flink_master, host), job_name)
    return EnginePage()


def flink_addresses(flink_master: str, host: str) -> list[str]:
    """Returns where the page of a cluster may be: as it is stated, or on the job server's host.

    >>> flink_addresses("flink:8082", "server")
    ['http://flink:8082', 'http://server:8081']
    >>> flink_addresses("[auto]", "localhost")
    ['http://localhost:8081']
    """
    addresses = [f"http://{host}:{_FLINK_PORT}"]
    if flink_master and not flink_master.startswith("["):
        scheme = "" if "://" in flink_master else "http://"
        addresses.insert(0, f"{scheme}{flink_master.rstrip('/')}")
    return addresses


class SparkPage(EnginePage):
    """The page of a job server of Spark.

    Args:
        address: ``http://HOST:PORT``.
        job_id: the name of the job, which no other has.
    """

    def __init__(self, address: str, job_id: str) -> None:
        self._address = address
        self._job_id = job_id
        self._given_up = time.monotonic() + _FIND_SECONDS

    def find(self) -> str:
        """Returns the URL of the page; empty if it does not have the job, or not yet."""
        if time.monotonic() < self._given_up:
            url = f"{self._address}/api/v1/applications"
            applications = _request(url, list[_SparkApplication]) or []
            if any(application.name == self._job_id for application in applications):
                return self._address
        return ""


class FlinkPage(EnginePage):
    """The page of one job on a Flink cluster, which is searched by name.

    Args:
        addresses: where the page may be, ``http://HOST:PORT``.
        job_name: the name of the job, which no other has.
    """

    def __init__(self, addresses: Sequence[str], job_name: str) -> None:
        self._addresses = addresses
        self._job_name = job_name
        self._address = ""
        self._job_id = ""
        self._given_up = time.monotonic() + _FIND_SECONDS

    def find(self) -> str:
        """Returns the URL of the job's page; empty if there is none, or not yet."""
        if not self._job_id and time.monotonic() < self._given_up:
            for address in self._addresses:
                for job in _flink_jobs(address) or []:
                    if job.name == self._job_name:
                        self._address, self._job_id = address, job.jid
        return f"{self._address}/#/job/running/{self._job_id}" if self._job_id else ""

    def counters(self) -> dict[str, int]:
        """Returns the counters of the build by name; none if the page is not known."""
        if not self.find():
            return {}
        url = f"{self._address}/jobs/{self._job_id}/accumulators"
        answer = _request(url, _FlinkAccumulators)
        for accumulator in answer.user_task_accumulators if answer else ():
            if accumulator.name == "__metricscontainers":  # Beam's
                response = beam_job_api_pb2.GetJobMetricsResponse()
                try:
                    return counters_of(json_format.Parse(accumulator.value, response))
                except json_format.ParseError:  # of a version of Beam that writes another form
                    return {}
        return {}

    def cancel(self) -> str:
        """Asks Flink to cancel the job, and waits until it has ended.

        A job that is being submitted appears there even if its job server has cancelled it.
        """
        deadline = self._given_up = time.monotonic() + _CANCEL_SECONDS
        while not self.find() and self._answers() and time.monotonic() < deadline:
            time.sleep(1)
        if not self._job_id:
            return ", but Flink goes on, and its page is not known: cancel the job there"
        url = f"{self._address}/jobs/{self._job_id}?mode=cancel"
        _request(url, dict[str, str], "PATCH")
        while (state := self._state()) not in ("", *_ENDED) and time.monotonic() < deadline:
            time.sleep(0.5)
        return f", Flink {state or 'does not answer'}"

    def _answers(self) -> bool:
        return any(_flink_jobs(address) is not None for address in self._addresses)

    def _state(self) -> str:
        jobs = _flink_jobs(self._address) or []
        return next((job.state for job in jobs if job.jid == self._job_id), "")


def cancel(job: Job, page: EnginePage) -> str:
    """Asks the job server, and its engine where that is needed, to cancel a job.

    Returns:
        One line about what is known of it then.
    """
    try:
        server = f"the job server states {job.cancel()}"
    except grpc.RpcError as error:
        server = f"the job server cannot be asked ({error.details()})"
    return f"{server}{page.cancel()}"


def _flink_jobs(address: str) -> list[_FlinkJob] | None:
    overview = _request(f"{address}/jobs/overview", _FlinkJobs)
    return overview.jobs if overview else None


def _request(url: str, layout: type[T], method: str = "GET") -> T | None:
    """Returns the answer to a request; None if there is no such page."""
    try:
        request = urllib.request.Request(url, method=method)
        with urllib.request.urlopen(request, timeout=_REQUEST_SECONDS) as answer:
            return msgspec.json.decode(answer.read(), type=decodable(layout))
    except (OSError, ValueError, http.client.HTTPException):  # no server, or another one
        return None
