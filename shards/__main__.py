"""``python -m shards``: what is in a shard set, and its pictures in a browser."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
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
    browse = commands.add_parser(
        "browse",
        help="the pictures and captions of a shard set, in a browser",
        description="Serves a shard set to a browser on this machine, until Ctrl-C.",
    )
    browse.add_argument("shard_set", help="a folder, or a URL")
    browse.add_argument("--port", type=_port, default=8000, help="0: any that is free")
    browse.add_argument("--split", help="to show at first")
    browse.set_defaults(run=_browse)
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


def _browse(arguments: argparse.Namespace) -> None:
    from shards.inspection.browser import Browser
    from shards.shard_set import ShardSet

    shards = ShardSet.open(arguments.shard_set)
    try:
        server = Browser(shards, arguments.port, arguments.split)
    except ValueError as error:  # there is no such split
        raise SystemExit(f"shards browse: {error}") from error
    with server:
        print(f"{server.url} (Ctrl-C ends it)", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
