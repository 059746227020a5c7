"""The first cause of a failure, from the tracebacks of workers and engines.

A runner passes on only text: a Python traceback, which Flink and Spark wrap in those of Java.
"""

import re
from collections.abc import Sequence

# Errors of the input or of the installation, which steps raise to be read by a person.
_INPUT_ERRORS = re.compile(
    r"(?:RawFileError|StoreError|StrictError|ImageIdsError|TooManyRejectedError|EmptyError|"
    r"LeakError|ConservationError|LeaseError|LeaseLostError|OutputFolderError|ParserError): "
    r"(.*?)(?: \[while running|\n|$)"
)
# What writers raise on a full disk, beyond a quota, or beyond the size that a file may have.
_NO_SPACE = re.compile(r"(No space left on device|Disk quota exceeded|File too large)")
# The last line of a Python traceback; Beam adds the step.
_PYTHON_ERROR = re.compile(
    r"^(?!Caused by)([A-Za-z_][\w.]*: .*) \[while running '(.*?)'\]", re.MULTILINE
)
_JAVA_CAUSE = re.compile(r"^Caused by: (.+)$", re.MULTILINE)


def input_error(text: str) -> str | None:
    """Returns the message of an error of the input; of a chain of them, that of the last.

    >>> input_error("x.RawFileError: a.json: expected a list [while running 'Find slices']")
    'a.json: expected a list'
    """
    messages: list[str] = _INPUT_ERRORS.findall(text)
    return messages[-1] if messages else None


def no_space(text: str) -> str | None:
    """Returns how the operating system states that a disk is full, if it does."""
    match = _NO_SPACE.search(text)
    return match[1] if match else None


def first_cause(texts: Sequence[str]) -> str:
    r"""Returns one line about why a job failed, from its messages of errors in their order.

    An error of the input comes before all others, then one that a step raised, then the innermost
    cause of an engine.

    >>> first_cause(["Job failed.\nCaused by: E: 1\nCaused by: OutOfMemoryError: Java heap space"])
    'OutOfMemoryError: Java heap space'
    >>> first_cause(["  ...\nKeyError: 'box' [while running 'Read annotations-ptransform-7']"])
    "KeyError: 'box', in the step Read annotations"
    """
    for text in texts:
        if message := input_error(text):
            return message
    for text in texts:
        if errors := _PYTHON_ERROR.findall(text):
            error, step = errors[-1]
            return f"{error}, in the step {step.partition('-ptransform-')[0]}"
    for text in texts:
        if causes := _JAVA_CAUSE.findall(text):
            return str(causes[-1])
    for text in texts:
        if lines := text.strip().splitlines():
            return (lines[-1] if lines[0].startswith("Traceback") else lines[0]).strip()
    return "the engine states no error"
