"""The entry of the Flex Template: options of a service to the command, which submits and leaves.

The service runs this file in a container, with ``--NAME=VALUE`` for each parameter of the template
and for each option of Beam that it adds, such as ``--runner`` and ``--template_location``. With the
latter, Beam writes the job to a file, and the service creates it when this program has ended.
"""

import os
import sys
from collections.abc import Iterator, Sequence

from pipelines.build import main, make_parser

WORKER_IMAGE = "MDETR_WORKER_IMAGE"  # of the template's image: the image of the workers
SET_SEPARATOR = ";"  # between the values of --set, which a parameter cannot repeat


class ParameterError(ValueError):
    """A parameter of the template has a value that it cannot have."""


def command_arguments(arguments: Sequence[str], worker_image: str = "") -> list[str]:
    """Returns the arguments of the command for those that the service gives.

    >>> command_arguments(["--recipe=demo", "--strict=true", "--set=a=1;b=2", "--region=x"])
    ['demo', '--strict', '--set=a=1', '--set=b=2', '--region=x', '--detach']

    Args:
        arguments: ``--NAME=VALUE`` each.
        worker_image: the image of the workers, unless an argument states another one.

    Raises:
        ParameterError: An option without a value is neither true nor false.
    """
    translated = [word for argument in arguments for word in _translated(argument)]
    if worker_image and not any(word.startswith("--sdk_container_image=") for word in translated):
        translated.append(f"--sdk_container_image={worker_image}")
    return [*translated, "--detach"]


def _translated(argument: str) -> Iterator[str]:
    name, _, value = argument.removeprefix("--").partition("=")
    if name == "recipe":
        yield value
    elif name == "set":
        yield from (f"--set={text}" for text in value.split(SET_SEPARATOR) if text)
    elif name in _flags():
        if value not in ("true", "false"):
            raise ParameterError(f"{name}: expected true or false, found {value!r}")
        if value == "true":
            yield f"--{name}"
    else:
        yield argument


def _flags() -> set[str]:
    """Returns the names of the command's options that have no value."""
    return {
        name.removeprefix("--")
        for action in make_parser()._actions
        if action.nargs == 0
        for name in action.option_strings
    }


if __name__ == "__main__":
    try:
        words = command_arguments(sys.argv[1:], os.environ.get(WORKER_IMAGE, ""))
    except ParameterError as error:
        sys.exit(str(error))
    sys.exit(main(words))
