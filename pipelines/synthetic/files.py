"""Large JSON files written piece by piece."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO


class JsonFile:
    """A JSON file of one or more lists (or dicts) whose elements arrive encoded and in order.

    ``frames`` holds the text before each list and after the last. Elements of the first list go
    straight to the file; those of the others wait in temporary files until `close`.
    """

    def __init__(self, path: Path, frames: list[bytes]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.frames = frames
        self.file: IO[bytes] = path.open("wb")
        self.file.write(frames[0])
        self.parts: list[IO[bytes]] = [
            self.file,
            *(TemporaryFile(dir=path.parent) for _ in frames[2:]),  # noqa: SIM115
        ]
        self.empty = [True] * len(self.parts)

    def add(self, elements: Iterable[bytes], part: int = 0) -> None:
        joined = b",\n".join(elements)
        if joined:
            self.parts[part].write(joined if self.empty[part] else b",\n" + joined)
            self.empty[part] = False

    def close(self) -> None:
        for part, frame in zip(self.parts[1:], self.frames[1:-1], strict=True):
            self.file.write(frame)
            part.seek(0)
            shutil.copyfileobj(part, self.file)
            part.close()
        self.file.write(self.frames[-1])
        self.file.close()
