"""``python -m shards COMMAND SHARD_SET``: look into shard sets, and hand them to other tools."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from shards.export.formats import FORMATS


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status is 0 if it did what it was asked."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"shards {arguments.command}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m shards", description="Look into shard sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    stats = commands.add_parser(
        "stats",
        help="what is in a shard set, what was left out, and why",
        description="What is in a shard set, by its manifest and tables: no shard is read.",
    )
    stats.add_argument("shard_set", help="a folder, or a URL")
    how = stats.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="everything, for programs")
    how.add_argument("--compare", metavar="OTHER", help="a shard set to show beside it")
    stats.set_defaults(run=_stats)
    _add_export(commands)
    return parser


def _add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    lines = [f"  {name:12} for {whom}" for name, (_, whom) in FORMATS.items()]
    export = commands.add_parser(
        "export",
        help="write a shard set as other tools read it",
        description="Writes a shard set as other tools read it.\n\n" + "\n".join(lines),
        epilog="See docs/export.md.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("format", choices=FORMATS, metavar="FORMAT", help="one of these")
    export.add_argument("shard_set", help="a folder, or a URL")
    export.add_argument("out", type=Path, help="the folder to write to")
    export.add_argument(
        "--split", action="append", help="only this split; may be given several times"
    )
    export.add_argument(
        "--pictures",
        action="store_true",
        help="unpack the pictures as well, for formats that name files",
    )
    export.add_argument("--no-coco", action="store_true", help="leave out the pictures of COCO")
    export.set_defaults(run=_export)


def _stats(arguments: argparse.Namespace) -> None:
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


def _export(arguments: argparse.Namespace) -> None:
    from shards.export.formats import exporter
    from shards.export.request import Request
    from shards.shard_set import ShardSet

    shards = ShardSet.open(arguments.shard_set)
    splits = arguments.split or list(dict.fromkeys(entry.split for entry in shards.shards))
    for split in splits:
        shards.shards_of(split)  # refuses one that is not there, before anything is written
    request = Request(shards, arguments.out, splits, arguments.pictures, arguments.no_coco)
    for path, captions, boxes in exporter(arguments.format)(request):
        print(f"{path}: {captions:,} captions, {boxes:,} boxes")


if __name__ == "__main__":
    sys.exit(main())
