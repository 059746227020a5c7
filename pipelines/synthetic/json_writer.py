"""Writes large JSON files element by element."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO


class JsonWriter:
    """Writes a JSON file of one or more lists (or dicts) from encoded elements.

    ``frames`` are the bytes before each list and after the last. Elements of the first list are
    written immediately; those of the others are buffered in temporary files until `close`.
    """

    def __init__(self, path: Path, frames: list[bytes]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.frames = frames
        self.file: IO[bytes] = path.open("wb")
        self.file.write(frames[0])
        self.lists: list[IO[bytes]] = [
            self.file,
            *(TemporaryFile(dir=path.parent) for _ in frames[2:]),  # noqa: SIM115
        ]
        self.empty = [True] * len(self.lists)

    def add(self, elements: Iterable[bytes], list_index: int = 0) -> None:
        """Appends elements to one of the lists."""
        joined = b",\n".join(elements)
        if joined:
            self.lists[list_index].write(joined if self.empty[list_index] else b",\n" + joined)
            self.empty[list_index] = False

    def close(self) -> None:
        """Completes the file."""
        for waiting, frame in zip(self.lists[1:], self.frames[1:-1], strict=True):
            self.file.write(frame)
            waiting.seek(0)
            shutil.copyfileobj(waiting, self.file)
            waiting.close()
        self.file.write(self.frames[-1])
        self.file.close()
