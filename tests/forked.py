"""Runs ``mdetr`` in new processes that need not import torch and transformers again.

A fork server imports them once; every process is a fork of it, in a separate session. All of
them end with the fork server, which ends with the test process.
"""

import ctypes
import faulthandler
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mdetr_model.__main__ import main
from mdetr_model.training.training_log import TrainingLog

_PR_SET_PDEATHSIG = 1
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [__name__, "mdetr_model.training.trainer", "mdetr_model.evaluation.evaluate_lvis"]
)


class SelfSignal(NamedTuple):
    """A signal that a training run sends to its process group.

    Attributes:
        number: of the signal.
        lines: of its log that the run has written before.
        delay: seconds after that.
    """

    number: int
    lines: int
    delay: float


class FailedRunError(AssertionError):
    """A process did not end as expected; the message is what it printed."""


def run(
    mdetr_arguments: Sequence[str], output: Path, self_signal: SelfSignal | None = None
) -> int | None:
    """Runs ``mdetr`` on one thread; returns the exit code, negative for a signal.

    Args:
        mdetr_arguments: of the command.
        output: file for stdout and stderr.
        self_signal: sent by the process to itself.
    """
    process = _start(mdetr_arguments, output, {}, self_signal)
    _join([process], [output])
    return process.exitcode


def run_ranks(ranks: int, mdetr_arguments: Sequence[str], folder: Path) -> None:
    """Runs ``mdetr`` on several ranks, in the environment that torchrun gives them.

    Raises:
        FailedRunError: a rank failed.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    job = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    outputs = [folder / f"rank{rank}.txt" for rank in range(ranks)]
    processes = [
        _start(mdetr_arguments, output, {**job, "RANK": str(rank), "LOCAL_RANK": str(rank)}, None)
        for rank, output in enumerate(outputs)
    ]
    _join(processes, outputs)
    if any(process.exitcode for process in processes):
        raise FailedRunError(_texts(outputs))


def _start(
    mdetr_arguments: Sequence[str],
    output: Path,
    environment: Mapping[str, str],
    self_signal: SelfSignal | None,
) -> BaseProcess:
    arguments = [*mdetr_arguments], str(output), dict(environment), self_signal
    process = _context.Process(target=_main, args=arguments)
    process.start()
    return process


def _join(processes: Sequence[BaseProcess], outputs: Sequence[Path], timeout: float = 180) -> None:
    """Waits for processes; one that hangs prints the stacks of its threads and ends."""
    deadline = time.monotonic() + timeout
    try:
        for process in processes:
            process.join(max(0, deadline - time.monotonic()))
        hanging = [process for process in processes if process.is_alive()]
        for process in hanging:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGABRT)
            process.join(10)
        if hanging:
            message = f"{len(hanging)} of {len(processes)} have not ended in {timeout} seconds"
            raise FailedRunError(f"{message}\n{_texts(outputs)}")
    finally:
        for process in processes:
            process.kill()


def _texts(outputs: Sequence[Path]) -> str:
    return "\n".join(f"{output}:\n{output.read_text(encoding='utf-8')}" for output in outputs)


def _main(
    mdetr_arguments: list[str],
    output: str,
    environment: dict[str, str],
    self_signal: SelfSignal | None,
) -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    with open(output, "w", encoding="utf-8") as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.enable(2)
    torch.set_num_threads(1)
    if self_signal is not None:
        _send_later(self_signal)
    sys.exit(main(mdetr_arguments))


def _send_later(self_signal: SelfSignal) -> None:
    lines = 0
    write = TrainingLog.write

    def counted(log: TrainingLog, *arguments: Any) -> None:
        nonlocal lines
        write(log, *arguments)
        lines += 1
        if lines == self_signal.lines:
            send = threading.Timer(self_signal.delay, os.killpg, [0, self_signal.number])
            send.start()

    TrainingLog.write = counted  # type: ignore[method-assign]
