"""``mdetr-shards export``: writes a shard set in the format of another trainer or tool."""

import argparse

from shards.commands.arguments import SHARD_SET_HELP, Subparsers, local_path
from shards.export.formats import FORMATS


def add_parser(commands: Subparsers) -> None:
    """Adds the command's parser."""
    formats = [
        f"  {name:12} for {export_format.readers}" for name, export_format in FORMATS.items()
    ]
    parser = commands.add_parser(
        "export",
        help="write the format of another trainer or tool",
        description="Writes a shard set in one of these formats:\n\n" + "\n".join(formats),
        epilog="docs/export.md describes the formats.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("format", choices=FORMATS, metavar="FORMAT", help="one of the above")
    parser.add_argument("shards", metavar="SHARDS", help=SHARD_SET_HELP)
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        type=local_path,
        required=True,
        help="the folder to write, which must be new or empty",
    )
    parser.add_argument(
        "--split", action="append", help="export only this split; may be given several times"
    )
    parser.add_argument(
        "--with-images",
        action="store_true",
        help="also unpack the images, for formats that refer to files; grit: into tars",
    )
    parser.add_argument(
        "--statements",
        type=local_path,
        metavar="FILE",
        help="croissant: TOML or JSON with what only you can state, such as datePublished and, in "
        "the table rai, dataBiases",
    )
    parser.add_argument("--no-coco", action="store_true", help="leave out the images of COCO")
    parser.set_defaults(run=run, failure_status=1)


def run(arguments: argparse.Namespace) -> int:
    """Writes the export and prints its files; returns the exit status."""
    from shards.atomic_folder import atomic_folder
    from shards.export.formats import load_exporter
    from shards.export.job import ExportJob
    from shards.export.statements import Statements, read_statements
    from shards.reading.shard_set import ShardSet
    from shards.terminal import count_noun

    if arguments.statements and arguments.format != "croissant":
        raise ValueError("--statements is for croissant: no other format has a place for them")
    statements = read_statements(arguments.statements) if arguments.statements else Statements()
    shards = ShardSet.open(arguments.shards)
    splits = list(dict.fromkeys(arguments.split or (entry.split for entry in shards.shards)))
    for split in splits:
        shards.shards_of(split)  # raises for an unknown split, before anything is written
    with atomic_folder(arguments.output) as folder:
        job = ExportJob(
            shards=shards,
            output_folder=folder,
            splits=splits,
            with_images=arguments.with_images,
            no_coco=arguments.no_coco,
            statements=statements,
        )
        files = load_exporter(arguments.format)(job)
        if not files:
            raise ValueError("there is nothing to export")
    for path, captions, boxes, left_out in files:
        written = arguments.output / path.relative_to(folder)
        absent = f"; left out: {count_noun(left_out, 'absent phrase')}" if left_out else ""
        print(f"{written}: {captions:,} captions, {boxes:,} boxes{absent}")
    if arguments.format == "croissant" and (missing := statements.missing()):
        print(f"not stated: {', '.join(missing)}; --statements FILE adds them")
    return 0
