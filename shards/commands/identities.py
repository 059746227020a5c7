"""``mdetr-shards identities``: writes which images of the datasets are one photo, for audits."""

import argparse

from shards.commands.arguments import Subparsers, check_new, local_path


def add_parser(commands: Subparsers) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "identities",
        help="write which images of COCO, Visual Genome and Flickr30k are one photo",
        description="Reads the image tables of COCO (instances_train2014.json, "
        "instances_val2014.json) and Visual Genome (image_data.json), and writes what they state "
        "about images of each other, and of Flickr30k, as a small Parquet file for `audit`.",
    )
    parser.add_argument("tables", metavar="TABLE", nargs="+", type=local_path)
    parser.add_argument("--output", metavar="FILE", type=local_path, required=True)
    parser.set_defaults(run=run, failure_status=2)


def run(arguments: argparse.Namespace) -> int:
    """Writes the file and prints its numbers of images; returns the exit status."""
    from shards.audit.identities import build_identities
    from shards.terminal import count_noun

    check_new(arguments.output)
    counts = build_identities(arguments.tables, arguments.output)
    for namespace, count in sorted(counts.items()):
        print(f"{arguments.output}: {count_noun(count, 'image')} of {namespace}")
    return 0
