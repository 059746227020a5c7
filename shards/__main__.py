"""``mdetr-shards COMMAND``: inspects, verifies and exports shard sets, and audits annotations."""

import argparse
import os
import sys
from collections.abc import Sequence

from schemas.package_version import package_version
from shards.commands import audit, browse, export, identities, stats, verify
from shards.terminal import error_text, printable

PROGRAM = "mdetr-shards"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status.

    0: success. 1: failure; for ``verify``: errors were found, for ``audit``: leaks. 2: wrong usage;
    for ``verify`` and ``audit`` also: a set, file or list could not be read.
    130: interrupted. 141: stdout was closed, as in ``mdetr-shards stats SHARDS | head``.
    """
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Inspects, verifies and exports shard sets."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {package_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (stats, verify, browse, export, audit, identities):
        command.add_parser(commands)
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        print(end="", flush=True)  # raises BrokenPipeError here, not at exit
        return status
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError) as error:
        print(f"{PROGRAM}: error: {printable(error_text(error))}", file=sys.stderr)
        failure: int = arguments.failure_status
        return failure
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
