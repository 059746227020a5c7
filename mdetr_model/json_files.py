"""Writes JSON files atomically."""

import json
from pathlib import Path
from typing import Any

from shards.atomic import atomic_write


def write_json(path: Path, content: Any) -> None:
    """Writes or replaces a file; creates its folder if there is none.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")
