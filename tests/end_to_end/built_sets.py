"""Compares shard sets that builds wrote to a folder or to a store."""

import hashlib
import sys
from pathlib import Path

import fsspec

from tests.file_digests import file_digests
from tests.processes import run


def set_digests(shard_set: Path) -> dict[str, str]:
    """Returns the sha256 of every file of a shard set, and of all else in its folder."""
    assert (shard_set / "manifest.json").is_file()
    return file_digests(shard_set)


def stored_digests(store: fsspec.AbstractFileSystem, folder: str = "made") -> dict[str, str]:
    """Returns the sha256 of all files in a folder, by default the bucket of ``made/shards/``."""
    return {
        path.removeprefix(f"{folder}/").removeprefix("shards/"): hashlib.sha256(
            store.cat_file(path)
        ).hexdigest()
        for path in store.find(folder)
    }


def verify(url: str, environment: dict[str, str], home: Path) -> None:
    """Verifies a set in a store with the command; ``home`` gets the cache."""
    command = [sys.executable, "-m", "shards", "verify", url, "--quiet"]
    run(command, env=environment | {"HOME": str(home)}, check=True)
