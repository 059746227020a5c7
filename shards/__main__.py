"""``python -m shards COMMAND SHARD_SET``: look into shard sets, and hand them to other tools."""

import argparse
import sys
from collections.abc import Sequence

from shards.commands import browse, export, stats, verify


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status is 0 if it did what it was asked, and found no fault."""
    parser = argparse.ArgumentParser(prog="python -m shards", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (stats, verify, browse, export):
        command.add_to(commands)
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"shards {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"shards {arguments.command}: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
