"""What the commands share of reading arguments."""

import argparse

Subparsers = argparse._SubParsersAction  # what ArgumentParser.add_subparsers returns


def positive(text: str) -> int:
    """A whole number of at least one."""
    number = int(text)
    if number < 1:
        raise ValueError(f"{number} is less than 1")
    return number


def port(text: str) -> int:
    """The number of a port, or 0."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError(f"{number} is not from 0 to 65535")
    return number
