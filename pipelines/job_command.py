"""The command ``mdetr-build job``: how far a job of a job server is, or its end."""

import argparse
import sys
from collections.abc import Sequence

import grpc
from apache_beam.portability.api import beam_job_api_pb2_grpc

from pipelines.beam import job_server, progress
from pipelines.beam.engine_page import cancel, engine_page
from pipelines.beam.portable_job import Job, has_ended
from shards.terminal import printable


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit status.

    0: the state is printed. 1: the job server does not answer, or does not know the job.

    Raises:
        SystemExit: 2 for usage errors, 0 after ``--help``.
    """
    parser = argparse.ArgumentParser(
        prog="mdetr-build job", description="State how far a job of a job server is, or cancel it."
    )
    parser.add_argument("id", help="what `mdetr-build --detach` printed")
    parser.add_argument("--job_endpoint", required=True, help="HOST:PORT of the job server")
    parser.add_argument("--flink_master", default="", help="HOST:PORT of Flink's page, if not 8081")
    parser.add_argument("--cancel", action="store_true", help="ask the server to cancel the job")
    arguments = parser.parse_args(argv)
    try:
        engine = job_server.check_answers(arguments.job_endpoint)
        with grpc.insecure_channel(arguments.job_endpoint) as channel:
            job = Job(beam_job_api_pb2_grpc.JobServiceStub(channel), arguments.id)
            page = engine_page(engine, job, arguments.job_endpoint, arguments.flink_master)
            state = job.state()
            # Flink may go on with a job that its job server calls cancelled.
            if arguments.cancel and (state == "CANCELLED" or not has_ended(state)):
                print(cancel(job, page))
                return 0
            print(f"{state} {page.find()}".rstrip())
            counters = job.counters() or page.counters()
            for name, stage in progress.of_counters(counters).items():
                print(f"{name}: {stage.done:,}" + (f" of {stage.total:,}" if stage.total else ""))
    except job_server.JobServerError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1
    except grpc.RpcError as error:
        reason = printable(error.details())
        print(f"{parser.prog}: error: no state of {arguments.id}: {reason}", file=sys.stderr)
        return 1
    return 0
