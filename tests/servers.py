"""Starts servers on free ports of the loopback interface."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType

from tests.processes import REPOSITORY, started


@contextmanager
def server(
    module: str,
    options: Sequence[str],
    log: Path | None = None,
    *,
    folder: Path = REPOSITORY,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[int]:
    """Yields the port of a module's server, which ends with the block, its processes included.

    Args:
        module: run as ``python -m``.
        options: its arguments, in which ``{port}`` stands for the port.
        log: a file for stderr, which is that of the tests by default.
        folder: the folder to run in.
        environment: variables to add to the environment of the test.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Beam's worker pool starts workers by the name `python`.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", module, *(option.format(port=port) for option in options)]
    with ExitStack() as stack:
        process = stack.enter_context(
            started(
                command,
                env={"PATH": path, **environment},
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=None if log is None else stack.enter_context(log.open("wb")),
            )
        )
        _wait_for(port, process)
        yield port


def _wait_for(port: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"no server on port {port}")
