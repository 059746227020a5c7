"""``shards stats``: what is in a shard set, what was left out, and why."""

import argparse

from shards.commands.parsers import Subparsers


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "stats",
        help="what is in a shard set, what was left out, and why",
        description="What is in a shard set, by its manifest and tables: no shard is read.",
    )
    parser.add_argument("shard_set", help="a folder, or a URL")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="everything, for programs")
    how.add_argument("--compare", metavar="OTHER", help="a shard set to show beside it")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import msgspec

    from shards.inspection.contents import contents
    from shards.inspection.contents_table import comparison, table
    from shards.shard_set import ShardSet

    found = contents(ShardSet.open(arguments.shard_set))
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
    elif arguments.compare is not None:
        print(comparison(found, contents(ShardSet.open(arguments.compare))))
    else:
        print(table(found))
    return 0
