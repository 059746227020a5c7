"""``python -m shards stats SHARD_SET``: what is in a shard set."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from shards.manifest import NotAShardSetError, ShardError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status is 0 if it did what it was asked."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (NotAShardSetError, ShardError, OSError) as error:
        print(f"shards {arguments.command}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m shards", description="Look into shard sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    stats = commands.add_parser(
        "stats",
        help="what is in a shard set, what was left out, and why",
        description=(
            "What is in a shard set, by its manifest and tables. No shard is read, but for the "
            "pictures that --html shows."
        ),
    )
    stats.add_argument("shard_set", help="a folder, or a URL")
    how = stats.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="everything, for programs")
    how.add_argument("--compare", metavar="OTHER", help="a shard set to show beside it")
    how.add_argument("--html", metavar="FILE", help="a page to write, to look at in a browser")
    stats.set_defaults(run=_stats)
    return parser


def _stats(arguments: argparse.Namespace) -> None:
    import msgspec

    from shards.inspection.contents import contents
    from shards.inspection.contents_table import comparison, table
    from shards.shard_set import ShardSet

    shards = ShardSet.open(arguments.shard_set)
    if arguments.html is not None:
        from shards.inspection.report import write_report

        write_report(shards, Path(arguments.html))
        return
    found = contents(shards)
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
    elif arguments.compare is not None:
        print(comparison(found, contents(ShardSet.open(arguments.compare))))
    else:
        print(table(found))


if __name__ == "__main__":
    sys.exit(main())
