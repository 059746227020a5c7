"""``mdetr-shards stats``: shows what a shard set contains, what was left out, and why."""

import argparse

from shards.commands.arguments import SHARD_SET_HELP, Subparsers, local_path


def add_parser(commands: Subparsers) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "stats",
        help="show counts, exclusions and rejections",
        description="Shows what a shard set contains, what was left out, and why. Reads its "
        "manifest and tables; --html also reads the shards of the images that it shows.",
    )
    parser.add_argument("shards", metavar="SHARDS", help=SHARD_SET_HELP)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print all numbers as JSON")
    form.add_argument("--compare", metavar="SHARDS", help="another shard set to show side by side")
    form.add_argument(
        "--html", metavar="FILE", type=local_path, help="write a report with charts and images"
    )
    parser.set_defaults(run=run, failure_status=1)


def run(arguments: argparse.Namespace) -> int:
    """Prints the summary or writes the report; returns the exit status."""
    import json

    import msgspec

    from shards.inspection.summary import comparison_table, summarize, summary_table
    from shards.reading.shard_set import ShardSet
    from shards.reading.tables import read_tables

    shards = ShardSet.open(arguments.shards)
    if arguments.html is not None:
        from shards.inspection.report.page import write_report

        write_report(shards, arguments.html)
        return 0
    summary = summarize(shards.manifest, read_tables(shards))
    if arguments.json:
        # json writes ASCII, so that names with control characters cannot reach a terminal.
        print(json.dumps(msgspec.to_builtins(summary), indent=1))
    elif arguments.compare is not None:
        other = ShardSet.open(arguments.compare)
        print(comparison_table(summary, summarize(other.manifest, read_tables(other))))
    else:
        print(summary_table(summary))
    return 0
