"""A profile of a few training steps, by torch.profiler."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from shards import written_files
from shards.atomic import atomic_write

#: Steps before the profiled ones: the first steps of a process allocate memory and choose kernels.
WARMUP_STEPS = 3
TRACE_NAME = "trace.json"
TABLE_NAME = "operators.txt"


@contextmanager
def step_profiler(folder: Path, steps: int) -> Iterator[Callable[[], None]]:
    """Yields a function to call after each step, and writes the profile of ``steps`` of them.

    `TRACE_NAME` is for Perfetto or chrome://tracing, `TABLE_NAME` lists operators by time. A run
    that ends before has a profile of the steps until then, and none if it takes fewer than
    `WARMUP_STEPS`.

    Args:
        folder: where to write.
        steps: number of steps to profile; 0: none.

    Raises:
        OSError: a file cannot be written, or would replace a file of others.
    """
    if steps == 0:
        yield lambda: None
        return
    names = [TRACE_NAME, TABLE_NAME]
    written_files.check(folder, names)
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)

    def write(profiler: profile) -> None:
        order = "cuda_time_total" if torch.cuda.is_available() else "cpu_time_total"
        table = profiler.key_averages().table(sort_by=order, row_limit=50)
        folder.mkdir(parents=True, exist_ok=True)
        written_files.add(folder, names)
        profiler.export_chrome_trace(str(folder / TRACE_NAME))
        with atomic_write(folder / TABLE_NAME) as file:
            file.write(table.encode())

    with profile(
        activities=activities,
        schedule=schedule(wait=0, warmup=WARMUP_STEPS, active=steps, repeat=1),
        on_trace_ready=write,
    ) as profiler:
        yield profiler.step
