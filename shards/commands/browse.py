"""``mdetr-shards browse``: shows the images and captions of a shard set in a web browser."""

import argparse

from shards.commands.arguments import SHARD_SET_HELP, Subparsers, port


def add_parser(commands: Subparsers) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "browse",
        help="show images and captions in a web browser",
        description="Serves a shard set to a web browser on this machine, until Ctrl-C.",
    )
    parser.add_argument("shards", metavar="SHARDS", help=SHARD_SET_HELP)
    parser.add_argument("--port", type=port, default=8000, help="0: any free port (default: 8000)")
    parser.add_argument("--split", help="the split to show first (default: the set's first)")
    parser.set_defaults(run=run, failure_status=1)


def run(arguments: argparse.Namespace) -> int:
    """Serves until Ctrl-C; returns the exit status."""
    from shards.inspection.browser.server import BrowserServer
    from shards.reading.shard_set import ShardSet

    shards = ShardSet.open(arguments.shards)
    with BrowserServer(shards, arguments.port, arguments.split) as server:
        server.serve_until_interrupted()
    return 0
