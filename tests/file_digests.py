"""Compares folders by what their files hold."""

import hashlib
from pathlib import Path


def file_digests(folder: Path) -> dict[str, str]:
    """Returns the sha256 of every file below a folder, by its relative path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
