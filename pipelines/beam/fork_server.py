"""The process that workers of the local runner are forks of, once it has imported what they use.

Beam starts each worker as a new interpreter, which imports Beam and this package again. This module
imports neither, so that the process can start while the launcher still imports them.
"""

import multiprocessing
import os
from multiprocessing import forkserver

from pipelines.interrupts import interrupts_spare_children

CONTEXT = multiprocessing.get_context("forkserver")


def start() -> None:
    """Starts the process, unless it runs already; it ends with this one, even if that is killed."""
    # Read when numpy is imported: each worker has a core, not threads on all of them.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    CONTEXT.set_forkserver_preload(["pipelines.beam.local_worker"])
    with interrupts_spare_children():
        forkserver.ensure_running()
