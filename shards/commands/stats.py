"""``shards stats``: what is in a shard set, what was left out, and why."""

import argparse
from pathlib import Path

from shards.commands.parsers import Subparsers


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "stats",
        help="what is in a shard set, what was left out, and why",
        description="What is in a shard set, by its manifest and tables. No shard is read, but "
        "for the images that --html shows.",
    )
    parser.add_argument("shard_set", help="a folder, or a URL")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="everything, for programs")
    how.add_argument("--compare", metavar="OTHER", help="a shard set to show beside it")
    how.add_argument(
        "--html", metavar="FILE", type=Path, help="a page to write, to look at in a browser"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import json

    import msgspec

    from shards.inspection.contents import contents
    from shards.inspection.contents_table import comparison, table
    from shards.reading.shard_set import ShardSet

    shards = ShardSet.open(arguments.shard_set)
    if arguments.html is not None:
        from shards.inspection.report import write_report

        write_report(shards, arguments.html)
        return 0
    found = contents(shards)
    if arguments.json:
        print(json.dumps(msgspec.to_builtins(found), indent=1))  # in ASCII, whatever names hold
    elif arguments.compare is not None:
        print(comparison(found, contents(ShardSet.open(arguments.compare))))
    else:
        print(table(found))
    return 0
