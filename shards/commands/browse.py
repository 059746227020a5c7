"""``shards browse``: the images and captions of a shard set, in a browser."""

import argparse
import contextlib

from shards.commands.parsers import Subparsers, port


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "browse",
        help="the images and captions of a shard set, in a browser",
        description="Serves a shard set to a browser on this machine, until Ctrl-C.",
    )
    parser.add_argument("shard_set", help="a folder, or a URL")
    parser.add_argument("--port", type=port, default=8000, help="0: any that is free")
    parser.add_argument("--split", help="to show at first")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from shards.inspection.browser import Browser
    from shards.reading.shard_set import ShardSet

    shards = ShardSet.open(arguments.shard_set)
    with Browser(shards, arguments.port, arguments.split) as server:
        print(f"{server.url} (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0
