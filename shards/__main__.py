"""``python -m shards COMMAND SHARD_SET``: what is in a shard set, and whether it is whole."""

import argparse
import sys
from collections.abc import Sequence

from shards.inspection.held_out import HeldOutError, read_held_out
from shards.manifest import NotAShardSetError, ShardError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status is 0 if it did what it was asked, and found no fault."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except (NotAShardSetError, ShardError, HeldOutError, OSError) as error:
        print(f"shards {arguments.command}: {error}", file=sys.stderr)
        return 1


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
    _add_verify(commands)
    return parser


def _add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verify = commands.add_parser(
        "verify",
        help="whether a shard set is whole, as its recipe says, and free of held-out pictures",
        description="Holds files, tars, pictures and captions of a shard set against its manifest, "
        "index and recipe. Prints a line for each fault, and what could not be checked; the exit "
        "status is 1 if there is a fault.",
    )
    verify.add_argument(
        "shard_set", help="a folder, or a URL, whose shards are fetched into the cache"
    )
    verify.add_argument(
        "--sample",
        metavar="N",
        type=_positive,
        help="look at N pictures, spread evenly over the shards, and read no shard as a whole",
    )
    verify.add_argument(
        "--held-out",
        metavar="NAMESPACE=FILE",
        action="append",
        default=[],
        help="ids of pictures that may not be in train: an id a line, a JSON list of ids or of "
        "objects with an image_id, or JSON in the layout of COCO; NAMESPACE is coco, vg, gqa, "
        "flickr30k or another that keys begin with. A picture of Visual Genome that COCO has too "
        "stands under COCO's key, and has to be listed by COCO's id. May be given several times",
    )
    verify.add_argument("--quiet", action="store_true", help="no bar on stderr")
    verify.set_defaults(run=_verify)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"{number} is less than 1")
    return number


def _stats(arguments: argparse.Namespace) -> int:
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
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from shards.inspection.verify import verify
    from shards.inspection.verify_text import lines
    from shards.shard_set import ShardSet

    held_out = [read_held_out(argument) for argument in arguments.held_out]
    shards = ShardSet.open(arguments.shard_set)
    report = verify(shards, sample=arguments.sample, held_out=held_out, quiet=arguments.quiet)
    print("\n".join(lines(report)))
    return 1 if report.faults.counts else 0


if __name__ == "__main__":
    sys.exit(main())
