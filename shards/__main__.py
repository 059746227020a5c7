"""``python -m shards COMMAND SHARD_SET``: look into shard sets, and hand them to other tools."""

import argparse
import os
import sys
from collections.abc import Sequence

from shards.commands import browse, export, stats, verify
from shards.console.printable import printable


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status is 0 if it did what it was asked, and found no fault.

    It is 1 if a fault was found, 2 if the command could not do what it was asked, as with wrong
    arguments, 130 if it was stopped, and 141, as shells have it, if nobody reads what it prints.
    """
    parser = argparse.ArgumentParser(
        prog="python -m shards", description="Look into shard sets, and hand them to other tools."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (stats, verify, browse, export):
        command.add_to(commands)
    arguments = parser.parse_args(argv)
    try:
        status = arguments.run(arguments)
        print(end="", flush=True)  # a pipe that is closed is told here, and not at exit
        return status
    except BrokenPipeError:
        # What is left is flushed once more at exit, and must not fail there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError) as error:
        print(f"shards {arguments.command}: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"shards {arguments.command}: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
