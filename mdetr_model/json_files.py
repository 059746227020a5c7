"""Writes JSON files, complete or not at all."""

import json
from pathlib import Path
from typing import Any

from shards.atomic import atomic_write


def write_json(path: Path, content: Any) -> None:
    """Writes a file in place of what there may be, and its folder where there is none.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")
