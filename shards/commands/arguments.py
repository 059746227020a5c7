"""Argument types that the commands share."""

import argparse
import math
from pathlib import Path
from typing import TypeAlias

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

SHARD_SET_HELP = "a shard set: a folder, or a URL (gs://, s3://, hf://, https://)"


def positive_int(text: str) -> int:
    """Parses a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def natural_number(text: str) -> int:
    """Parses a whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def positive_float(text: str) -> float:
    """Parses a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def port(text: str) -> int:
    """Parses a port number; 0 stands for any free port."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def score(text: str) -> float:
    """Parses a score from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def local_path(text: str) -> Path:
    """Parses a path on this machine."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is a URL; expected a local path")
    return Path(text)


def check_new(output: Path) -> None:
    """Checks that a command overwrites nothing.

    Raises:
        FileExistsError: The file or folder exists.
    """
    if output.exists() or output.is_symlink():
        raise FileExistsError(f"{output} exists already, and is not overwritten")
