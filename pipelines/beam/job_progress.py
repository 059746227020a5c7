"""Progress of a job on a job server: a line that is replaced on a terminal, one a minute in a log.

Prism reports counters while a job runs; the job servers of Flink and Spark report them at its end.
Then the shards in the output are counted, and nothing else is claimed.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from pipelines.beam.progress import Stage
from pipelines.io.folders import list_names
from pipelines.io.raw_files import StoreError

_TERMINAL_SECONDS = 2
_LOG_SECONDS = 60
_LISTING_SECONDS = 15
WRITE_SHARDS = "write shards"


class JobProgress:
    """Shows the state of a job, and how far it is.

    Args:
        screen: the terminal or log.
        shards: the names of all shards.
        output: the folder in which they appear.
        stages: returns the stages so far; none if nothing is known of them.
    """

    def __init__(
        self,
        screen: TextIO,
        shards: set[str],
        output: str,
        stages: Callable[[], Mapping[str, Stage]],
    ) -> None:
        self._screen = screen
        self._shards = shards
        self._output = output
        self._stages = stages
        self._seconds = _TERMINAL_SECONDS if screen.isatty() else _LOG_SECONDS
        self._started = self._shown = time.monotonic()
        self._listed = float("-inf")
        self._written = 0

    def show(self, state: str) -> None:
        """Shows the state of the job, unless it is too early for the next line."""
        now = time.monotonic()
        if now - self._shown < self._seconds:
            return
        self._shown = now
        text = f"{state} {_clock(now - self._started)}  {self._text(now)}"
        line = f"\r{text}\x1b[K" if self._screen.isatty() else f"{text}\n"
        print(line, end="", file=self._screen, flush=True)

    def print(self, text: str) -> None:
        """Prints a line that stays."""
        self.close()
        print(text, file=self._screen, flush=True)

    def close(self) -> None:
        """Removes the line from a terminal."""
        if self._screen.isatty():
            print("\r\x1b[K", end="", file=self._screen, flush=True)

    def _text(self, now: float) -> str:
        stages = self._stages()
        parts = []
        reading = [stage for name, stage in stages.items() if name.startswith("read ")]
        if reading:
            done, total = sum(s.done for s in reading), sum(s.total for s in reading)
            parts.append(f"slices read: {done:,} of {total:,}")
        written = stages[WRITE_SHARDS].done if WRITE_SHARDS in stages else self._list(now)
        parts.append(f"shards written: {written:,} of {len(self._shards):,}")
        return ", ".join(parts)

    def _list(self, now: float) -> int:
        """Returns the number of shards in the output, which is not listed every time."""
        if now - self._listed >= _LISTING_SECONDS:
            self._listed = now
            with contextlib.suppress(OSError, StoreError):  # the build itself reports them
                self._written = len(list_names(self._output) & self._shards)
        return self._written


def _clock(seconds: float) -> str:
    """Returns hours, minutes and seconds.

    >>> _clock(3725)
    '1:02:05'
    """
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
