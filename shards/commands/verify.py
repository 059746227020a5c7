"""``mdetr-shards verify``: checks that a shard set is intact, and audits it for leakage."""

import argparse
from collections import Counter

from shards.commands.arguments import SHARD_SET_HELP, Subparsers, positive_int


def add_parser(commands: Subparsers) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "verify",
        help="check that a set is intact and has no held-out images",
        description="Checks files, tars, images and captions of a shard set against its manifest, "
        "index and recipe, and that no held-out image is in train. Prints a line for each error, "
        "and what could not be checked.",
        epilog="Exit status: 0 no errors, 1 errors, 2 the set or a list cannot be read. The shards "
        "of a remote set are downloaded into the cache.",
    )
    parser.add_argument("shards", metavar="SHARDS", help=SHARD_SET_HELP)
    parser.add_argument(
        "--num-images",
        metavar="N",
        type=positive_int,
        help="check only N images, evenly spaced over the shards, and no whole tars",
    )
    parser.add_argument(
        "--held-out",
        metavar="NAMESPACE=FILE",
        action="append",
        default=[],
        help="ids of images that must not be in train: one per line, a JSON list of ids or of "
        "objects with an image_id, or JSON in COCO's layout; NAMESPACE is coco, vg, gqa, "
        "flickr30k or another that image keys begin with. An image of Visual Genome that is also "
        "in COCO has COCO's key: list it by COCO's id. May be given several times",
    )
    parser.add_argument(
        "--raw",
        metavar="ROOT",
        help="compare 1,000 images, or N, with the raw files of which the set was built, by "
        "separate readers; ROOT is that of mdetr-build, a local folder",
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")
    parser.set_defaults(run=run, failure_status=2)


def run(arguments: argparse.Namespace) -> int:
    """Prints the report; returns the exit status."""
    from shards.format import manifest
    from shards.format.manifest import DamagedManifestError
    from shards.reading.shard_set import ShardSet
    from shards.verification.errors import ErrorKind, ErrorLog, VerificationError
    from shards.verification.held_out import namespaces_of_keys, read_held_out
    from shards.verification.result import VerificationResult
    from shards.verification.verify import verify

    try:
        shards = ShardSet.open(arguments.shards)
    except DamagedManifestError as error:
        errors = ErrorLog([VerificationError(ErrorKind.FILE, str(error), manifest.NAME)])
        print("\n".join(VerificationResult(errors, Counter(), []).lines()))
        return 1
    others = namespaces_of_keys(shards) if arguments.held_out else frozenset()
    held_out = [read_held_out(argument, others) for argument in arguments.held_out]
    report = verify(
        shards,
        num_images=arguments.num_images,
        held_out=held_out,
        raw=arguments.raw,
        quiet=arguments.quiet,
    )
    print("\n".join(report.lines()))
    return 1 if report.errors.counts else 0
