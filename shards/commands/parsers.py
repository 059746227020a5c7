"""What the commands share of reading arguments."""

import argparse

Subparsers = argparse._SubParsersAction  # what ArgumentParser.add_subparsers returns


def positive(text: str) -> int:
    """A whole number of at least one."""
    number = int(text)
    if number < 1:
        raise ValueError(f"{number} is less than 1")
    return number
