"""The first cause in what engines pass on, as Flink 1.19 and Spark 3.5 did."""

import pytest

from pipelines.beam.failure import first_cause

WORKER = """\
java.lang.RuntimeException: Error received from SDK harness for instruction 5: \
Traceback (most recent call last):
  File "pipelines/io/slices.py", line 408, in _decode
    return msgspec.json.decode(memoryview(content), type=decodable(layout))
msgspec.DecodeError: Input data was truncated

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1498, in process
    return self.do_fn_invoker.invoke_process(windowed_value)
pipelines.io.raw_files.RawFileError: a.json: expected a JSON object: Input data was truncated

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "apache_beam/runners/worker/sdk_worker.py", line 310, in _execute
    response = task()
pipelines.io.raw_files.RawFileError: a.json: expected a JSON object: Input data was truncated \
[while running 'Find slices of annotations-ptransform-56']

\tat org.apache.beam.runners.fnexecution.control.FnApiControlClient
"""
BUG = """\
org.apache.spark.SparkException: Job aborted: Task 0 in stage 1.0 failed 4 times:
Traceback (most recent call last):
  File "pipelines/beam/dofns.py", line 380, in process
    read(slice_range)
KeyError: 'boxes' [while running 'Read annotations-ptransform-71']
\tat java.base/java.lang.Thread.run(Thread.java:840)
Caused by: java.lang.RuntimeException: Error received from SDK harness
"""
BUFFERS = "java.io.IOException: Insufficient number of network buffers: required 512, but only 488"
MEMORY = """\
org.apache.flink.runtime.client.JobExecutionException: Job execution failed.
\tat org.apache.flink.runtime.jobmaster.JobResult.toJobExecutionResult(JobResult.java:144)
Caused by: org.apache.flink.runtime.JobException: Recovery is suppressed by NoRestartBackoffTime
\tat org.apache.flink.runtime.executiongraph.failover.ExecutionFailureHandler
Caused by: java.lang.OutOfMemoryError: Java heap space
"""


@pytest.mark.parametrize(
    ("texts", "cause"),
    [
        ([WORKER], "a.json: expected a JSON object: Input data was truncated"),
        ([BUG], "KeyError: 'boxes', in the step Read annotations"),
        ([BUFFERS], BUFFERS),
        ([MEMORY], "java.lang.OutOfMemoryError: Java heap space"),
        (
            [MEMORY, BUG, WORKER],
            "a.json: expected a JSON object: Input data was truncated",
        ),
        (["Traceback (most recent call last):\n  ...\nValueError: 3"], "ValueError: 3"),
        ([], "the engine states no error"),
    ],
)
def test_first_cause_is_the_error_of_a_step_without_tracebacks(
    texts: list[str], cause: str
) -> None:
    assert first_cause(texts) == cause
