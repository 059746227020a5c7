"""``shards verify``: whether a shard set is whole, as its recipe says, and leaks no image."""

import argparse

from shards.commands.parsers import Subparsers, positive


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "verify",
        help="whether a shard set is whole, as its recipe says, and free of held-out images",
        description="Holds files, tars, images and captions of a shard set against its manifest, "
        "index and recipe. Prints a line for each fault, and what could not be checked; the exit "
        "status is 1 if there is a fault, and 2 if the set or a list cannot be read.",
    )
    parser.add_argument(
        "shard_set", help="a folder, or a URL, whose shards are fetched into the cache"
    )
    parser.add_argument(
        "--sample",
        metavar="N",
        type=positive,
        help="look at N images, spread evenly over the shards, and read no shard as a whole",
    )
    parser.add_argument(
        "--held-out",
        metavar="NAMESPACE=FILE",
        action="append",
        default=[],
        help="ids of images that may not be in train: an id a line, a JSON list of ids or of "
        "objects with an image_id, or JSON in the layout of COCO; NAMESPACE is coco, vg, gqa, "
        "flickr30k or another that keys begin with. An image of Visual Genome that COCO has too "
        "stands under COCO's key, and has to be listed by COCO's id. May be given several times",
    )
    parser.add_argument("--quiet", action="store_true", help="no bar on stderr")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from shards.reading.shard_set import ShardSet
    from shards.verification.held_out import read_held_out
    from shards.verification.report import lines
    from shards.verification.verify import verify

    held_out = [read_held_out(argument) for argument in arguments.held_out]
    shards = ShardSet.open(arguments.shard_set)
    report = verify(shards, sample=arguments.sample, held_out=held_out, quiet=arguments.quiet)
    print("\n".join(lines(report)))
    return 1 if report.faults.counts else 0
