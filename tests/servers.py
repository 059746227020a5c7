"""Servers in processes of their own, on free ports of the loopback interface."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

REPOSITORY = Path(__file__).parents[1]


@contextmanager
def server(
    module: str,
    options: Sequence[str],
    log: Path | None = None,
    *,
    folder: Path = REPOSITORY,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[int]:
    """The port of a module's server, which ends with the block and whatever it started with it.

    ``{port}`` in an option stands for the port. What the server says goes into ``log``. It runs in
    ``folder``, with an ``environment`` beside that of the test.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Beam's pool of workers starts them by the name `python`.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        [sys.executable, "-m", module, *(option.format(port=port) for option in options)],
        cwd=folder,
        env=os.environ | {"PATH": path} | environment,
        start_new_session=True,
        stderr=None if log is None else log.open("wb"),
    )
    try:
        _wait_for(port, process)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"no server on port {port}")
