"""The worker processes of a data loader: their start, and their end with the trainer."""

import os
import signal
import threading
from collections.abc import Sequence
from functools import partial
from multiprocessing import forkserver
from typing import Any

from shards.reading.shard_set import ShardSet


def worker_options(sets: Sequence[ShardSet]) -> dict[str, Any]:
    """Returns the arguments with which a ``DataLoader`` has to start its workers."""
    # The threads of the network client of remote sets do not survive a fork.
    remote = any(shards.is_remote for shards in sets)
    if remote:
        _start_fork_server()
    return {
        "worker_init_fn": partial(_ignore_signals, os.getpid()),
        "multiprocessing_context": "forkserver" if remote else None,
    }


def _start_fork_server() -> None:
    """Starts the process that forks data workers; it ignores signals and ends with the trainer."""
    # Python's fork server ignores SIGINT itself, but not yet while it imports the module below.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    # It imports this once; every worker would import torch and transformers again.
    forkserver.set_forkserver_preload(["mdetr_model.data.samples"])
    forkserver.ensure_running()
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def _ignore_signals(trainer_pid: int, worker_id: int) -> None:
    """Keeps a data worker running when all processes of a job are interrupted or terminated.

    The trainer handles those signals, and needs batches until its step is done. The worker ends
    where the trainer itself terminates it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_exit_with, args=[trainer_pid], daemon=True).start()


def _exit_with(trainer_pid: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer_pid:
        pass
    os._exit(0)
