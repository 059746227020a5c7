"""What builds have made, wherever it lies."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import fsspec

REPOSITORY = Path(__file__).parents[2]


def digests(output: Path) -> dict[str, str]:
    """sha256 of every file of a shard set; nothing else may lie beside them."""
    assert (output / "manifest.json").is_file()
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }


def stored_digests(store: fsspec.AbstractFileSystem) -> dict[str, str]:
    """sha256 of all that is in the bucket ``made``, whose set is in the folder ``shards``."""
    return {
        path.removeprefix("made/shards/"): hashlib.sha256(store.cat_file(path)).hexdigest()
        for path in store.find("made")
    }


def verify(url: str, environment: dict[str, str], home: Path) -> None:
    """Has `python -m shards verify` look at a set in a store; ``home`` gets the cache."""
    done = subprocess.run(
        [sys.executable, "-m", "shards", "verify", url, "--quiet"],
        cwd=REPOSITORY,
        env=os.environ | environment | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
