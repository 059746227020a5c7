"""``shards export``: a shard set as other tools read it."""

import argparse
from pathlib import Path

from shards.commands.parsers import Subparsers
from shards.export.formats import FORMATS


def add_to(commands: Subparsers) -> None:
    lines = [f"  {name:12} for {whom}" for name, (_, whom) in FORMATS.items()]
    parser = commands.add_parser(
        "export",
        help="write a shard set as other tools read it",
        description="Writes a shard set as other tools read it.\n\n" + "\n".join(lines),
        epilog="See docs/export.md.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("format", choices=FORMATS, metavar="FORMAT", help="one of these")
    parser.add_argument("shard_set", help="a folder, or a URL")
    parser.add_argument("out", type=local_path, help="the folder to write, which must be new")
    parser.add_argument(
        "--split", action="append", help="only this split; may be given several times"
    )
    parser.add_argument(
        "--images",
        action="store_true",
        help="unpack the images as well, for formats that name files; for grit, into tars",
    )
    parser.add_argument("--no-coco", action="store_true", help="leave out the images of COCO")
    parser.set_defaults(run=run)


def local_path(text: str) -> Path:
    """A path on this machine."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is a URL; exports are written to this machine")
    return Path(text)


def run(arguments: argparse.Namespace) -> int:
    from shards.atomic import atomic_folder
    from shards.export.formats import exporter
    from shards.export.request import Request
    from shards.reading.shard_set import ShardSet

    shards = ShardSet.open(arguments.shard_set)
    splits = list(dict.fromkeys(arguments.split or (entry.split for entry in shards.shards)))
    for split in splits:
        shards.shards_of(split)  # refuses one that is not there, before anything is written
    with atomic_folder(arguments.out) as folder:
        request = Request(shards, folder, splits, arguments.images, arguments.no_coco)
        files = exporter(arguments.format)(request)
        if not files:
            raise ValueError("there is nothing to export")
    for path, captions, boxes in files:
        path = arguments.out / path.relative_to(folder)
        print(f"{path}: {captions:,} captions, {boxes:,} boxes")
    return 0
